"""The idea of the stage: write several new captions for each gold clip, so that the generated clips vary.

A method names its caption source: the label's template, or a writer with the prompt `label_only`, `plain` or `mixcap`.
MixCap first extracts acoustic elements from the captions of each label, then shows the writer a random share of them.
Read next: `run.py` (sources and replicates, kept in the item store; prompts and figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.captions.asking import Desk
from common.captions.extraction import extract
from common.captions.metrics import diversity, diversity_by_label, mean_figures
from common.captions.pools import Pool, build_pools, draw, joined, parents, texts
from common.captions.records import PromptName, Tally, Task
from common.config.captions import AugmentCaptionsConfig
from common.config.methods import CaptionSource, Recipe
from common.errors import DataError
from common.records.clips import Caption, GoldClip, Prompt, Record, all_labels
from common.records.text import normalize_label, template_caption

TEMPLATE_WRITER = "template"


class Draft(Record):
    """A caption for one clip to be generated; recipes with the same caption source share it."""

    source_clip_id: str
    label: str
    label_id: int
    further_labels: tuple[str, ...] = ()
    index: int
    caption: str
    writer: str
    prompt_hash: str = ""
    parents: tuple[str, ...]


class Labelled(NamedTuple):
    """A clip with the ids of all its labels."""

    clip: GoldClip
    label_ids: tuple[int, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Texts of all its labels, in the dataset's spelling."""
        return all_labels(self.clip)


class Call(NamedTuple):
    """One writing task, its clip and first caption index, and the pool shown to the writer."""

    task: Task
    clip: GoldClip
    first: int
    pool: Pool


def write_drafts(
    source: CaptionSource,
    clips: Sequence[Labelled],
    captions: Mapping[str, Caption],
    desk: Desk,
    settings: AugmentCaptionsConfig,
    *,
    factor: int,
    domain: str,
    seed: int,
) -> tuple[list[Draft], Tally]:
    """Drafts of one replicate: `factor` captions per clip, independent of the order of `clips`.

    Args:
        source: prompt of the writer; `template` needs no writer.
        clips: training clips of one replicate, with label ids.
        captions: existing captions by clip id, of at least these clips.
        desk: the writer, with checks.
        settings: captions per call, share of the pool.
        factor: captions per clip.
        seed: the replicate.

    Raises:
        DataError: a clip has no caption.
    """
    clips = sorted(clips, key=lambda own: own.clip.clip_id)
    _check_captioned([own.clip for own in clips], captions)
    if source == "template":
        return [_template_draft(own.clip, index) for own in clips for index in range(factor)], Tally()
    pools, extracted = _pools(clips, captions, desk, seed) if source == "mixcap" else ({}, Tally())
    calls = _calls(source, clips, captions, pools, settings, factor=factor, domain=domain, seed=seed)
    answers, tally = desk.ask([call.task for call in calls])
    drafts = [
        Draft(
            source_clip_id=call.clip.clip_id,
            label=call.clip.label,
            label_id=call.clip.label_id,
            further_labels=call.clip.further_labels,
            index=call.first + offset,
            caption=written.caption,
            writer=written.writer,
            prompt_hash=written.prompt_hash,
            parents=parents(written.caption, call.pool, call.clip.clip_id),
        )
        for call in calls
        for offset, written in enumerate(answers[call.task.task_id].captions)
    ]
    return drafts, extracted + tally


def _check_captioned(clips: Sequence[GoldClip], captions: Mapping[str, Caption]) -> None:
    missing = [clip.clip_id for clip in clips if clip.clip_id not in captions]
    if missing:
        raise DataError(
            f"{len(missing)} training clips have no caption, for example {missing[0]!r}; expected one for each; "
            "captions and gold must come from the same run"
        )


def _template_draft(clip: GoldClip, index: int) -> Draft:
    return Draft(
        source_clip_id=clip.clip_id,
        label=clip.label,
        label_id=clip.label_id,
        further_labels=clip.further_labels,
        index=index,
        caption=template_caption(clip.label, *clip.further_labels),
        writer=TEMPLATE_WRITER,
        parents=(clip.clip_id,),
    )


def _pools(
    clips: Sequence[Labelled], captions: Mapping[str, Caption], desk: Desk, seed: int
) -> tuple[dict[int, Pool], Tally]:
    pairs = {own.clip.clip_id: (own.labels, captions[own.clip.clip_id].caption) for own in clips}
    found, tally = extract(desk, pairs.values())
    elements = (
        (label_id, own.clip.clip_id, found[pairs[own.clip.clip_id]]) for own in clips for label_id in own.label_ids
    )
    return build_pools(elements, seed), tally


def _calls(
    source: PromptName,
    clips: Sequence[Labelled],
    captions: Mapping[str, Caption],
    pools: Mapping[int, Pool],
    settings: AugmentCaptionsConfig,
    *,
    factor: int,
    domain: str,
    seed: int,
) -> list[Call]:
    """Writer calls: enough per clip for `factor` captions, each with its own draw of the pool."""
    calls = []
    for own in clips:
        clip, whole = own.clip, joined(pools, own.label_ids)
        for number, first in enumerate(range(0, factor, settings.captions_per_call)):
            pool = draw(whole, settings.pool_share, seed, clip.clip_id, number)
            shown = texts(pool)
            task = Task(
                task_id=f"{source}.{clip.clip_id}.{number}",
                scope=".".join((source, *map(str, sorted(own.label_ids)))),
                prompt=source,
                labels=tuple(map(normalize_label, own.labels)),
                domain=domain,
                caption="" if source == "label_only" else captions[clip.clip_id].caption,
                events=shown.events,
                scenes=shown.scenes,
                seed=seed,
                count=min(settings.captions_per_call, factor - first),
            )
            calls.append(Call(task, clip, first, pool))
    return calls


def make_prompts(recipe: Recipe, seed: int, drafts: Sequence[Draft]) -> list[Prompt]:
    """Prompts of one recipe and replicate, all of round 0."""
    return [
        Prompt(
            prompt_id=f"{recipe.name}.s{seed}.{draft.source_clip_id}.{draft.index}.r0",
            recipe=recipe.name,
            seed=seed,
            round=0,
            **draft.model_dump(),
        )
        for draft in drafts
    ]


def source_figures(found: Sequence[tuple[Sequence[Draft], Tally]], *, in_run: bool) -> dict[str, Any]:
    """Diversity and label recall (means over replicates), number of captions, and their origin.

    Args:
        found: drafts and tally of each replicate.
        in_run: whether a method of the run uses the captions; otherwise they only serve comparison.

    Returns:
        The figures of `diversity`, `captions`, `by_label` (the same figures per label), `in_run`, `how` (a `Tally`).
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
    """Captions by label; a caption with several labels counts for each."""
    captions: dict[str, list[str]] = {}
    for draft in drafts:
        for label in (draft.label, *draft.further_labels):
            captions.setdefault(normalize_label(label), []).append(draft.caption)
    return captions


def flat_figures(report: dict[str, dict[str, Any]], how: Tally, now: Tally) -> dict[str, float | int]:
    """Diversity per caption source and the origin of the captions, for the run's page.

    Args:
        report: by source, from `source_figures`.
        how: tally of all captions, including those found in the store.
        now: tally of this execution.
    """
    shown = ("distinct_1", "distinct_2", "self_bleu", "word_spread", "label_recall")
    diverse = {f"{source}_{name}": report[source][name] for source in sorted(report) for name in shown}
    return diverse | how.figures(now)
