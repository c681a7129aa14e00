"""The idea of the stage: read and check every clip of a small dataset once, then split the clips without leaks.

This file lists a dataset, reads its clips, and bounds the share of bad ones. Read next: `clips.py` (decode, check and
store one file), `splitting.py` (test split, duplicates, warnings, replicates), `drawing.py` (draws by class or by
group), `health.py` (health.json), `run.py` (output folders), `doctor.py` (the same checks before a run).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from common.audio.file import AudioInfo
from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.contracts.gold import Drop
from common.datasets.labels import Notice
from common.datasets.listing import list_clips
from common.datasets.names import NameFinder
from common.datasets.rows import Listing, Row
from common.errors import DataError
from common.log import get_logger, track
from components.prepare_dataset.clips import Clip, check_ids, read_rows, store
from components.prepare_dataset.drawing import draw_candidates
from components.prepare_dataset.splitting import SHARED_SEED

HARMLESS = frozenset({"duplicate_row"})
"""Reasons that do not count as bad audio."""
_NAMED = 50
_ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.-]+:/")

log = get_logger("prepare_dataset")


@dataclass(frozen=True)
class Reading:
    """Result of reading a dataset; `unread` counts listed clips that are no candidates, see `limit_candidates`."""

    clips: list[Clip]
    dropped: list[Drop]
    labels: list[str]
    listed: int
    ignored_columns: list[str]
    ignored_files: list[str]
    unread: int = 0
    notices: tuple[Notice, ...] = ()


def copies(clips: Iterable[Clip]) -> list[list[Clip]]:
    """Sets of two or more clips with equal audio."""
    by_content: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_content[clip.content].append(clip)
    return [same for same in by_content.values() if len(same) > 1]


def most_candidates(settings: PrepareDatasetConfig, n: int | None) -> int | None:
    """Number of listed clips to read for `n` training clips, for training and validation each; None = all."""
    return None if n is None else max(settings.max_pool_clips, 2 * n)


def limit_candidates(rows: list[Row], spec: DatasetSpec, most: int | None) -> list[Row]:
    """Rows to read: all, or at most about `most` each of the official training and validation parts.

    An official test split is read whole. If the test split is still to be drawn, all rows are read.
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
    """Read every candidate once; store usable clips in `folder` if it is given.

    Args:
        folder: folder of stored clips; None = store nothing.
        n: training clips of a replicate, which limits the candidates; None = read all.

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
    dropped = [*listing.dropped, *_hinted([r for r in results if isinstance(r, Drop)], listing.rows)]
    return Reading(
        clips=clips,
        dropped=sorted(dropped, key=lambda drop: (drop.source, drop.reason)),
        labels=labels,
        listed=len(results) + len(listing.dropped) + unread,
        ignored_columns=listing.ignored_columns,
        ignored_files=listing.ignored_files,
        unread=unread,
        notices=tuple(listing.notices),
    )


def _hinted(dropped: list[Drop], rows: list[Row]) -> Iterator[Drop]:
    """Drops with what stands where an absent file is expected."""
    absent = {drop.source for drop in dropped if drop.reason == "missing_file"}
    paths, finder = {row.source: row.path for row in rows if row.source in absent}, NameFinder()
    for drop in dropped:
        hint = finder.hint(paths[drop.source]) if drop.source in absent else ""
        if drop.source in absent and _ADDRESS.match(drop.source):
            hint = "; an address is not fetched: download the file, and give its path"
        yield replace(drop, detail=drop.detail + hint)


def _demo(settings: PrepareDatasetConfig, folder: Path | None) -> Iterator[Clip | Drop]:
    from common.procedural.demo import demo_clips

    for made in demo_clips():
        row = Row(Path(made.name), made.name, made.label, made.split)
        info = AudioInfo("procedural", "FLOAT", made.sample_rate_hz, 1, len(made.audio))
        yield store(row, made.audio[None], info, settings, folder)


def check_quality(reading: Reading, settings: PrepareDatasetConfig) -> None:
    """Fail if too many clips are bad.

    Raises DataError: no clip is usable, or too large a share is bad; the message names bad clips.
    """
    bad = [drop for drop in reading.dropped if drop.reason not in HARMLESS]
    names = "; ".join(f"{drop.source} ({drop.reason})" for drop in bad[:_NAMED])
    names += f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    first = {drop.reason: drop for drop in reversed(bad)}
    names += "".join(f". {reason}: {drop.detail}" for reason, drop in sorted(first.items()))
    if not reading.clips:
        raise DataError(f"none of the {reading.listed} listed clips can be used: {names}")
    total = len(reading.clips) + len(bad)
    if total >= settings.bad_fraction_from and len(bad) > settings.max_bad_fraction * total:
        raise DataError(
            f"{len(bad)} of {total} clips ({len(bad) / total:.1%}) cannot be used; at most "
            f"{settings.max_bad_fraction:.0%} may be left out. Replace or remove them, or raise "
            f"prepare_dataset.max_bad_fraction: {names}"
        )
