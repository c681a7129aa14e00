"""Data health: facts about a dataset, clips left out, and warnings."""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from common.contracts.gold import Drop, Durations, Facts, Findings, Health, HeldOutHealth, Noted
from common.datasets.labels import Notice
from components.prepare_dataset.clips import Clip
from components.prepare_dataset.dataset import Reading, copies
from components.prepare_dataset.splitting import Splits

F = TypeVar("F", bound=Facts)

_LISTED = 200
"""Largest number of sources listed; the full number is given beside the list."""


def _facts(kind: type[F], clips: Sequence[Clip], dropped: Sequence[Drop], warnings: list[str], **more: Any) -> F:
    """Build `kind` with the facts on `clips` and the user's files behind them."""
    seconds = [clip.file_duration_s for clip in clips]
    sources: dict[str, list[str]] = {}
    for clip in clips:
        for note in clip.notes:
            sources.setdefault(note, []).append(clip.source)
    return kind(
        clips=len(clips),
        classes=_counted(label for clip in clips for label in clip.labels),
        sample_rates_hz=_counted(clip.file_rate_hz for clip in clips),
        channels=_counted(clip.file_channels for clip in clips),
        formats=_counted(f"{clip.container} {clip.encoding}" for clip in clips),
        groups=len({clip.group for clip in clips if clip.group}),
        duration_s=Durations(
            shortest=round(min(seconds, default=0.0), 3),
            longest=round(max(seconds, default=0.0), 3),
            median=round(statistics.median(seconds), 3) if seconds else 0.0,
            total=round(sum(seconds), 1),
        ),
        dropped=list(dropped),
        warnings=warnings,
        notes={note: Noted(clips=len(own), sources=own[:_LISTED]) for note, own in sorted(sources.items())},
        **more,
    )


def findings(reading: Reading) -> Findings:
    """What is known of a dataset that was not split."""
    return _facts(
        Findings,
        reading.clips,
        reading.dropped,
        [notice.message for notice in reading.notices],
        counts={"listed": reading.listed, "usable": len(reading.clips), "dropped": len(reading.dropped)},
        duplicates=[[clip.source for clip in same] for same in copies(reading.clips)],
        ignored_columns=reading.ignored_columns,
        ignored_files=reading.ignored_files,
    )


def data_health(reading: Reading, splits: Splits) -> Health:
    """health.json of the gold set; independent of the clips of the test split."""
    held_back = {clip.clip_id for clip in [*splits.test, *splits.test_copies]}
    clips = [clip for clip in reading.clips if clip.clip_id not in held_back]
    unread = [drop for drop in reading.dropped if not _is_of_test(drop, splits)]
    warnings = [warning for warning in splits.warnings if not warning.of_test]
    listed = reading.listed - len(held_back) - (len(reading.dropped) - len(unread))
    return _health(reading, splits, clips, [*unread, *splits.dropped], warnings, listed)


def test_health(reading: Reading, splits: Splits) -> HeldOutHealth:
    """health.json of the test split."""
    dropped = [*(drop for drop in reading.dropped if _is_of_test(drop, splits)), *splits.test_dropped]
    warnings = [warning for warning in splits.warnings if warning.of_test]
    return _facts(
        HeldOutHealth,
        splits.test,
        dropped,
        [warning.message for warning in warnings],
        test_split_by=splits.test_by,
        dropped_by_reason=_counted(drop.reason for drop in dropped),
        warning_codes=[warning.code for warning in warnings],
    )


def whole_health(reading: Reading, splits: Splits) -> Health:
    """As `data_health`, but over all splits together, for a look at the dataset before a run."""
    dropped = [*reading.dropped, *splits.dropped, *splits.test_dropped]
    found = _health(reading, splits, reading.clips, dropped, splits.warnings, reading.listed)
    counts = list(found.counts.items())
    counts.insert(list(found.counts).index("pool"), ("test", len(splits.test)))
    return found.model_copy(update={"counts": dict(counts)})


def _is_of_test(drop: Drop, splits: Splits) -> bool:
    return drop.split == "test" and splits.test_by == "official"


def _health(
    reading: Reading,
    splits: Splits,
    clips: Sequence[Clip],
    dropped: Sequence[Drop],
    warnings: Sequence[Notice],
    listed: int,
) -> Health:
    cut = [clip for clip in clips if "cut" in clip.notes]
    train, validation = next(iter(splits.replicates.values()))
    duplicates = copies(clips)
    notices = [*reading.notices, *warnings]
    mixed = [same for same in duplicates if len({frozenset(clip.labels) for clip in same}) > 1]
    if mixed:
        first, other = (f"{clip.source} ({', '.join(clip.labels)})" for clip in mixed[0][:2])
        message = f"{len(mixed)} recording(s) are listed with two labels, such as {first} and {other}"
        notices.append(Notice("duplicates_of_other_class", message))
    if everywhere := sorted(set.intersection(*(set(clip.labels) for clip in clips))):
        message = (
            f"every clip outside the test split has the label {', '.join(map(repr, everywhere))}: nothing can be "
            "learnt of it, and mAP counts it as right; leave it out, or add clips without it"
        )
        notices.append(Notice("label_everywhere", message))
    if reading.unread:
        message = (
            f"{reading.unread} listed clips outside the test split were not read: training and validation are drawn "
            "from the others, which were drawn by class; raise prepare_dataset.max_pool_clips to read more"
        )
        notices.append(Notice("pool_limited", message))
    return _facts(
        Health,
        clips,
        dropped,
        [notice.message for notice in notices],
        counts={
            "listed": listed,
            "usable": len(clips),
            "dropped": len(dropped),
            "train": len(train),
            "val": len(validation),
            "pool": len(splits.pool),
            "oracle": len(splits.oracle),
        },
        dropped_by_reason=_counted(drop.reason for drop in dropped),
        warning_codes=[notice.code for notice in notices],
        duplicates=[[clip.source for clip in same] for same in duplicates[:_LISTED]],
        duplicate_sets=len(duplicates),
        ignored_columns=reading.ignored_columns,
        ignored_files=reading.ignored_files[:_LISTED],
        ignored_files_count=len(reading.ignored_files),
        clips_cut=len(cut),
        seconds_cut=round(sum(clip.file_duration_s - clip.duration_s for clip in cut), 1),
        test_split_by=splits.test_by,
        validation_from=splits.validation,
        validation_split_by=splits.validation_by,
        validation_from_training=splits.validation == "training",
    )


def _counted(values: Iterable[str | int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}
