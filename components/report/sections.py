"""Sections of the page: table rows and charts made from the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from common.config.learners import find_learner, learners_in_order
from common.config.methods import BASELINE, BEST_CLASSIC, COMBINED, METHODS, SUBJECT, Method, in_order
from common.pages import charts
from common.pages.numbers import decimals
from common.study.comparisons import reliable
from common.study.paper import published
from components.report.acoustics import FEW, REFERENCE, STATISTICS
from components.report.wording import figure_of, title

MAX_NUMBERED_CLASSES = 14
"""Largest number of classes for numbers in a confusion matrix; larger ones show shades only."""

DISTANCES = {
    "spectrum_db": "mean spectrum, dB",
    "latent_frechet": "latent frames, Fréchet",
    "held_out_error": "error on validation clips",
    "learner_loss": "loss of a learner that gets the clips",
}
KEPT_BY = {
    "spectrum_db": "distance in mean spectrum",
    "latent_frechet": "distance of latent frames",
    "held_out_error": "error on validation clips",
    "learner_loss": "loss of a learner that gets its clips, on validation clips",
}
"""Names of an alignment's figures: `DISTANCES` as titles, `KEPT_BY` within a sentence."""

TILES = (BASELINE, BEST_CLASSIC, SUBJECT, COMBINED)


def method_rows(results: Mapping[str, Any], n: int | None = None) -> dict[str, Any]:
    """Rows of the table of methods, ceilings last, with bars on one axis, and the tiles below the verdict.

    Args:
        results: content of report.json.
        n: requested number of training clips, which selects the paper's figures; None = show none.
    """
    figure = figure_of(results)
    methods = {name: results["methods"][name] for name in in_order(results["methods"])}
    ceilings = {name: row for name, row in methods.items() if name in METHODS and METHODS[name].ceiling}
    methods = {name: row for name, row in methods.items() if name not in ceilings}
    top = max((row[figure]["mean"] for row in methods.values()), default=1.0)
    if results["best_classic"]:
        methods |= {BEST_CLASSIC: results["best_classic"]}
    methods |= ceilings
    domain = charts.span([row[figure][key] for row in methods.values() for key in ("low", "high")])
    baseline = methods[BASELINE][figure]["mean"] if BASELINE in methods else None
    against = {row["method"]: row for row in results["differences"] if row["versus"] == BASELINE}
    rows = {
        name: {
            "name": name,
            "title": title(name, results),
            **row,
            "score": row[figure],
            "versus": against.get(name),
            "bar": charts.interval_bar(row[figure], domain, baseline),
            "best": row[figure]["mean"] == top and name not in ceilings,
            "ceiling": name in ceilings,
            "paper": published(str(results["dataset"].get("name", "")), n, name) if n else None,
        }
        for name, row in methods.items()
    }
    return {"rows": list(rows.values()), "domain": domain, "tiles": [rows[name] for name in TILES if name in rows]}


def learner_rows(results: Mapping[str, Any], seconds: Mapping[str, Mapping[str, float]]) -> dict[str, Any] | None:
    """Table of learners (columns) by methods (rows), with the mean seconds of each; None with AST alone."""
    # JSON sorts names; the catalogue's order is the page's.
    figure, learners = figure_of(results), {x: results["learners"][x] for x in learners_in_order(results["learners"])}
    if len(learners) < 2:
        return None
    names = in_order({method for cells in learners.values() for method in cells})
    chosen = {
        (side["learner"], side["method"]) for side in (results["best"]["without"], results["best"]["with"]) if side
    }
    return {
        "titles": [find_learner(learner).title for learner in learners],
        "seconds": [_mean(list(seconds[learner].values())) if seconds.get(learner) else None for learner in learners],
        "rows": [
            {
                "title": title(method, results),
                "cells": [
                    {"score": cells[method][figure], "chosen": (learner, method) in chosen} if method in cells else None
                    for learner, cells in learners.items()
                ],
            }
            for method in names
        ],
    }


