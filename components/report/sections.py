"""What each part of the page shows: rows and charts, made from the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from common.methods import METHODS, Method
from components.report import figures
from components.report.verdict import BASELINE, BEST_CLASSIC, COMBINED, SUBJECT

MAX_NUMBERED_CLASSES = 14

DISTANCES = {
    "spectrum_db": "mean spectrum, dB",
    "latent_frechet": "latent frames, Fréchet",
    "held_out_error": "error on validation clips",
}
KEPT_BY = {
    "spectrum_db": "distance in mean spectrum",
    "latent_frechet": "distance of latent frames",
    "held_out_error": "error on validation clips",
}
"""Figures of an alignment in words: alone, and within a sentence."""
"""Confusion matrices of more classes show shades only."""

TILES = (BASELINE, BEST_CLASSIC, SUBJECT, COMBINED)


def ordered(names: Sequence[str]) -> list[str]:
    """Method names in the order of the catalogue."""
    catalogue = list(METHODS)
    return sorted(names, key=lambda name: (catalogue.index(name) if name in METHODS else len(catalogue), name))


def title(name: str, results: Mapping[str, Any]) -> str:
    """A method's name for people."""
    if name == BEST_CLASSIC:
        return "Best classic"
    return str(results["methods"].get(name, {}).get("title", name))


def method_rows(results: Mapping[str, Any]) -> dict[str, Any]:
    """The table of methods, with bars on one common axis, and the tiles below the verdict."""
    methods = {name: results["methods"][name] for name in ordered(list(results["methods"]))}
    if results["best_classic"]:
        methods |= {BEST_CLASSIC: results["best_classic"]}
    domain = figures.span([row["accuracy"][key] for row in methods.values() for key in ("low", "high")])
    baseline = methods[BASELINE]["accuracy"]["mean"] if BASELINE in methods else None
    against = {row["method"]: row for row in results["differences"] if row["versus"] == BASELINE}
    top = max(row["accuracy"]["mean"] for row in methods.values())
    rows = {
        name: {
            "name": name,
            "title": title(name, results),
            **row,
            "versus": against.get(name),
            "bar": figures.interval_bar(row["accuracy"], domain, baseline),
            "best": row["accuracy"]["mean"] == top,
        }
        for name, row in methods.items()
    }
    return {"rows": list(rows.values()), "domain": domain, "tiles": [rows[name] for name in TILES if name in rows]}


def difference_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All paired differences with bars on one axis."""
    rows = results["differences"]
    domain = _gain_domain(rows)
    return [
        {
            **row,
            "title": title(row["method"], results),
            "versus_title": title(row["versus"], results),
            "bar": figures.gain_bar(row, domain),
            "reliable": row["low"] > 0 or row["high"] < 0,
        }
        for row in rows
    ]


def class_gains(evaluation: Mapping[str, Any], results: Mapping[str, Any]) -> dict[str, Any] | None:
    """Gains of recall by class, the largest first."""
    found = evaluation["per_class"]
    if found is None:
        return None
    rows = sorted(found["classes"], key=lambda row: (-row["mean"], row["label"]))
    domain = _gain_domain(rows)
    return {
        "title": title(found["method"], results),
        "versus": title(found["versus"], results),
        "rows": [{**row, "bar": figures.gain_bar(row, domain)} for row in rows],
    }


def _gain_domain(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    # Room on both sides of zero, so that no bar begins at the edge.
    return figures.span([-0.05, 0.05, *(row[key] for row in rows for key in ("low", "high"))], 0.05, 0.1)


def confusions(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Matrices of the baseline and of the subject (else of the method handed on), in shares of each true class."""
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
    """Histograms of CLAP score and margin with the thresholds; then one per class of what the threshold is on."""
    candidates = [c for c in filtered["candidates"] if c["recipe"] == recipe and c["score"] is not None]
    limits = [entry["threshold"] for _, entry in sorted(filtered["thresholds"].items())]
    bounds = {
        "score": [limit["min_score"] for limit in limits if limit.get("min_score") is not None],
        "margin": [limit["min_margin"] for limit in limits if limit.get("min_margin") is not None],
    }
    if not candidates:
        return {"overall": [], "classes": [], "bounds": bounds, "planted": None}
    deciding = "margin" if bounds["margin"] else "score"
    names = {"score": "CLAP score (cosine with the label)", "margin": "CLAP margin (over the best other label)"}
    domains = {key: figures.span([c[key] for c in candidates] + bounds[key], 0.05, 0.1) for key in names}

    def chart(rows: Sequence[Mapping[str, Any]], key: str, label: str, bins: int) -> Markup:
        good = [c[key] for c in rows if c["reason"] is None]
        bad = [c[key] for c in rows if c["reason"] is not None]
        return figures.histogram(good, bad, bounds[key], domains[key], names[key], label, bins)

    labels = sorted({c["label"] for c in candidates})
    planted = [entry["planted"] for entry in filtered["thresholds"].values() if entry.get("planted")]
    return {
        "overall": [{"title": names[key], "chart": chart(candidates, key, "All classes", 28)} for key in names],
        "classes": [
            {"title": label, "chart": chart([c for c in candidates if c["label"] == label], deciding, label, 18)}
            for label in labels
        ],
        "bounds": bounds,
        "planted": {key: sum(p[key] for p in planted) / len(planted) for key in planted[0]} if planted else None,
    }


