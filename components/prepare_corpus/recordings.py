"""Sources of captioned recordings: a folder or tar shards, local or on S3."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from common.archives import ArchiveLimits, read_members
from common.audio import AUDIO_SUFFIXES
from common.audio.file import AudioError
from common.audio.signal import check_signal, loudest_window, read_audio, resample, to_mono
from common.config.corpus import PrepareCorpusConfig
from common.errors import SynthioError, one_line
from common.storage import open_store, open_uri, split_uri
from common.storage.hashing import hash_file, hash_json
from common.storage.items import ItemStore
from components.prepare_corpus.captions import detect_format, formats, read_captions
from components.prepare_corpus.excluded import ExcludedIds
from components.prepare_corpus.index import CaptionIndex, IndexRow, build_index, check_not_empty, listing_digest
from components.prepare_corpus.listing import audio_files, local_captions, tar_shards
from components.prepare_corpus.sources import Source, check_dropped, shard_size, to_channels
from components.prepare_corpus.survey import Dropped, SourceClip, Survey

_BESIDE_AUDIO = (".json", ".txt", ".csv", ".cls")
"""Suffixes of files that WebDataset shards hold beside audio; they are skipped."""
_LIMITS = ArchiveLimits(members=10_000_000)
_CHUNK = 2**20
_UNUSABLE = ("nan", "silence", "dc")
"""Signal defects that exclude a clip. Clipping and clicks do not: uploads often have them, and a model learns them."""


def open_recordings(
    settings: PrepareCorpusConfig, seed: int, excluded_files: tuple[str, ...], items: ItemStore
) -> Source:
    """Folder or tar shards named in the settings, with the index of their captions, built unless it exists.

    Raises DataError: captions or audio cannot be read, or too many captions are unusable or name absent audio.
    """
    root = str(settings.audio_dir)
    captions = local_captions(str(settings.captions_file), items)
    kind = detect_format(captions) if settings.captions_format == "auto" else settings.captions_format
    excluded = ExcludedIds.read(excluded_files)
    tars = tar_shards(root, seed) if settings.source == "tar" else None
    read = [captions, *(captions.with_name(name) for name in formats()[kind].beside)]
    scratch = items.scratch_dir(
        captions=[hash_file(path) if path.is_file() else None for path in read],
        format=kind,
        excluded=excluded.digest,
        seed=seed,
        audio=listing_digest(audio_files(root)) if tars is None else None,
    )
    index = CaptionIndex(scratch / "index.sqlite")
    if not index.path.is_file():
        build_index(
            index.path,
            partial(read_captions, captions, kind, seed=seed),
            excluded.__contains__,
            seed,
            root=root,
            files=partial(audio_files, root) if tars is None else None,
        )
    survey = index.survey()
    check_dropped(survey.dropped, survey.captions, settings.max_bad_fraction)
    check_not_empty(index, str(settings.captions_file))
    return FolderSource(settings, seed, index) if tars is None else TarSource(settings, seed, index, tars)


@dataclass(frozen=True)
class FolderSource:
    """Audio files in shuffled order; a shard holds `clips_per_shard` of them."""

    config: PrepareCorpusConfig
    seed: int
    index: CaptionIndex

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.index.clips() // self._size)

    @property
    def _size(self) -> int:
        return shard_size(self.index.clips(), self.config.clips_per_shard)

    def key(self, number: int) -> dict[str, object]:
        """Captions, and names, sizes and times of the files; objects on S3 are identified by name only."""
        rows = self._rows(number)
        root = open_store(str(self.config.audio_dir))
        versions = [_version(root.local_path(str(row.file))) for row in rows]
        return {**_key(self.config, self.seed), "rows": hash_json([list(row) for row in rows]), "files": versions}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`; a file with several captions is read once."""
        root = open_store(str(self.config.audio_dir))
        last: tuple[str, np.ndarray | AudioError] | None = None
        place = 0
        with tempfile.TemporaryDirectory(prefix="synthio-audio-") as folder:
            for row in self._rows(number):
                file = str(row.file)
                place = place + 1 if last is not None and last[0] == file else 0
                if last is None or last[0] != file:
                    path = root.local_path(file)
                    if path is None:
                        path = Path(folder) / f"clip{posixpath.splitext(file)[1]}"
                        root.download(file, path)
                    elif not _is_inside(path, Path(str(root.local_path("")))):
                        dropped.add("outside", f"{path} leads out of {root.uri}; put the file itself there")
                        continue
                    last = file, _read(self.config, path, f"{root.uri}/{file}")
                if isinstance(last[1], AudioError):
                    dropped.add(_code(last[1]), str(last[1]))
                    continue
                yield SourceClip(_sample(f"{row.clip:09d}", place), last[1], row.caption, row.label)

    def captions(self) -> Iterator[str]:
        """All captions."""
        return self.index.captions()

    def survey(self) -> Survey:
        """Counts of the index."""
        return self.index.survey()

    def absent(self, found: int) -> int:
        """Zero: the index has already counted them."""
        return 0

    def _rows(self, number: int) -> list[IndexRow]:
        return self.index.between(number * self._size, (number + 1) * self._size)


