"""New captions of a replicate's clips, by each of the ways that methods ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from common.captions.asking import Desk
from common.captions.extraction import extract
from common.captions.metrics import diversity
from common.captions.pools import Pool, build_pools, draw, parents, texts
from common.captions.records import PromptName, Tally, Task
from common.config.captions import AugmentCaptionsConfig
from common.errors import DataError
from common.methods import CaptionSource, Recipe
from common.records import Caption, GoldClip, Prompt, Record
from common.text import normalize_label, template_caption

TEMPLATE_WRITER = "template"


class Draft(Record):
    """A caption for one clip to be generated; recipes that caption alike share it."""

    source_clip_id: str
    label: str
    label_id: int
    index: int
    caption: str
    writer: str
    prompt_hash: str = ""
    parents: tuple[str, ...]


class Call(NamedTuple):
    """One task, the clip and first index it is for, and the pool it was shown."""

    task: Task
    clip: GoldClip
    first: int
    pool: Pool


def write_drafts(
    source: CaptionSource,
    clips: Sequence[GoldClip],
    captions: Mapping[str, Caption],
    desk: Desk,
    settings: AugmentCaptionsConfig,
    *,
    factor: int,
    domain: str,
    seed: int,
) -> tuple[list[Draft], Tally]:
    """`factor` captions for each clip, by clip id and index; the order of `clips` changes nothing.

    Args:
        source: which prompt; `template` asks nobody.
        clips: training clips of one replicate.
        captions: by clip id, of at least these clips.
        desk: who writes and checks.
        settings: captions per call, share of the pool.
        factor: captions per clip.
        domain: of the dataset.
        seed: the replicate.

    Raises:
        DataError: a clip has no caption.
    """
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    _check_captioned(clips, captions)
    if source == "template":
        return [_template_draft(clip, index) for clip in clips for index in range(factor)], Tally()
    pools, extracted = _pools(clips, captions, desk, seed) if source == "mixcap" else ({}, Tally())
    calls = _calls(source, clips, captions, pools, settings, factor=factor, domain=domain, seed=seed)
    answers, tally = desk.ask([call.task for call in calls])
    drafts = [
        Draft(
            source_clip_id=call.clip.clip_id,
            label=call.clip.label,
            label_id=call.clip.label_id,
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
        index=index,
        caption=template_caption(clip.label),
        writer=TEMPLATE_WRITER,
        parents=(clip.clip_id,),
    )


def _pools(
    clips: Sequence[GoldClip], captions: Mapping[str, Caption], desk: Desk, seed: int
) -> tuple[dict[int, Pool], Tally]:
    found, tally = extract(desk, [(clip.label, captions[clip.clip_id].caption) for clip in clips])
    elements = ((clip.label_id, clip.clip_id, found[clip.label, captions[clip.clip_id].caption]) for clip in clips)
    return build_pools(elements, seed), tally


def _calls(
    source: PromptName,
    clips: Sequence[GoldClip],
    captions: Mapping[str, Caption],
    pools: Mapping[int, Pool],
    settings: AugmentCaptionsConfig,
    *,
    factor: int,
    domain: str,
    seed: int,
) -> list[Call]:
    """As many calls per clip as `factor` captions need; each call is shown its own draw of the pool."""
    calls = []
    for clip in clips:
        for number, first in enumerate(range(0, factor, settings.captions_per_call)):
            pool = draw(pools.get(clip.label_id, ()), settings.pool_share, seed, clip.clip_id, number)
            shown = texts(pool)
            task = Task(
                task_id=f"{source}.{clip.clip_id}.{number}",
                scope=f"{source}.{clip.label_id}",
                prompt=source,
                labels=(normalize_label(clip.label),),
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
    """The prompts of a recipe and replicate, all of round 0."""
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


def figures(found: Sequence[tuple[Sequence[Draft], Tally]], *, in_run: bool) -> dict[str, Any]:
    """Diversity and label recall (means over replicates), number of captions, and how they came about.

    Args:
        found: drafts and tally of each replicate.
        in_run: whether a method of the run uses them, or they are measured for comparison only.
    """
    per_seed = []
    for drafts, _ in found:
        by_label: dict[str, list[str]] = {}
        for draft in drafts:
            by_label.setdefault(normalize_label(draft.label), []).append(draft.caption)
        per_seed.append(diversity(by_label))
    mean = {name: sum(one[name] for one in per_seed) / len(per_seed) for name in per_seed[0]}
    tally = sum((tally for _, tally in found), start=Tally())
    return {
        **mean,
        "captions": sum(one["captions"] for one in per_seed),
        "in_run": in_run,
        "how": tally.model_dump(mode="json"),
    }


def flat_figures(report: dict[str, dict[str, Any]], tally: Tally) -> dict[str, float | int | str]:
    """Diversity per caption source and counts of requests, for the run's page."""
    shown = ("distinct_1", "distinct_2", "self_bleu", "word_spread", "label_recall")
    return {f"{source}_{name}": report[source][name] for source in sorted(report) for name in shown} | {
        "repaired": tally.repaired,
        "replaced": tally.replaced,
        "refused": sum(tally.reasons.values()),
        "requests": tally.usage.requests,
        "requests_cached": tally.usage.cached,
        "input_tokens": tally.usage.input_tokens,
        "output_tokens": tally.usage.output_tokens,
        "cost": tally.usage.cost,
    }
