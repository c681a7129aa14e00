"""The idea of the stage: `report.json` has all results and no times, so equal inputs give equal bytes.

The page shows these results. Read next: inputs.py (what is read), verdict.py (the sentence on whether synthetic audio
helped), effects.py and acoustics.py (further figures), shown.py and players.py (what the page shows
beside them), sections.py, page.py and wording.py (the page), run.py (the order of the steps).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.captions.metrics import diversity
from common.config.evaluation import ReportPlan
from common.config.methods import Method
from common.contracts.generation import Tally
from common.records.text import normalize_label
from common.storage.hashing import hash_json
from common.storage.local import rounded
from components.report.acoustics import acoustics
from components.report.effects import cost, factors, long_tail
from components.report.inputs import Inputs
from components.report.verdict import verdict
from components.report.wording import figure_of

SOURCES = {
    "mixcap": "MixCap",
    "plain": "from the clip's own caption",
    "label_only": "from the label alone",
    "template": "template",
}
"""Kinds of captions with their titles, in the order of the table."""


def results(inputs: Inputs, plan: ReportPlan) -> dict[str, Any]:
    """Build the content of report.json.

    Returns figure ("accuracy", or "map" where clips have several labels); verdict {improved, beats_classic, text,
    state, cautions}; methods by name (the figure and macro_f1 {mean, low, high, per_seed}, …); differences; learners
    (the figure by learner and method); best (chosen without and with synthetic audio, and the difference); delivered;
    rounds; data {n_train, n_val, n_test, dropped, …}; failures, oracle, distances, leaks, alignment, captions, writing,
    likeness, empty_classes, provenance, acoustics, cost, factors, long_tail.
    """
    evaluation, first = inputs.evaluation, inputs.gold.train(inputs.gold.seeds[0])
    labels = evaluation["labels"]
    empty = empty_classes(inputs.filtered, plan.methods)
    figure = figure_of(evaluation)
    by_label = "recall" if figure == "accuracy" else "average_precision"
    kept = (figure, "macro_f1", "ece")
    return rounded(
        {
            "dataset": inputs.gold.dataset.model_dump(mode="json"),
            "figure": figure,
            "verdict": verdict(evaluation, inputs.gold.shared, empty_cautions(empty)),
            "methods": {
                name: {key: row[key] for key in ("title", "seeds", *kept)}
                | {by_label: dict(zip(labels, row[by_label], strict=True))}
                for name, row in evaluation["methods"].items()
            },
            "best_classic": None
            if evaluation["best_classic"] is None
            else {key: evaluation["best_classic"][key] for key in ("chosen", "seeds", *kept)},
            "zero_shot": evaluation.get("zero_shot")
            and {key: evaluation["zero_shot"][key] for key in ("title", *kept)},
            "differences": evaluation["differences"],
            "learners": evaluation["learners"],
            "best": evaluation["best"],
            "delivered": delivered(evaluation),
            "rounds": inputs.filtered["rounds"],
            "data": _data(inputs, plan),
            "failures": evaluation["failures"] + _failed_alignments(inputs),
            "selected": evaluation["selected"],
            "oracle": evaluation["oracle"],
            "distances": evaluation["distances"],
            "leaks": evaluation["leaks"],
            "alignment": {
                name: {
                    key: account[key]
                    for key in ("before", "after", "best_step", "stopped_by", "note")
                    if key in account
                }
                for name, account in sorted(inputs.align.items())
                if "/" in name
            },
            "captions": caption_sets(inputs),
            "writing": writing(inputs.writing),
            "likeness": likeness(inputs.filtered),
            "empty_classes": empty,
            "provenance": {
                "command": plan.command,
                "preset": plan.preset,
                "seeds": list(plan.seeds),
                "settings": hash_json(plan.run_config),
                **inputs.hashes,
            },
            "acoustics": acoustics(inputs, plan.settings.acoustic_clips),
            "cost": cost(evaluation, plan.methods),
            "factors": factors(inputs.selection, evaluation),
            "long_tail": long_tail(evaluation, Counter(label for clip in first for label in clip.labels)),
        }
    )


def delivered(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """What the run delivers: learner, method, members of a blend, its clips, and its figures on the test clips."""
    told, figure = evaluation["delivered"], figure_of(evaluation)
    kept = {name: told[name] for name in ("learner", "method", "members", "clips")}
    return {**kept, f"test_{figure}": told[figure]["mean"], "interval": told[figure], "ece": told["ece"]["mean"]}


def caption_sets(inputs: Inputs) -> dict[str, Any]:
    """Caption diversity of each source: gold clips, template prompts (`vanilla`), each recipe."""
    sets: dict[str, dict[str, list[str]]] = {}

    def add(name: str, label: str, caption: str) -> None:
        sets.setdefault(name, {}).setdefault(normalize_label(label), []).append(caption)

    for caption in inputs.captions:
        add("gold clips", caption.label, caption.caption)
    for clip in inputs.vanilla:
        add("vanilla", clip.label, clip.caption)
    for state, clips in (("accepted", inputs.accepted), ("rejected at first", inputs.rejected)):
        for clip in clips:
            add(f"{clip.recipe}, {state}", clip.label, clip.caption)
    return {name: diversity(captions) for name, captions in sorted(sets.items())}


def _data(inputs: Inputs, plan: ReportPlan) -> dict[str, Any]:
    seed, gold, test = plan.seeds[0], inputs.gold, inputs.evaluation["test"]
    parts = {"train": gold.train(seed), "val": gold.val(seed)}
    counts = {name: Counter(label for clip in clips for label in clip.labels) for name, clips in parts.items()}
    dropped = dropped_clips(inputs)
    return {
        "n_train": len(parts["train"]),
        "n_val": len(parts["val"]),
        "n_test": test["clips"],
        "dropped": len(dropped),
        "dropped_reasons": dict(sorted(Counter(row["reason"] for row in dropped).items())),
        "classes": {
            label: {"train": counts["train"][label], "val": counts["val"][label], "test": test["per_class"][label]}
            for label in gold.labels
        },
        "oracle_pool": len(gold.oracle()),
        "fixed_gold_set": gold.shared,
        "test_groups": test["groups"],
        "warnings": [*inputs.health.warnings, *inputs.evaluation["test_health"]["warnings"]],
    }


def dropped_clips(inputs: Inputs) -> list[dict[str, str]]:
    """Quarantined clips of all splits, each with source and reason."""
    test = [(row["source"], row["reason"]) for row in inputs.evaluation["test_health"]["dropped"]]
    rows = {*((drop.source, drop.reason) for drop in inputs.health.dropped), *test}
    return [{"source": source, "reason": reason} for source, reason in sorted(rows)]


def _failed_alignments(inputs: Inputs) -> list[dict[str, Any]]:
    return [
        {"method": f"alignment {name}", "seed": int(name.split("/")[0]), "error": error}
        for name, error in sorted(inputs.align.get("failures", {}).items())
    ]


def writing(account: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise how the captions of all rounds were written.

    Tokens and money count all replies, whether this run paid for them or found them in the cache; so a first run, a
    resumed one and a rerun report the same.

    Returns writer; sources by name (diversity, label recall, in_run, by_label); pieces, repaired, replaced, reasons;
    input_tokens, output_tokens, cost; rounds (prompts and replaced of each).
    """
    tallies = [Tally.model_validate(row["how"]) for row in account["rounds"]]
    whole = sum(tallies, start=Tally())
    sources = {name: account["sources"][name] for name in SOURCES if name in account["sources"]}
    return {
        "writer": account["writer"],
        "sources": {
            name: {key: value for key, value in row.items() if key != "how"}
            | {key: row["how"][key] for key in ("pieces", "repaired", "replaced")}
            for name, row in sources.items()
        },
        **whole.model_dump(mode="json", exclude={"usage"}),
        **whole.usage.whole.model_dump(mode="json"),
        "rounds": [
            {"round": row["round"], "prompts": row["prompts"], "replaced": tally.replaced}
            for row, tally in zip(account["rounds"], tallies, strict=True)
        ],
    }


