"""Rows of the page's tables and lines of its charts, from report.json (`report`) and page.json (`shown`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from common.config.learners import find_learner, learners_in_order
from common.config.methods import ABLATIONS, BASELINE, BEST_CLASSIC, COMBINED, METHODS, SUBJECT, Method, in_order
from common.contracts.generation import Alignment, Spectra
from common.pages import charts
from common.pages.charts import Line
from common.study.comparisons import reliable
from common.study.paper import published
from components.report.acoustics import FEW, REFERENCE, STATISTICS
from components.report.shown import Candidate, Shown
from components.report.wording import figure_of, title

MAX_NUMBERED_CLASSES = 14
"""Largest number of classes for numbers in a confusion matrix; larger ones show shades only."""
TRAINED_CODEC = "AutoencoderOobleck"

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
_TRAINED = {
    "loss": "Loss",
    "winner_error": "Winner error",
    "d_winner": "Winner error against the start",
    "implicit_accuracy": "Implicit accuracy",
}
_WATCHED = {
    "held_out_error": "Error on validation clips",
    "spectrum_db": "Distance to gold, dB",
    "learner_loss": "Loss of a learner that gets the clips",
}
_SPECTRA = {"gold": "real clips", "before": "before alignment", "after": "after alignment"}

TILES = (BASELINE, BEST_CLASSIC, SUBJECT, COMBINED)

Row = dict[str, Any]


def method_rows(report: Mapping[str, Any], n: int | None = None) -> Row:
    """Rows of the table of methods, ceilings last, the axis of their bars, and the tiles below the verdict.

    Args:
        n: requested number of training clips, which selects the paper's figures; None = show none.
    """
    figure = figure_of(report)
    methods = {name: report["methods"][name] for name in in_order(report["methods"])}
    ceilings = {name: row for name, row in methods.items() if name in METHODS and METHODS[name].ceiling}
    methods = {name: row for name, row in methods.items() if name not in ceilings}
    top = max((row[figure]["mean"] for row in methods.values()), default=1.0)
    if report["best_classic"]:
        methods |= {BEST_CLASSIC: report["best_classic"]}
    methods |= ceilings
    against = {row["method"]: row for row in report["differences"] if row["versus"] == BASELINE}
    rows = {
        name: {
            "name": name,
            "title": title(name, report),
            **row,
            "score": row[figure],
            "versus": against.get(name),
            "best": row[figure]["mean"] == top and name not in ceilings,
            "ceiling": name in ceilings,
            "paper": published(str(report["dataset"].get("name", "")), n, name) if n else None,
        }
        for name, row in methods.items()
    }
    return {
        "rows": list(rows.values()),
        "domain": charts.span([row[figure][key] for row in methods.values() for key in ("low", "high")]),
        "baseline": methods[BASELINE][figure]["mean"] if BASELINE in methods else None,
        "tiles": [rows[name] for name in TILES if name in rows],
    }


def learner_rows(report: Mapping[str, Any], seconds: Mapping[str, Mapping[str, float]]) -> Row | None:
    """Table of learners (columns) by methods (rows), with the mean seconds of each; None with AST alone."""
    # JSON sorts names; the catalogue's order is the page's.
    figure, learners = figure_of(report), {x: report["learners"][x] for x in learners_in_order(report["learners"])}
    if len(learners) < 2:
        return None
    chosen = {(side["learner"], side["method"]) for side in (report["best"]["without"], report["best"]["with"]) if side}
    return {
        "titles": [find_learner(learner).title for learner in learners],
        "seconds": [_mean(seconds[learner].values()) if seconds.get(learner) else None for learner in learners],
        "rows": [
            {
                "title": title(method, report),
                "cells": [
                    {"score": cells[method][figure], "chosen": (learner, method) in chosen} if method in cells else None
                    for learner, cells in learners.items()
                ],
            }
            for method in in_order({method for cells in learners.values() for method in cells})
        ],
    }


def best_tiles(report: Mapping[str, Any]) -> list[Row]:
    """What validation chose without and with synthetic audio, where another learner than AST could be chosen."""
    if len(report["learners"]) < 2:
        return []
    return [
        {
            "title": f"Best {name} synthetic audio",
            "score": side[figure_of(report)],
            "what": f"{find_learner(side['learner']).title}; {title(side['method'], report)}",
        }
        for name in ("without", "with")
        if (side := report["best"][name])
    ]


def delivered(report: Mapping[str, Any]) -> str:
    """What the delivered classifier is, in words."""
    told = report["delivered"]
    members = ", ".join(find_learner(name).title for name in told["members"])
    named = find_learner(told["learner"]).title + (f" ({members})" if told["members"] != [told["learner"]] else "")
    return f"{named}; {title(told['method'], report)}"


def difference_rows(report: Mapping[str, Any]) -> list[Row]:
    """All paired differences."""
    return [
        {
            **row,
            "title": title(row["method"], report),
            "versus_title": title(row["versus"], report),
            "reliable": reliable(row) != 0,
        }
        for row in report["differences"]
    ]


def ablations(report: Mapping[str, Any]) -> list[Row]:
    """Difference of each ablation (the subject without one part) from the subject."""
    rows = [
        {
            "name": row["versus"],
            "title": title(row["versus"], report),
            "mean": -row["mean"],
            "low": -row["high"],
            "high": -row["low"],
            "reliable": reliable(row) != 0,
        }
        for row in report["differences"]
        if row["method"] == SUBJECT and row["versus"] in ABLATIONS
    ]
    return sorted(rows, key=lambda row: ABLATIONS.index(row["name"]))


def factor_lines(report: Mapping[str, Any]) -> list[Line]:
    """Mean validation score in percent by augmentation factor, a line for each method that tried several."""
    return [
        Line(title(name, report), [float(row["factor"]) for row in rows], [100 * row["mean"] for row in rows])
        for name, rows in report["factors"]["methods"].items()
    ]


def confusions(report: Mapping[str, Any], shown: Shown) -> list[Row]:
    """Confusion matrices in shares of each true class, with the three most frequent mistakes."""
    labels, tables = shown.labels, []
    for name, matrix in shown.confusions.items():
        rows, pairs = [], []
        for i, row in enumerate(matrix):
            total = sum(row)
            rows.append([{"count": count, "share": count / total if total else 0.0} for count in row])
            pairs += [(count / total, labels[i], labels[j]) for j, count in enumerate(row) if i != j and count]
        worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:3]
        tables.append(
            {
                "title": title(name, report),
                "rows": rows,
                "worst": [{"share": share, "true": true, "heard": heard} for share, true, heard in worst],
                "numbered": len(labels) <= MAX_NUMBERED_CLASSES,
            }
        )
    return tables


def filter_charts(report: Mapping[str, Any], shown: Shown) -> Row:
    """Histograms of CLAP score and margin with thresholds, overall, and by class for the thresholded figure.

    `planted` is the trial of the thresholds. `second` tells of the second judge: clips that both judges heard, those
    that one or both rejected, and its trial; None where there was none.
    """
    limits = [entry.threshold for _, entry in sorted(shown.thresholds.items())]
    bounds = {
        key: [bound for limit in limits if (bound := getattr(limit, f"min_{key}")) is not None]
        for key in ("score", "margin")
    }
    if not shown.candidates:
        return {"overall": [], "classes": [], "planted": None, "second": None}
    names = {"score": "CLAP score (cosine with the label)", "margin": "CLAP margin (over the best other label)"}
    domains = {key: charts.span([getattr(c, key) for c in shown.candidates] + bounds[key], 0.05, 0.1) for key in names}

    def chart(rows: Sequence[Candidate], key: str, label: str, bins: int) -> Markup:
        good, bad = ([getattr(c, key) for c in rows if c.accepted is kept] for kept in (True, False))
        return charts.histogram(good, bad, bounds[key], domains[key], names[key], label, bins)

    def planted(kind: str) -> dict[str, float] | None:
        trials = [trial for entry in shown.thresholds.values() if (trial := getattr(entry, kind))]
        return {key: _mean([trial[key] for trial in trials]) for key in trials[0]} if trials else None

    deciding = "margin" if bounds["margin"] else "score"
    judged = [row["judged"] for row in report["rounds"] if "judged" in row]
    second = {key: sum(row[key] for row in judged) for key in judged[0]} if judged else None
    return {
        "overall": [{"title": names[key], "chart": chart(shown.candidates, key, "All classes", 28)} for key in names],
        "classes": [
            {"title": label, "chart": chart([c for c in shown.candidates if c.label == label], deciding, label, 18)}
            for label in sorted({c.label for c in shown.candidates})
        ],
        "planted": planted("planted"),
        "second": second and {**second, "planted": planted("second_planted")},
    }


def alignment(accounts: Mapping[str, Alignment]) -> list[Row]:
    """Curves, spectra, distances before and after, and the kept step of each replicate, for each kind of alignment."""
    parts = []
    for kind in sorted({name.split("/")[1] for name in accounts}):
        own = sorted(
            ((int(name.split("/")[0]), account) for name, account in accounts.items() if name.split("/")[1] == kind),
            key=lambda entry: entry[0],
        )
        first = own[0][1]
        parts.append(
            {
                "curves": [
                    {"title": what, "lines": lines}
                    for where, names in (("curve", _TRAINED), ("during", _WATCHED))
                    for key, what in names.items()
                    if (lines := _lines(own, where, key))
                ],
                "spectra": _spectra([account.spectra_db for _, account in own]),
                "distances": _distances([account for _, account in own]),
                "loss": first.loss,
                "beta": first.beta,
                "adapter": first.adapter,
                "kept": [
                    {"seed": seed, "step": account.best_step, "stopped_by": KEPT_BY.get(account.stopped_by, "")}
                    for seed, account in own
                ],
                "by_learner": first.keep_best_by == "learner_loss",
                "kept_by": KEPT_BY.get(first.keep_best_by, "none"),
            }
        )
    return parts


def _lines(own: Sequence[tuple[int, Alignment]], where: str, key: str) -> list[Line]:
    return [
        Line(f"replicate {seed}", [row["step"] for row in rows], [row[key] for row in rows])
        for seed, account in own
        if (rows := [row for row in getattr(account, where) if key in row])
    ]


def _spectra(found: Sequence[Spectra]) -> list[Line]:
    means = {
        key: [_mean(values) for values in zip(*(getattr(one, key) for one in found), strict=True)] for key in _SPECTRA
    }
    return [Line(name, [float(band) for band in range(len(means[key]))], means[key]) for key, name in _SPECTRA.items()]


def _distances(accounts: Sequence[Alignment]) -> list[Row]:
    keys = sorted(set.intersection(*(set(account.before) for account in accounts)))
    return [
        {
            "what": DISTANCES.get(key, key.replace("_", " ")),
            **{when: _mean([getattr(account, when)[key] for account in accounts]) for when in ("before", "after")},
        }
        for key in keys
    ]


def set_rows(report: Mapping[str, Any], methods: Mapping[str, Method]) -> list[Row]:
    """Rows of the synthetic sets: the oracle's label accuracy and the distances to real clips, where known."""
    heard, far = (report["oracle"] or {"sets": {}})["sets"], report["distances"]["sets"]
    return [
        {
            "title": set_title(name, methods),
            "clips": heard.get(name, {}).get("clips"),
            "accuracy": heard.get(name, {}).get("accuracy"),
            "distance": far.get(name),
        }
        for name in sorted({*heard, *far}, key=lambda name: (*_place(name), name))
    ]


