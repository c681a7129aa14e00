"""The idea of the stage: self-reflection, that is new captions for the clips that the filter rejected.

The writer sees the rejected caption, its CLAP score and elements of accepted captions, and writes another caption. Read
next: run.py (which clips a round revises; one item per recipe and replicate). Requests and checks are in
`common.captions`.
"""

from collections.abc import Mapping, Sequence

from common.captions.asking import Desk, extract_pools
from common.captions.pools import draw, joined, texts
from common.captions.records import Task
from common.config.captions import ReviseCaptionsConfig
from common.contracts.generation import Tally
from common.records.clips import Caption, GoldClip, Prompt, SyntheticClip, Written
from common.records.text import normalize_label


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
    """Write new prompts for the rejected clips of one recipe and replicate, ordered by clip id.

    New captions differ from those of the clips accepted so far. `number` is that of this round, from 1.
    """
    rejected = sorted(rejected, key=lambda clip: clip.clip_id)
    wanted = {label for clip in rejected for label in clip.labels}
    of_accepted = [(label, clip, clip.caption) for clip in accepted for label in clip.labels if label in wanted]
    without = wanted - {label for label, _, _ in of_accepted}
    # Elements come from the accepted captions, or from gold captions where none was accepted.
    of_gold = [
        (label, clip, captions[clip.clip_id].caption)
        for clip in train
        if clip.clip_id in captions
        for label in clip.labels
        if label in without
    ]
    pools, extracted = extract_pools(desk, [*of_accepted, *of_gold], seed=0)
    tasks = {}
    for clip in rejected:
        pool = joined(pools, clip.labels)
        shown = texts(draw(pool, settings.pool_share, clip.replicate, clip.clip_id, number))
        tasks[clip.clip_id] = Task(
            task_id=f"revise.{clip.clip_id}.{number}",
            prompt="revise",
            labels=tuple(map(normalize_label, clip.labels)),
            domain=domain,
            caption=clip.caption,
            score=None if clip.clap_score is None else round(clip.clap_score, 3),
            events=shown.events,
            scenes=shown.scenes,
            seed=clip.replicate,
        )
    taken: dict[frozenset[str], set[str]] = {}
    for clip in (*accepted, *rejected):
        taken.setdefault(frozenset(map(normalize_label, clip.labels)), set()).add(clip.caption)
    answers, tally = desk.ask(list(tasks.values()), taken)
    prompts = [_revised(clip, answers[tasks[clip.clip_id].task_id].captions[0], number) for clip in rejected]
    return prompts, extracted + tally


def _revised(clip: SyntheticClip, written: Written, number: int) -> Prompt:
    rejected = {
        "round": clip.round,
        "caption": clip.caption,
        "score": clip.clap_score,
        "margin": clip.clap_margin,
        "reason": clip.reason,
        "signal": clip.signal,
    }
    # A revision goes beyond the pool, so the clips behind the shown elements are not recorded as parents.
    parents, history = (clip.source_clip_id,), (*clip.history, rejected)
    return Prompt(**clip.descent | dict(written) | {"round": number, "parents": parents, "history": history})
