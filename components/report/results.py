"""The idea of the stage: `report.json` has all results and no times, so equal inputs give equal bytes.

The page shows these results. Read next: inputs.py (what is read), verdict.py (the sentence on whether synthetic audio
helped), effects.py and acoustics.py (further figures), shown.py (what the page shows beside them), sections.py, page.py
and wording.py (the page), run.py (the order of the steps).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from common.captions.metrics import diversity
from common.config.evaluation import ReportPlan
from common.config.methods import Method
from common.contracts.evaluation import ClassicFigures, ZeroShotFigures
from common.contracts.generation import Aligned, CaptionAccount, Diversity, EmptyClass, FilterAccount, Tally
from common.contracts.report import (
    ClassCounts,
    Data,
    Delivered,
    Likeness,
    MethodFigures,
    Report,
    RoundWriting,
    SourceWriting,
    Writing,
)
from common.contracts.training import Failure
from common.pages.direction import isolated
from common.records.text import normalize_label
from common.storage.hashing import hash_json
from components.report.acoustics import acoustics
from components.report.effects import cost, factors, long_tail
from components.report.inputs import Inputs
from components.report.verdict import verdict

SOURCES = {
    "mixcap": "MixCap",
    "plain": "from the clip's own caption",
    "label_only": "from the label alone",
    "template": "template",
}
"""Kinds of captions with their titles, in the order of the table."""


def results(inputs: Inputs, plan: ReportPlan) -> Report:
    """Build the content of report.json, rounded."""
    evaluation, told = inputs.evaluation, inputs.evaluation.delivered
    empty, first = empty_classes(inputs.filtered, plan.methods), inputs.gold.train(inputs.gold.replicates[0])
    classic = evaluation.best_classic

    def by_label(values: Sequence[float | None] | None) -> dict[str, float | None] | None:
        return None if values is None else dict(zip(evaluation.labels, values, strict=True))

    return Report.of(
        evaluation,
        dataset=inputs.gold.dataset,
        verdict=verdict(evaluation, inputs.gold.shared, empty_cautions(empty)),
        methods={
            name: MethodFigures.of(row, recall=by_label(row.recall), average_precision=by_label(row.average_precision))
            for name, row in evaluation.methods.items()
        },
        best_classic=classic and ClassicFigures.of(classic),
        zero_shot=ZeroShotFigures.of(evaluation.zero_shot),
        delivered=Delivered.of(
            told, **{f"test_{evaluation.figure}": told.score.mean}, interval=told.score, ece=told.ece.mean
        ),
        rounds=inputs.filtered.rounds,
        data=_data(inputs, plan),
        failures=evaluation.failures
        + [
            Failure(method=f"alignment {name}", seed=int(name.split("/")[0]), error=error)
            for name, error in sorted(inputs.align.failures.items())
        ],
        alignment={name: Aligned.of(account) for name, account in sorted(inputs.align.models.items())},
        captions=caption_sets(inputs),
        writing=writing(inputs.writing),
        likeness=likeness(inputs.filtered),
        empty_classes=empty,
        provenance={
            "command": plan.command,
            "preset": plan.preset,
            "seeds": list(plan.replicates),
            "settings": hash_json(plan.run_config),
            **inputs.hashes,
        },
        acoustics=acoustics(inputs, plan.settings.acoustic_clips),
        cost=cost(evaluation, plan.methods),
        factors=factors(inputs.selection, evaluation),
        long_tail=long_tail(evaluation, Counter(label for clip in first for label in clip.labels)),
    ).rounded()


def caption_sets(inputs: Inputs) -> dict[str, Diversity]:
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
    return {name: Diversity.model_validate(diversity(captions)) for name, captions in sorted(sets.items())}


def _data(inputs: Inputs, plan: ReportPlan) -> Data:
    replicate, gold, test = plan.replicates[0], inputs.gold, inputs.evaluation.test
    train, val = gold.train(replicate), gold.val(replicate)
    in_train, in_val = (Counter(label for clip in clips for label in clip.labels) for clips in (train, val))
    dropped = dropped_clips(inputs)
    return Data(
        n_train=len(train),
        n_val=len(val),
        n_test=test.clips,
        dropped=len(dropped),
        dropped_reasons=dict(sorted(Counter(row["reason"] for row in dropped).items())),
        classes={
            label: ClassCounts(train=in_train[label], val=in_val[label], test=test.per_class[label])
            for label in gold.labels
        },
        oracle_pool=len(gold.oracle()),
        fixed_gold_set=gold.shared,
        test_groups=test.groups,
        warnings=[*inputs.health.warnings, *inputs.evaluation.test_health.warnings],
    )


def dropped_clips(inputs: Inputs) -> list[dict[str, str]]:
    """Quarantined clips of all splits, each with source and reason."""
    every = [*inputs.health.dropped, *inputs.evaluation.test_health.dropped]
    rows = sorted({(drop.source, drop.reason) for drop in every})
    return [{"source": source, "reason": reason} for source, reason in rows]


def writing(account: CaptionAccount) -> Writing:
    """Summarise how the captions of all rounds were written; `account` is that of the last round.

    Tokens and money count all replies, whether this run paid for them or found them in the cache; so a first run, a
    resumed one and a rerun report the same.
    """
    whole = sum((row.how for row in account.rounds), start=Tally())
    sources = {name: account.sources[name] for name in SOURCES if name in account.sources}
    return Writing.of(
        account,
        whole,
        whole.usage.whole,
        sources={name: SourceWriting.of(row, row.how) for name, row in sources.items()},
        rounds=[RoundWriting.of(row, row.how) for row in account.rounds],
    )


def likeness(filtered: FilterAccount) -> dict[str, Likeness]:
    """Similarity of each recipe's clips to their nearest gold training clip."""
    recipes: dict[str, list[tuple[float, str | None]]] = {}
    for row in filtered.candidates:
        if row.nearest_similarity is not None:
            recipes.setdefault(row.recipe, []).append((row.nearest_similarity, row.reason))
    rows = {}
    for recipe, own in sorted(recipes.items()):
        kept = [similarity for similarity, reason in own if reason is None]
        rows[recipe] = Likeness(
            clips=len(own),
            near_copies=sum(reason == "near_copy" for _, reason in own),
            median=float(np.median(kept)) if kept else None,
            highest=max(kept, default=None),
        )
    return rows


def empty_classes(filtered: FilterAccount, methods: Mapping[str, Method]) -> list[EmptyClass]:
    """Replicates and labels without an accepted clip, for recipes that a method of the run trains on."""
    used = {method.recipe.name for method in methods.values() if method.recipe is not None}
    return [row for row in filtered.empty_classes if row.recipe in used]


def empty_cautions(empty: Sequence[EmptyClass]) -> list[str]:
    """One sentence on classes without an accepted clip; empty when every class has some."""
    if not empty:
        return []
    labels = [isolated(label) for label in sorted({row.label for row in empty})]
    lost = ", ".join(str(replicate) for replicate in sorted({row.seed for row in empty}))
    shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
    return [
        f"In all rounds no synthetic clip was accepted for {shown} (replicate {lost}); copies of real clips take "
        "their place in training there."
    ]