def _place(name: str) -> tuple[bool, bool]:
    return name != REFERENCE, name != "vanilla"


def set_title(name: str, methods: Mapping[str, Method]) -> str:
    """Display name of a set: `dpo-mixcap-filtered, accepted` → `Synthio, accepted`."""
    recipe, comma, rest = name.partition(",")
    users = [methods[m] for m in in_order(methods) if (made := methods[m].recipe) and made.name == recipe]
    own = [user.title for user in users if user.classic == "none"] or [user.title for user in users]
    return (own[0] if own else recipe.capitalize()) + comma + rest


def impossible(report: Mapping[str, Any], methods: Mapping[str, Method]) -> list[tuple[str, str]]:
    """Titles of requested methods that were not trained for want of clips, and the reason."""
    tried = {*report["methods"], *(row["method"] for row in report["failures"])}
    return [
        (each.title, each.without_clips) for name, each in methods.items() if each.without_clips and name not in tried
    ]


def acoustic_rows(report: Mapping[str, Any], methods: Mapping[str, Method]) -> Row | None:
    """`acoustics` with titles; None where nothing was generated."""
    found = report["acoustics"]
    if not found["sets"]:
        return None
    sets = [
        {**row, "title": "Other real clips" if name == REFERENCE else set_title(name, methods)}
        for name, row in sorted(found["sets"].items(), key=lambda item: (*_place(item[0]), item[0]))
    ]
    few = min(found["real_clips"], *(row["clips"] for row in sets)) < FEW
    return {"real_clips": found["real_clips"], "sets": sets, "few": few, "statistics": STATISTICS}