@dataclass(frozen=True)
class TarSource:
    """Tar shards, plain or compressed; each becomes one shard of the corpus."""

    config: PrepareCorpusConfig
    seed: int
    index: CaptionIndex
    tars: tuple[str, ...]

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.tars)

    def key(self, number: int) -> dict[str, object]:
        """Name, size and time of the tar, and the caption index."""
        store, name = split_uri(self.tars[number])
        opened = open_store(store)
        version = [opened.size(name), *_version(opened.local_path(name))]
        return {**_key(self.config, self.seed), "tar": [name, version], "captions": self.index.path.parent.name}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of tar `number` that have captions, in the order of the tar."""
        uri = self.tars[number]
        lookup = self.index.lookup(self.seed)
        with tempfile.TemporaryDirectory(prefix="synthio-audio-") as folder, open_uri(uri) as stream:
            members = read_members(_Named(stream, uri), (*AUDIO_SUFFIXES, *_BESIDE_AUDIO), _LIMITS)  # type: ignore[arg-type]
            for place, (name, file) in enumerate(members):
                suffix = posixpath.splitext(name)[1].lower()
                rows = lookup.of(name) if suffix in AUDIO_SUFFIXES else []
                if not rows:
                    continue
                path = Path(folder) / f"clip{suffix}"
                _write(path, file)
                audio = _read(self.config, path, f"{uri}, member {name}")
                for again, row in enumerate(rows):
                    if isinstance(audio, AudioError):
                        dropped.add(_code(audio), str(audio))
                    else:
                        key = _sample(f"{number:06d}{place:07d}", again)
                        yield SourceClip(key, audio, row.caption, row.label)

    def captions(self) -> Iterator[str]:
        """All captions."""
        return self.index.captions()

    def survey(self) -> Survey:
        """Counts of the index."""
        return self.index.survey()

    def absent(self, found: int) -> int:
        """Number of captions without a tar member."""
        return max(0, self.index.rows() - found)


class _Named:
    """A stream with a name for error messages."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self.read = stream.read


def _key(config: PrepareCorpusConfig, seed: int) -> dict[str, object]:
    names = {"source", "audio_dir", "durations_s", "sample_rate_hz", "channels"}
    return {"settings": config.model_dump(mode="json", include=names), "seed": seed}


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a path leads to a place below `root`; one that cannot be followed is left to its reader."""
    try:
        return root.resolve() in path.resolve().parents
    except (OSError, RuntimeError, ValueError):
        return True


def _version(path: Path | None) -> list[int]:
    if path is None:
        return []
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [-1]
    return [status.st_size, status.st_mtime_ns]


def _sample(key: str, again: int) -> str:
    return f"{key}-{again}" if again else key


def _code(error: AudioError) -> str:
    return "absent_audio" if error.reason == "missing_file" else error.reason


def _read(config: PrepareCorpusConfig, path: Path, name: str) -> np.ndarray | AudioError:
    """Audio `(C, T)` of a file, cut to the longest duration of the corpus; or the error that makes it unusable."""
    longest_s = max(config.durations_s)
    try:
        audio, rate = read_audio(path, longest_s)
        reason = check_signal(to_mono(audio), rate)
        if reason in _UNUSABLE:
            return AudioError(reason, f"{name}: {reason}")
        audio = resample(to_mono(audio) if config.channels == 1 else audio, rate, config.sample_rate_hz)
        return to_channels(loudest_window(audio, round(longest_s * config.sample_rate_hz)), config.channels)
    except AudioError as error:
        return AudioError(error.reason, str(error).replace(str(path), name))
    except SynthioError:
        raise
    except Exception as error:
        return AudioError("unreadable", f"{name}: {one_line(error)}; export the file again")


def _write(path: Path, file: BinaryIO) -> None:
    with path.open("wb") as target:
        while chunk := file.read(_CHUNK):
            target.write(chunk)
