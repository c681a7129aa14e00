"""The idea of the stage: `report.json` has all results and no times, so equal inputs give equal bytes.

The page shows these results. Read next: inputs.py (what is read), verdict.py (the sentence on whether synthetic audio
helped), effects.py, acoustics.py and synthetic.py (further figures), shown.py and players.py (what the page shows
beside them), sections.py, page.py and wording.py (the page), run.py (the order of the steps).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from common.captions.metrics import diversity
from common.config.evaluation import ReportPlan
from common.records.text import normalize_label
from common.storage.hashing import hash_json
from common.storage.local import rounded
from components.report.inputs import Inputs
from components.report.synthetic import empty_cautions, empty_classes, likeness, writing
from components.report.verdict import verdict
from components.report.wording import figure_of


def results(inputs: Inputs, plan: ReportPlan, further: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Build the content of report.json.

    Args:
        inputs: records and figures of all earlier stages.
        further: figures of other modules by name, merged into the result.

    Returns figure ("accuracy", or "map" where clips have several labels); verdict {improved, beats_classic, text,
    state, cautions}; methods by name (the figure and macro_f1 {mean, low, high, per_seed}, …); differences; learners
    (the figure by learner and method); best (chosen without and with synthetic audio, and the difference); delivered;
    rounds; data {n_train, n_val, n_test, dropped, …}; failures, oracle, distances, leaks, alignment, captions, writing,
    likeness, empty_classes, provenance.
    """
    evaluation = inputs.evaluation
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
            **further,
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