def likeness(filtered: Mapping[str, Any]) -> dict[str, dict[str, float | int]]:
    """Similarity of each recipe's clips to their nearest real training clip, by cosine of CLAP embeddings.

    Returns:
        By recipe: `clips` scored, `near_copies` among them, and `median` and `highest` similarity of those accepted.
    """
    rows: dict[str, dict[str, float | int]] = {}
    scored = [row for row in filtered["candidates"] if row.get("nearest_similarity") is not None]
    for recipe in sorted({row["recipe"] for row in scored}):
        own = [row for row in scored if row["recipe"] == recipe]
        kept = [row["nearest_similarity"] for row in own if row["reason"] is None]
        rows[recipe] = {"clips": len(own), "near_copies": sum(row["reason"] == "near_copy" for row in own)}
        if kept:
            rows[recipe] |= {"median": float(np.median(kept)), "highest": max(kept)}
    return rows


def empty_classes(filtered: Mapping[str, Any], methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Replicates and labels without an accepted clip, for recipes that a method of the run trains on."""
    used = {method.recipe.name for method in methods.values() if method.recipe is not None}
    return [row for row in filtered["empty_classes"] if row["recipe"] in used]


def empty_cautions(empty: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence on classes without an accepted clip; empty when every class has some."""
    if not empty:
        return []
    labels = sorted({str(row["label"]) for row in empty})
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in empty}))
    shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
    return [
        f"In all rounds no synthetic clip was accepted for {shown} (replicate {seeds}); copies of real clips take "
        "their place in training there."
    ]
