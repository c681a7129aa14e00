"""All clips of a dataset: listed, decoded, checked, and the bad ones set aside within a limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.audio.signal import AudioInfo
from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.listing import list_clips
from common.datasets.rows import Drop, Listing, Row
from common.errors import DataError
from common.log import get_logger, track
from components.prepare_dataset.clips import Clip, check_ids, from_json, read_rows, store, to_json
from components.prepare_dataset.drawing import draw_candidates
from components.prepare_dataset.splits import SHARED_SEED

HARMLESS = frozenset({"duplicate_row"})
"""Reasons that say nothing about the quality of the audio."""
_NAMED = 50

log = get_logger("prepare_dataset")


@dataclass(frozen=True)
class Reading:
    """What was read.

    Attributes:
        clips: usable clips, in the order of the dataset.
        dropped: what is left out.
        labels: all classes listed, sorted.
        listed: number of clips listed.
        ignored_columns, ignored_files: see `Listing`.
        unread: clips listed that are not among the candidates; see `limit_candidates`.
    """

    clips: list[Clip]
    dropped: list[Drop]
    labels: list[str]
    listed: int
    ignored_columns: list[str]
    ignored_files: list[str]
    unread: int = 0

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**vars(self), "clips": to_json(self.clips), "dropped": to_json(self.dropped)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reading:
        """The inverse of `to_json`."""
        clips = [item for item in from_json(value["clips"]) if isinstance(item, Clip)]
        dropped = [item for item in from_json(value["dropped"]) if isinstance(item, Drop)]
        return cls(**{**value, "clips": clips, "dropped": dropped})


def copies(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Clips of equal audio, two or more at a time."""
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_content[clip.content].append(clip)
    return [same for same in by_content.values() if len(same) > 1]


def most_candidates(settings: PrepareDatasetConfig, n: int | None) -> int | None:
    """How many listed clips of training, and of validation, are read for `n` training clips; None = all."""
    return None if n is None else max(settings.max_pool_clips, 2 * n)


def limit_candidates(rows: list[Row], spec: DatasetSpec, most: int | None) -> list[Row]:
    """The rows to read: all, or of official training and validation parts at most about `most` each.

    The test split is read whole, and so is all that one is still to be drawn from.
    """
    given = any(row.split == "test" for row in rows) and not isinstance(spec.test, float)
    if most is None or not given:
        return rows
    kept = {row.source for row in rows if row.split == "test"}
    for parts in ((None, "train"), ("val",)):
        kept |= {row.source for row in draw_candidates([r for r in rows if r.split in parts], most, SHARED_SEED)}
    return [row for row in rows if row.source in kept]


def read_dataset(
    spec: DatasetSpec, settings: PrepareDatasetConfig, folder: Path | None, workers: int, n: int | None = None
) -> Reading:
    """Read every candidate once; store the usable ones in `folder` when one is given.

    Args:
        spec: the dataset.
        settings: of the stage.
        folder: for the stored clips.
        workers: threads.
        n: training clips of a replicate; None = all are read.

    Raises:
        DataError: the dataset cannot be listed.
        StorageError: the disk is full.
    """
    unread = 0
    if spec.reader == "procedural_demo":
        listing, results = Listing(), list(_demo(settings, folder))
        labels = sorted({result.label for result in results if isinstance(result, Clip)})
    else:
        listing = list_clips(spec)
        rows = limit_candidates(listing.rows, spec, most_candidates(settings, n))
        unread = len(listing.rows) - len(rows)
        results = list(track(read_rows(rows, settings, folder, workers), log, "reading", len(rows)))
        labels = sorted({label for row in listing.rows for label in row.labels})
    clips = [result for result in results if isinstance(result, Clip)]
    check_ids(clips)
    dropped = [*listing.dropped, *(result for result in results if isinstance(result, Drop))]
    return Reading(
        clips=clips,
        dropped=sorted(dropped, key=lambda drop: (drop.source, drop.reason)),
        labels=labels,
        listed=len(results) + len(listing.dropped) + unread,
        ignored_columns=listing.ignored_columns,
        ignored_files=listing.ignored_files,
        unread=unread,
    )


def _demo(settings: PrepareDatasetConfig, folder: Path | None) -> Iterator[Clip | Drop]:
    from common.procedural import demo_clips

    for made in demo_clips():
        row = Row(Path(made.name), made.name, made.label, made.split)
        info = AudioInfo("procedural", "FLOAT", made.sample_rate_hz, 1, len(made.audio))
        yield store(row, made.audio[None], info, settings, folder)


def check_quality(reading: Reading, settings: PrepareDatasetConfig) -> None:
    """Fail when too many clips are bad.

    Raises:
        DataError: naming the bad clips.
    """
    bad = [drop for drop in reading.dropped if drop.reason not in HARMLESS]
    names = "; ".join(f"{drop.source} ({drop.reason})" for drop in bad[:_NAMED])
    names += f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    if not reading.clips:
        raise DataError(f"none of the {reading.listed} listed clips can be used: {names}")
    total = len(reading.clips) + len(bad)
    if total >= settings.bad_fraction_from and len(bad) > settings.max_bad_fraction * total:
        raise DataError(
            f"{len(bad)} of {total} clips ({len(bad) / total:.1%}) cannot be used; at most "
            f"{settings.max_bad_fraction:.0%} may be left out. Replace or remove them, or raise "
            f"prepare_dataset.max_bad_fraction: {names}"
        )