def best_tiles(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What validation chose without and with synthetic audio, where another learner than AST could be chosen."""
    if len(results["learners"]) < 2:
        return []
    sides = {"without": "Best without synthetic audio", "with": "Best with synthetic audio"}
    return [
        {
            "title": words,
            "score": side[figure_of(results)],
            "what": f"{find_learner(side['learner']).title}; {title(side['method'], results)}",
        }
        for name, words in sides.items()
        if (side := results["best"][name])
    ]


def delivered(results: Mapping[str, Any]) -> dict[str, Any]:
    """The delivered classifier in words: what it is, its clips, its figure on the test clips."""
    told = results["delivered"]
    members = ", ".join(find_learner(name).title for name in told["members"])
    named = find_learner(told["learner"]).title + (f" ({members})" if told["members"] != [told["learner"]] else "")
    return {**told, "what": f"{named}; {title(told['method'], results)}"}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def difference_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of all paired differences, with bars on one axis."""
    rows = results["differences"]
    domain = charts.gain_domain(rows)
    return [
        {
            **row,
            "title": title(row["method"], results),
            "versus_title": title(row["versus"], results),
            "bar": charts.gain_bar(row, domain),
            "reliable": reliable(row) != 0,
        }
        for row in rows
    ]


def class_gains(evaluation: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gain of each class, largest first: in recall, or in average precision where clips have several labels."""
    found = evaluation["per_class"]
    if found is None:
        return None
    rows = sorted(found["classes"], key=lambda row: (-row["mean"], row["label"]))
    domain = charts.gain_domain(rows)
    return {
        "title": title(found["method"], results),
        "versus": title(found["versus"], results),
        "rows": [{**row, "bar": charts.gain_bar(row, domain)} for row in rows],
    }


def confusions(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Confusion matrices of the baseline and the subject (or the selected method), in shares of each true class.

    Empty where clips have several labels.
    """
    if figure_of(evaluation) == "map":
        return []
    names = [name for name in (BASELINE, SUBJECT) if name in evaluation["methods"]]
    chosen = evaluation["selected"]["method"]
    names += [chosen] if SUBJECT not in names and chosen not in names else []
    labels = evaluation["labels"]
    tables = []
    for name in names:
        matrix = evaluation["methods"][name]["confusion"]
        rows = []
        pairs = []
        for i, row in enumerate(matrix):
            total = sum(row)
            rows.append([{"count": count, "share": count / total if total else 0.0} for count in row])
            pairs += [(count / total, labels[i], labels[j]) for j, count in enumerate(row) if i != j and count]
        worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:3]
        tables.append(
            {
                "name": name,
                "title": evaluation["methods"][name]["title"],
                "rows": rows,
                "worst": [{"share": share, "true": true, "heard": heard} for share, true, heard in worst],
                "numbered": len(labels) <= MAX_NUMBERED_CLASSES,
            }
        )
    return tables


def filter_charts(filtered: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """Histograms of CLAP score and margin with thresholds, overall, and by class for the thresholded figure.

    `second` tells of the second judge: clips that both judges heard, those that one or both rejected, and its trial;
    None where there was none.
    """
    candidates = [c for c in filtered["candidates"] if c["recipe"] == recipe and c["score"] is not None]
    limits = [entry["threshold"] for _, entry in sorted(filtered["thresholds"].items())]
    bounds = {
        "score": [limit["min_score"] for limit in limits if limit.get("min_score") is not None],
        "margin": [limit["min_margin"] for limit in limits if limit.get("min_margin") is not None],
    }
    if not candidates:
        return {"overall": [], "classes": [], "bounds": bounds, "planted": None, "second": None}
    deciding = "margin" if bounds["margin"] else "score"
    names = {"score": "CLAP score (cosine with the label)", "margin": "CLAP margin (over the best other label)"}
    domains = {key: charts.span([c[key] for c in candidates] + bounds[key], 0.05, 0.1) for key in names}

    def chart(rows: Sequence[Mapping[str, Any]], key: str, label: str, bins: int) -> Markup:
        good = [c[key] for c in rows if c["reason"] is None]
        bad = [c[key] for c in rows if c["reason"] is not None]
        return charts.histogram(good, bad, bounds[key], domains[key], names[key], label, bins)

    labels = sorted({c["label"] for c in candidates})

    def planted(kind: str) -> dict[str, float] | None:
        trials = [entry[kind] for entry in filtered["thresholds"].values() if entry.get(kind)]
        return {key: sum(trial[key] for trial in trials) / len(trials) for key in trials[0]} if trials else None

    judged = [row["judged"] for row in filtered["rounds"] if "judged" in row]
    second = {key: sum(row[key] for row in judged) for key in judged[0]} if judged else None
    return {
        "overall": [{"title": names[key], "chart": chart(candidates, key, "All classes", 28)} for key in names],
        "classes": [
            {"title": label, "chart": chart([c for c in candidates if c["label"] == label], deciding, label, 18)}
            for label in labels
        ],
        "bounds": bounds,
        "planted": planted("planted"),
        "second": second and {**second, "planted": planted("second_planted")},
    }


def round_rows(filtered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with accepted and rejected clips of each round of self-reflection."""
    return [
        {
            **row,
            "total": row["accepted"] + row["rejected"],
            "bar": charts.share_bar(
                [("gain", row["accepted"]), ("loss", row["rejected"])],
                f"{row['accepted']} accepted, {row['rejected']} rejected",
            ),
        }
        for row in filtered["rounds"]
    ]


def alignment(align: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Curves, spectra, distances before and after, and the kept step of each replicate, for each kind of alignment."""
    accounts = {name: account for name, account in align.items() if "/" in name}
    kinds = sorted({name.split("/")[1] for name in accounts})
    parts = []
    for kind in kinds:
        own = sorted(
            ((int(name.split("/")[0]), account) for name, account in accounts.items() if name.split("/")[1] == kind),
            key=lambda entry: entry[0],
        )
        drawn = [
            {"title": what, "chart": chart}
            for key, what in (
                ("loss", "Loss"),
                ("winner_error", "Winner error"),
                ("d_winner", "Winner error against the start"),
                ("implicit_accuracy", "Implicit accuracy"),
            )
            if (chart := _curve(own, key, what)) is not None
        ] + [
            {"title": what, "chart": chart}
            for key, what in (
                ("held_out_error", "Error on validation clips"),
                ("spectrum_db", "Distance to gold, dB"),
                ("learner_loss", "Loss of a learner that gets the clips"),
            )
            if (chart := _curve(own, key, what, "during")) is not None
        ]
        parts.append(
            {
                "kind": kind,
                "charts": drawn,
                "spectra": _spectra(own),
                "distances": _distances(own),
                "keys": [{"seed": seed, "line": charts.line_key(index)} for index, (seed, _) in enumerate(own)],
                "loss": own[0][1].get("loss", kind),
                "beta": own[0][1].get("beta"),
                "adapter": own[0][1].get("adapter", ""),
                "kept": [
                    {"seed": seed, "step": account["best_step"], "stopped_by": KEPT_BY.get(account["stopped_by"], "")}
                    for seed, account in own
                    if "best_step" in account
                ],
                "by_learner": own[0][1].get("keep_best_by") == "learner_loss",
                "kept_by": KEPT_BY.get(own[0][1].get("keep_best_by", ""), "none"),
            }
        )
    return parts


def _curve(own: Sequence[tuple[int, Mapping[str, Any]]], key: str, what: str, where: str = "curve") -> Markup | None:
    series = [
        (f"replicate {seed}", [row["step"] for row in rows], [row[key] for row in rows])
        for seed, account in own
        if (rows := [row for row in account.get(where, []) if key in row])
    ]
    return charts.curves(series, what) if series else None


def _spectra(own: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any] | None:
    found = [account["spectra_db"] for _, account in own if account.get("spectra_db")]
    if not found:
        return None
    names = {"gold": "real clips", "before": "before alignment", "after": "after alignment"}
    series = []
    for key, name in names.items():
        means = [sum(values) / len(found) for values in zip(*(entry[key] for entry in found), strict=True)]
        series.append((name, [float(band) for band in range(len(means))], means))
    keys = [{"name": name, "line": charts.line_key(index)} for index, name in enumerate(names.values())]
    return {"chart": charts.curves(series, "Mean spectrum in dB", "mel band"), "keys": keys}


def _distances(own: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    keys = sorted(set.intersection(*(set(account.get("before", {})) for _, account in own)))
    return [
        {
            "what": DISTANCES.get(key, key.replace("_", " ")),
            **{when: sum(account[when][key] for _, account in own) / len(own) for when in ("before", "after")},
        }
        for key in keys
    ]


def set_rows(evaluation: Mapping[str, Any], methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Rows of the synthetic sets: the oracle's label accuracy and the distances to real clips, where known."""
    heard = (evaluation["oracle"] or {"sets": {}})["sets"]
    far = evaluation["distances"]["sets"]
    rows = []
    for name in sorted({*heard, *far}, key=lambda name: (name != "vanilla", name)):
        accuracy = heard.get(name, {}).get("accuracy")
        parts = [("gain", accuracy), ("rest", 1 - accuracy)] if accuracy is not None else []
        rows.append(
            {
                "title": set_title(name, methods),
                "clips": heard.get(name, {}).get("clips"),
                "accuracy": accuracy,
                "distance": far.get(name),
                "bar": charts.share_bar(parts, f"{accuracy:.0%} heard as asked for") if parts else "",
            }
        )
    return rows


def set_title(name: str, methods: Mapping[str, Method]) -> str:
    """Display name of a set: `dpo-mixcap-filtered, accepted` → `Synthio, accepted`."""
    recipe, comma, rest = name.partition(",")
    users = [methods[m] for m in in_order(methods) if (made := methods[m].recipe) and made.name == recipe]
    own = [user.title for user in users if user.classic == "none"] or [user.title for user in users]
    return (own[0] if own else recipe.capitalize()) + comma + rest


def class_balance(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows with the number of clips of each class by split."""
    return [{"label": label, **counts} for label, counts in results["data"]["classes"].items()]


def reasons_of(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, int]]:
    """Reason codes with their counts, most frequent first."""
    counts = Counter(row["reason"] for row in rows)
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def impossible(results: Mapping[str, Any], methods: Mapping[str, Method]) -> list[tuple[str, str]]:
    """Titles of requested methods that were not trained for want of clips, and the reason."""
    tried = {*results["methods"], *(row["method"] for row in results["failures"])}
    return [
        (each.title, each.without_clips) for name, each in methods.items() if each.without_clips and name not in tried
    ]


def acoustic_rows(results: Mapping[str, Any], methods: Mapping[str, Method]) -> dict[str, Any] | None:
    """Add titles and distance bars to `acoustics`; None where nothing was generated."""
    found = results["acoustics"]
    if not found["sets"]:
        return None
    sets = [
        {
            **row,
            "title": "Other real clips" if name == REFERENCE else set_title(name, methods),
            "bar": charts.share_bar(
                [("loss", row["ks"]), ("rest", 1 - row["ks"])], f"mean KS {decimals(row['ks'], 2)}"
            ),
        }
        for name, row in found["sets"].items()
    ]
    few = min(found["real_clips"], *(row["clips"] for row in found["sets"].values())) < FEW
    return {"real_clips": found["real_clips"], "sets": sets, "few": few, "statistics": STATISTICS}
