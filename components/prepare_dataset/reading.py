"""All clips of a dataset: listed, decoded, checked, and the bad ones set aside within a limit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.audio import AudioInfo
from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.dataset_listing import Drop, Listing, Row, list_clips
from common.errors import DataError
from common.log import get_logger, track
from components.prepare_dataset.clips import Clip, check_ids, from_json, read_rows, store, to_json

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
    """

    clips: list[Clip]
    dropped: list[Drop]
    labels: list[str]
    listed: int
    ignored_columns: list[str]
    ignored_files: list[str]

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


def read_dataset(spec: DatasetSpec, settings: PrepareDatasetConfig, folder: Path | None, workers: int) -> Reading:
    """Read every clip once; store the usable ones in `folder` when one is given.

    Raises:
        DataError: the dataset cannot be listed.
        StorageError: the disk is full.
    """
    if spec.reader == "procedural_demo":
        listing, results = Listing(), list(_demo(settings, folder))
        labels = sorted({result.label for result in results if isinstance(result, Clip)})
    else:
        listing = list_clips(spec)
        made = read_rows(listing.rows, settings, folder, workers)
        results = list(track(made, log, "reading", len(listing.rows)))
        labels = sorted({label for row in listing.rows for label in row.labels})
    clips = [result for result in results if isinstance(result, Clip)]
    check_ids(clips)
    dropped = [*listing.dropped, *(result for result in results if isinstance(result, Drop))]
    return Reading(
        clips=clips,
        dropped=sorted(dropped, key=lambda drop: (drop.source, drop.reason)),
        labels=labels,
        listed=len(results) + len(listing.dropped),
        ignored_columns=listing.ignored_columns,
        ignored_files=listing.ignored_files,
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
