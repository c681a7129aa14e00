"""How the captions of a source came out, for the report and the run's page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.captions.metrics import diversity, diversity_by_label, mean_figures
from common.captions.records import Tally
from common.text import normalize_label
from components.augment_captions.drafts import Draft


def source_figures(found: Sequence[tuple[Sequence[Draft], Tally]], *, in_run: bool) -> dict[str, Any]:
    """Diversity and label recall (means over replicates), number of captions, and how they came about.

    Args:
        found: drafts and tally of each replicate.
        in_run: whether a method of the run uses them, or they are measured for comparison only.

    Returns:
        The figures of `diversity`, `by_label` the same of each label, `in_run`, and `how` (a `Tally`).
    """
    per_seed = [_by_label(drafts) for drafts, _ in found]
    whole = [diversity(captions) for captions in per_seed]
    by_label = [diversity_by_label(captions) for captions in per_seed]
    labels = sorted({label for one in by_label for label in one})
    return {
        **mean_figures(whole),
        "captions": sum(one["captions"] for one in whole),
        "by_label": {label: mean_figures([one[label] for one in by_label if label in one]) for label in labels},
        "in_run": in_run,
        "how": sum((tally for _, tally in found), start=Tally()).model_dump(mode="json"),
    }


def _by_label(drafts: Sequence[Draft]) -> dict[str, list[str]]:
    """Captions of each label; one of several labels counts for each."""
    captions: dict[str, list[str]] = {}
    for draft in drafts:
        for label in (draft.label, *draft.further_labels):
            captions.setdefault(normalize_label(label), []).append(draft.caption)
    return captions


def flat_figures(report: dict[str, dict[str, Any]], how: Tally, now: Tally) -> dict[str, float | int]:
    """Diversity per caption source, and how the captions came about, for the run's page.

    Args:
        report: of each source, from `source_figures`.
        how: how the captions came about, whenever that was.
        now: what this execution did for it.
    """
    shown = ("distinct_1", "distinct_2", "self_bleu", "word_spread", "label_recall")
    diverse = {f"{source}_{name}": report[source][name] for source in sorted(report) for name in shown}
    return diverse | how.figures(now)
