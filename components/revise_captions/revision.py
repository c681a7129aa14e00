"""Self-reflection: other captions for what the filter rejected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.captions.asking import Desk
from common.captions.extraction import extract
from common.captions.pools import Pool, build_pools, draw, texts
from common.captions.records import Tally, Task
from common.config.captions import ReviseCaptionsConfig
from common.records import Caption, GoldClip, Prompt, SyntheticClip
from common.text import normalize_label


def revise(
    rejected: Sequence[SyntheticClip],
    accepted: Sequence[SyntheticClip],
    train: Sequence[GoldClip],
    captions: Mapping[str, Caption],
    desk: Desk,
    settings: ReviseCaptionsConfig,
    *,
    domain: str,
    number: int,
) -> tuple[list[Prompt], Tally]:
    """New prompts for the rejected clips of one recipe and replicate, by clip id.

    Args:
        rejected: what is to be revised.
        accepted: accepted so far, of the same recipe and replicate: what captions shall go beyond.
        train: gold training clips of the replicate; stand in for a label of which nothing was accepted.
        captions: of the gold clips, by clip id.
        desk: who writes and checks.
        settings: share of the pool.
        domain: of the dataset.
        number: of this round, from 1.
    """
    rejected = sorted(rejected, key=lambda clip: clip.clip_id)
    wanted = {clip.label_id for clip in rejected}
    pools, extracted = _pools(wanted, accepted, train, captions, desk)
    tasks = {}
    for clip in rejected:
        shown = texts(draw(pools.get(clip.label_id, ()), settings.pool_share, clip.seed, clip.clip_id, number))
        tasks[clip.clip_id] = Task(
            task_id=f"revise.{clip.clip_id}.{number}",
            scope=str(clip.label_id),
            prompt="revise",
            labels=(normalize_label(clip.label),),
            domain=domain,
            caption=clip.caption,
            score=None if clip.clap_score is None else round(clip.clap_score, 3),
            events=shown.events,
            scenes=shown.scenes,
            seed=clip.seed,
        )
    taken: dict[str, set[str]] = {}
    for clip in (*accepted, *rejected):
        taken.setdefault(str(clip.label_id), set()).add(clip.caption)
    answers, tally = desk.ask(list(tasks.values()), taken)
    prompts = []
    for clip in rejected:
        written = answers[tasks[clip.clip_id].task_id].captions[0]
        prompts.append(_prompt(clip, written.caption, written.writer, written.prompt_hash, number))
    return prompts, extracted + tally


def _pools(
    wanted: set[int],
    accepted: Sequence[SyntheticClip],
    train: Sequence[GoldClip],
    captions: Mapping[str, Caption],
    desk: Desk,
) -> tuple[dict[int, Pool], Tally]:
    texts_of: list[tuple[int, str, str, str]] = [
        (clip.label_id, clip.clip_id, clip.label, clip.caption) for clip in accepted if clip.label_id in wanted
    ]
    without = wanted - {label_id for label_id, _, _, _ in texts_of}
    for gold in train:
        if gold.label_id in without and gold.clip_id in captions:
            texts_of.append((gold.label_id, gold.clip_id, gold.label, captions[gold.clip_id].caption))
    found, tally = extract(desk, [(label, caption) for _, _, label, caption in texts_of])
    elements = ((label_id, clip_id, found[label, text]) for label_id, clip_id, label, text in texts_of)
    return build_pools(elements, seed=0), tally


def _prompt(clip: SyntheticClip, caption: str, writer: str, prompt_hash: str, number: int) -> Prompt:
    rejected = {
        "round": clip.round,
        "caption": clip.caption,
        "score": clip.clap_score,
        "margin": clip.clap_margin,
        "reason": clip.reason,
        "signal": clip.signal,
    }
    return Prompt(
        prompt_id=f"{clip.recipe}.s{clip.seed}.{clip.source_clip_id}.{clip.index}.r{number}",
        recipe=clip.recipe,
        seed=clip.seed,
        source_clip_id=clip.source_clip_id,
        index=clip.index,
        round=number,
        label=clip.label,
        label_id=clip.label_id,
        caption=caption,
        writer=writer,
        prompt_hash=prompt_hash,
        # A revision goes beyond the pool, so the elements of other clips that it was made from are gone.
        parents=(clip.source_clip_id,),
        history=(*clip.history, rejected),
    )
