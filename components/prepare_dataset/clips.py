"""Reading of listed files: decode, check, convert to the stored form, and record the facts."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.audio.file import AudioError, AudioInfo
from common.audio.signal import check_signal, is_silent, pcm16, read_audio, resample, rms_dbfs, to_mono, write_flac
from common.config.dataset import PrepareDatasetConfig
from common.contracts.gold import Drop
from common.datasets.rows import Row
from common.errors import DataError, SynthioError, one_line
from common.runtime.split_guard import RUNNING

_CANCEL_DB = 10.0
"""Loss of level in the mean of the channels from which on they cancel each other."""
_LOW_RATE_HZ = 4000
"""Lower rates leave too little of any sound; mostly the header of such a file is wrong."""
_WAV = ("wav", "wave", "bwf", "rf64")
_SUFFIXES = {
    **dict.fromkeys(("WAV", "WAVEX", "RF64"), _WAV),
    "OGG": ("ogg", "oga", "opus"),
    "AIFF": ("aif", "aiff", "aifc"),
    "AU": ("au", "snd"),
    "MP3": ("mp3", "mpga", "mp2"),
    "NIST": ("nist", "sph"),
}
"""Usual suffixes by container, where they are not just its name."""


@dataclass(frozen=True)
class Clip:
    """A sound clip in its stored form, with facts about the user's file.

    Attributes:
        clip_id: hash of the relative path, never of the content.
        content: hash of the stored samples; equal for equal audio.
        notes: codes of oddities, none of which makes the clip unusable.
        further_labels: labels beside the main one, in a multi-label dataset.
    """

    clip_id: str
    source: str
    label: str
    split: str | None
    group: str | None
    duration_s: float
    content: str
    file_duration_s: float
    container: str
    encoding: str
    file_rate_hz: int
    file_channels: int
    notes: tuple[str, ...]
    further_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Main label and further labels."""
        return (self.label, *self.further_labels)


def read_row(row: Row, settings: PrepareDatasetConfig, folder: Path | None) -> Clip | Drop:
    """Decode and check a listed file; store it as `folder/{clip_id}.flac` if a folder is given.

    Whatever goes wrong with the file leaves out this clip alone.

    Raises:
        DataError: it is a test clip of another run.
        StorageError: the folder is full or not writable.
    """
    try:
        audio, info = read_audio(row.path, settings.max_duration_s)
        suffix = row.path.suffix.lower().lstrip(".")
        expected = _SUFFIXES.get(info.container, (info.container.lower(),))
        notes = ["suffix_mismatch"] if suffix and suffix not in expected else []
        return store(row, audio, info, settings, folder, notes)
    except AudioError as error:
        return Drop(row.source, error.reason, str(error), row.split)
    except SynthioError:
        raise
    except Exception as error:
        return Drop(row.source, "unreadable", f"{row.path}: {one_line(error)}; export the file again", row.split)


def store(
    row: Row,
    audio: np.ndarray,
    info: AudioInfo,
    settings: PrepareDatasetConfig,
    folder: Path | None,
    notes: Iterable[str] = (),
) -> Clip | Drop:
    """Check decoded audio `(C, T)`, convert it to the stored form, and store it if a folder is given."""
    seconds = audio.shape[-1] / info.sample_rate_hz
    if seconds < settings.min_duration_s:
        detail = (
            f"{audio.shape[-1]} samples ({seconds * 1000:.1f} ms); expected at least {settings.min_duration_s:g} s; "
            "lower prepare_dataset.min_duration_s for shorter sounds"
        )
        return Drop(row.source, "too_short", detail, row.split)
    keep = audio if settings.channels == 2 and audio.shape[0] == 2 else to_mono(audio)
    if is_silent(keep, settings.silence_dbfs):
        detail = (
            f"nothing above {settings.silence_dbfs:g} dBFS; lower prepare_dataset.silence_dbfs for quiet recordings"
        )
        return Drop(row.source, "silent", detail, row.split)
    found = [*notes, *([] if (signal := check_signal(to_mono(keep), info.sample_rate_hz)) == "ok" else [signal])]
    found += ["scaled_down"] if np.abs(keep).max() > 1 else []
    if keep.ndim == 1 and rms_dbfs(audio.mean(axis=0)) < rms_dbfs(audio) - _CANCEL_DB:
        found.append("channels_cancel")
    found += ["open_ended"] if info.open_ended else []
    found += ["low_rate"] if info.sample_rate_hz < _LOW_RATE_HZ else []
    keep = resample(keep, info.sample_rate_hz, settings.storage_sample_rate_hz)
    peak = float(np.abs(keep).max())
    if peak > 1:
        # Float files and the ripple of resampling may exceed full scale; 16 bits cannot.
        keep = keep / np.float32(peak)
    found += ["cut"] if info.duration_s > seconds + 0.01 else []
    if folder is not None:
        write_flac(folder / f"{row.clip_id}.flac", keep, settings.storage_sample_rate_hz)
    return Clip(
        clip_id=row.clip_id,
        source=row.source,
        label=row.label,
        split=row.split,
        group=row.group,
        duration_s=keep.shape[-1] / settings.storage_sample_rate_hz,
        content=hashlib.sha256(pcm16(keep).tobytes()).hexdigest(),
        file_duration_s=info.duration_s,
        container=info.container,
        encoding=info.encoding,
        file_rate_hz=info.sample_rate_hz,
        file_channels=info.channels,
        notes=tuple(dict.fromkeys(found)),
        further_labels=row.further_labels,
    )


def read_rows(
    rows: list[Row], settings: PrepareDatasetConfig, folder: Path | None, workers: int
) -> Iterator[Clip | Drop]:
    """`read_row` over all rows, in order, in `workers` threads; decoding releases the GIL."""
    # Its threads run for the stage too, so that a refusal names it.
    pool = ThreadPoolExecutor(workers, initializer=RUNNING.set, initargs=(RUNNING.get(),))
    try:
        yield from pool.map(lambda row: read_row(row, settings, folder), rows)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def check_ids(clips: list[Clip]) -> None:
    """Raise `DataError` if two paths have the same clip id."""
    counts = Counter(clip.clip_id for clip in clips)
    twice = [clip.source for clip in clips if counts[clip.clip_id] > 1]
    if twice:
        raise DataError(f"the paths {', '.join(map(repr, twice[:2]))} have the same hash by chance; rename one of them")