def limits(report: Mapping[str, Any], shown: Shown) -> list[str]:
    """Limits of the results, as sentences that follow from the run's setup."""
    lines: list[str] = []
    replicates, data = len(shown.plan.seeds), report["data"]
    if shown.codec not in (TRAINED_CODEC, ""):
        lines.append(
            Markup(
                "Audio is coded by <code>{}</code>, a fixed transform in the place of a trained autoencoder: fine "
                "detail of the sounds is simplified, and results with a trained one may differ."
            ).format(shown.codec)
        )
    if any("grammar" in writer for writer in shown.writers):
        lines.append(
            "New captions were composed by a small built-in grammar, not by a language model: they vary words and "
            "acoustics, but know nothing of the world."
        )
    if any("acoustics" in name for name in shown.captioners):
        lines.append("Real clips were captioned from their label and measured acoustics, not by a model that listens.")
    if replicates < 5:
        count = "One replicate" if replicates == 1 else f"{replicates} replicates"
        lines.append(
            f"{count}: training is subject to chance, and so few repetitions measure that chance roughly. Intervals "
            "are widened for it, yet a small gain can be missed or, more rarely, imagined."
        )
    groups = f" of {data['test_groups']} groups" if data["test_groups"] else ""
    lines.append(
        f"The test set has {data['n_test']} clips{groups}. The figures hold for sounds recorded as these were, not "
        "for other microphones, rooms or speakers."
    )
    lines.append(
        "CLAP chooses which clips are kept and also measures how close the synthetic clips are to the real ones. The "
        "oracle is a second opinion, but it has heard the training clips."
    )
    return lines


def _mean(values: Any) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))