def round_rows(filtered: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Acceptance in each round of self-reflection."""
    return [
        {
            **row,
            "total": row["accepted"] + row["rejected"],
            "bar": figures.share_bar(
                [("gain", row["accepted"]), ("loss", row["rejected"])],
                f"{row['accepted']} accepted, {row['rejected']} rejected",
            ),
        }
        for row in filtered["rounds"]
    ]


def alignment(align: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each kind of alignment: curves of every replicate, spectra, distances before and after, what was kept."""
    accounts = {name: account for name, account in align.items() if "/" in name}
    kinds = sorted({name.split("/")[1] for name in accounts})
    parts = []
    for kind in kinds:
        own = sorted(
            ((int(name.split("/")[0]), account) for name, account in accounts.items() if name.split("/")[1] == kind),
            key=lambda entry: entry[0],
        )
        charts = [
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
            for key, what in (("held_out_error", "Error on validation clips"), ("spectrum_db", "Distance to gold, dB"))
            if (chart := _curve(own, key, what, "during")) is not None
        ]
        parts.append(
            {
                "kind": kind,
                "charts": charts,
                "spectra": _spectra(own),
                "distances": _distances(own),
                "keys": [{"seed": seed, "line": figures.line_key(index)} for index, (seed, _) in enumerate(own)],
                "loss": own[0][1].get("loss", kind),
                "beta": own[0][1].get("beta"),
                "adapter": own[0][1].get("adapter", ""),
                "kept": [
                    {"seed": seed, "step": account["best_step"], "stopped_by": KEPT_BY.get(account["stopped_by"], "")}
                    for seed, account in own
                    if "best_step" in account
                ],
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
    return figures.curves(series, what) if series else None


def _spectra(own: Sequence[tuple[int, Mapping[str, Any]]]) -> dict[str, Any] | None:
    found = [account["spectra_db"] for _, account in own if account.get("spectra_db")]
    if not found:
        return None
    names = {"gold": "real clips", "before": "before alignment", "after": "after alignment"}
    series = []
    for key, name in names.items():
        means = [sum(values) / len(found) for values in zip(*(entry[key] for entry in found), strict=True)]
        series.append((name, [float(band) for band in range(len(means))], means))
    keys = [{"name": name, "line": figures.line_key(index)} for index, name in enumerate(names.values())]
    return {"chart": figures.curves(series, "Mean spectrum in dB", "mel band"), "keys": keys}


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
    """Each synthetic set with the oracle's label accuracy and its distances to the real clips, where known."""
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
                "bar": figures.share_bar(parts, f"{accuracy:.0%} heard as asked for") if parts else "",
            }
        )
    return rows


def set_title(name: str, methods: Mapping[str, Method]) -> str:
    """A set's name for people: `dpo-mixcap-filtered, accepted` → `Synthio, accepted`."""
    recipe, comma, rest = name.partition(",")
    users = [methods[m] for m in ordered(list(methods)) if (made := methods[m].recipe) and made.name == recipe]
    own = [user.title for user in users if user.classic == "none"] or [user.title for user in users]
    return (own[0] if own else recipe.capitalize()) + comma + rest


def budget_rows(selection: Mapping[str, Any], results: Mapping[str, Any], seed: int) -> list[dict[str, Any]]:
    """Steps and examples of each method in one replicate: the same for all, which makes the comparison fair."""
    rows = []
    for name in ordered(list(results["methods"])):
        figures_of = selection.get(f"{name}/{seed}")
        if figures_of is None:
            continue
        slot = figures_of.get("slot", {})
        rows.append(
            {
                "title": title(name, results),
                "steps": figures_of.get("steps"),
                "examples": figures_of.get("examples"),
                "synthetic_clips": figures_of.get("synthetic_clips", 0),
                "synthetic": slot.get("synthetic", 0),
                "gold": slot.get("gold", 0),
                "stands_in": figures_of.get("gold_stands_in_for", []),
                "classic": figures_of.get("classic", "none"),
                "strength": figures_of.get("strength"),
            }
        )
    return rows


def strength_rows(selection: Mapping[str, Any], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The strengths that validation chose among, by method and replicate."""
    rows = []
    for name in ordered(list(results["methods"])):
        for seed in results["methods"][name]["seeds"]:
            figures_of = selection.get(f"{name}/{seed}", {})
            tried = [e for e in figures_of.get("tried", []) if e.get("factor") == figures_of.get("factor")]
            if len(tried) > 1:
                rows.append(
                    {
                        "title": title(name, results),
                        "seed": seed,
                        "strength": figures_of.get("strength"),
                        "tried": [
                            {**entry, "chosen": entry["strength"] == figures_of.get("strength")} for entry in tried
                        ],
                    }
                )
    return rows


def factor_rows(selection: Mapping[str, Any], results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The augmentation factors that validation chose among, by method and replicate."""
    rows = []
    for name in ordered(list(results["methods"])):
        for seed in results["methods"][name]["seeds"]:
            figures_of = selection.get(f"{name}/{seed}", {})
            tried = [e for e in figures_of.get("tried", []) if e["strength"] == figures_of.get("strength")]
            if len(tried) > 1:
                chosen = figures_of.get("factor")
                curve = [{**entry, "chosen": entry["factor"] == chosen} for entry in tried]
                rows.append({"title": title(name, results), "seed": seed, "factor": chosen, "curve": curve})
    return rows


def class_balance(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Clips of each class by split."""
    return [{"label": label, **counts} for label, counts in results["data"]["classes"].items()]


def reasons_of(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, int]]:
    """Reason codes with their counts, the most frequent first."""
    counts = Counter(row["reason"] for row in rows)
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
