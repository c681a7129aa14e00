"""The idea of the stage: write several new captions for each gold clip, so that the generated clips vary.

A method names its caption source: the label's template, or a writer with the prompt `label_only`, `plain` or `mixcap`.
MixCap first extracts acoustic elements from the captions of each label, then shows the writer a random share of them.
Read next: `run.py` (sources and replicates, kept in the item store; prompts and figures).
"""

from collections.abc import Mapping, Sequence

from common.captions.asking import Desk, extract_pools
from common.captions.metrics import diversity, diversity_by_label, mean_figures
from common.captions.pools import Pool, draw, joined, parents, texts
from common.captions.records import Task
from common.captions.writers import Written
from common.config.captions import AugmentCaptionsConfig
from common.config.recipes import CaptionSource
from common.contracts.generation import SourceAccount, Tally
from common.errors import DataError
from common.records.clips import Caption, GoldClip, Prompt, template_prompts
from common.records.text import normalize_label


def write_drafts(
    source: CaptionSource,
    clips: Sequence[GoldClip],
    captions: Mapping[str, Caption],
    desk: Desk,
    settings: AugmentCaptionsConfig,
    *,
    factor: int,
    domain: str,
    replicate: int,
) -> tuple[list[Prompt], Tally]:
    """Prompts of one replicate, which all recipes with this caption source share; `recipe` is the source.

    The order of `clips` does not matter. Raises DataError: a clip has no caption.
    """
    clips = sorted(clips, key=lambda clip: clip.clip_id)
    _check_captioned(clips, captions)
    if source == "template":
        return template_prompts(clips, replicate, factor, source), Tally()
    pools, extracted = dict[str, Pool](), Tally()
    if source == "mixcap":
        rows = [(label, clip, captions[clip.clip_id].caption) for clip in clips for label in clip.labels]
        pools, extracted = extract_pools(desk, rows, replicate)
    tasks: dict[str, tuple[Task, GoldClip, int, Pool]] = {}
    for clip in clips:
        whole = joined(pools, clip.labels)
        for number, first in enumerate(range(0, factor, settings.captions_per_call)):
            pool = draw(whole, settings.pool_share, replicate, clip.clip_id, number)
            shown = texts(pool)
            task = Task(
                task_id=f"{source}.{clip.clip_id}.{number}",
                prompt=source,
                labels=tuple(map(normalize_label, clip.labels)),
                domain=domain,
                caption="" if source == "label_only" else captions[clip.clip_id].caption,
                events=shown.events,
                scenes=shown.scenes,
                seed=replicate,
                count=min(settings.captions_per_call, factor - first),
            )
            tasks[task.task_id] = task, clip, first, pool
    answers, tally = desk.ask([task for task, *_ in tasks.values()])
    drafts = [
        Prompt.of(
            clip,
            recipe=source,
            replicate=replicate,
            index=first + offset,
            **dict(written),
            parents=parents(written.caption, pool, clip.clip_id),
        )
        for task_id, (_, clip, first, pool) in tasks.items()
        for offset, written in enumerate(answers[task_id].captions)
    ]
    return drafts, extracted + tally


def _check_captioned(clips: Sequence[GoldClip], captions: Mapping[str, Caption]) -> None:
    missing = [clip.clip_id for clip in clips if clip.clip_id not in captions]
    if missing:
        raise DataError(
            f"{len(missing)} training clips have no caption, for example {missing[0]!r}; expected one for each; "
            "captions and gold must come from the same run"
        )


def source_account(found: Sequence[Written], *, in_run: bool) -> SourceAccount:
    """Diversity and label recall (means over replicates), number of captions, and their origin.

    Args:
        in_run: whether a method of the run uses the captions; otherwise they only serve comparison.
    """
    per_replicate = [_by_label(written.prompts) for written in found]
    whole = [diversity(captions) for captions in per_replicate]
    by_label = [diversity_by_label(captions) for captions in per_replicate]
    labels = sorted({label for one in by_label for label in one})
    return SourceAccount.model_validate(
        {
            **mean_figures(whole),
            "captions": sum(one["captions"] for one in whole),
            "by_label": {label: mean_figures([one[label] for one in by_label if label in one]) for label in labels},
            "in_run": in_run,
            "how": sum((written.tally for written in found), start=Tally()),
        }
    )


def _by_label(drafts: Sequence[Prompt]) -> dict[str, list[str]]:
    """Captions by label; a caption with several labels counts for each."""
    captions: dict[str, list[str]] = {}
    for draft in drafts:
        for label in draft.labels:
            captions.setdefault(normalize_label(label), []).append(draft.caption)
    return captions


def flat_figures(report: Mapping[CaptionSource, SourceAccount], how: Tally, now: Tally) -> dict[str, float | int]:
    """Diversity per caption source and the origin of the captions, for the run's page.

    `how` counts all captions, `now` those of this execution.
    """
    shown = ("distinct_1", "distinct_2", "self_bleu", "word_spread", "label_recall")
    diverse = {f"{source}_{name}": getattr(report[source], name) for source in sorted(report) for name in shown}
    return diverse | how.figures(now)
