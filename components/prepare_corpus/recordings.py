"""Sources of captioned recordings: a folder or tar shards, local or on S3."""

import posixpath
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from common.archives import ArchiveLimits, read_members
from common.audio.file import AudioError
from common.audio.signal import check_signal, loudest_window, read_audio, resample, to_mono
from common.audio.walk import AUDIO_SUFFIXES, FOREIGN_SUFFIXES, HARMLESS, Found, as_audio, foreign, walk, walk_audio
from common.config.corpus import PrepareCorpusConfig
from common.datasets.names import is_folder
from common.errors import DataError, SynthioError, one_line
from common.storage import ObjectStore, open_store, open_uri, split_uri
from common.storage.hashing import hash_file, hash_json
from common.storage.items import ItemStore
from components.prepare_corpus.captions import detect_format, formats, read_captions
from components.prepare_corpus.excluded import ExcludedIds
from components.prepare_corpus.index import CaptionIndex, IndexRow, build_index, check_clips, listing_digest, order
from components.prepare_corpus.sources import Dropped, Source, SourceClip, Survey, shard_count, shard_range, to_channels

_BESIDE_AUDIO = (".json", ".txt", ".csv", ".cls")
"""Suffixes of files that WebDataset shards hold beside audio; they are skipped, but count in the names of clips."""
_LIMITS = ArchiveLimits(members=10_000_000, member_bytes=2**31)
_UNUSABLE = ("nan", "silence", "dc")
"""Signal defects that exclude a clip. Clipping and clicks do not: uploads often have them, and a model learns them."""


def open_recordings(
    settings: PrepareCorpusConfig, seed: int, excluded_files: tuple[str, ...], items: ItemStore
) -> "_Recordings":
    """Folder or tar shards named in the settings, with the index of their captions, built unless it exists.

    Raises DataError: captions or audio cannot be read, or too many captions are unusable or name absent audio.
    """
    root = str(settings.audio_dir)
    captions = _local_captions(str(settings.captions_file), items)
    kind = detect_format(captions) if settings.captions_format == "auto" else settings.captions_format
    excluded = ExcludedIds.read(excluded_files)
    tars = _tar_shards(root, seed) if settings.source == "tar" else None
    read = [captions, *(captions.with_name(name) for name in formats()[kind].beside)]
    scratch = items.scratch_dir(
        captions=[hash_file(path) if path.is_file() else None for path in read],
        format=kind,
        excluded=excluded.digest,
        seed=seed,
        audio=listing_digest(_audio_files(root)) if tars is None else None,
    )
    index = CaptionIndex(scratch / "index.sqlite")
    if not index.path.is_file():
        build_index(
            index.path,
            partial(read_captions, captions, kind, seed=seed),
            excluded.__contains__,
            seed,
            root=root,
            files=partial(_audio_files, root) if tars is None else None,
        )
    survey = index.survey()
    survey.dropped.check(survey.captions, settings.max_bad_fraction)
    check_clips(index, str(settings.captions_file), settings.procedural_clips)
    return _Folder(settings, seed, index) if tars is None else _Tars(settings, seed, index, tars)


def _local_captions(file: str, items: ItemStore) -> Path:
    """Local path of the caption file; the ontology's files are fetched beside it if there are any."""
    store, name = split_uri(file)
    opened = open_store(store)
    local = opened.local_path(name)
    if local is not None:
        return local
    folder = items.scratch_dir(captions_file=file)
    prefix = name.rpartition("/")[0]
    for other in {name for each in formats().values() for name in each.beside}:
        key = f"{prefix}/{other}".lstrip("/")
        if opened.size(key) is not None:
            opened.download(key, folder / other)
    target = folder / posixpath.basename(name)
    opened.download(name, target)
    return target


def _audio_files(root: str) -> Iterator[Found]:
    """Audio files below a folder or prefix, in any order, and what is lost there, with the reason."""
    store = open_store(root)
    local = store.local_path("")
    if local is not None and not is_folder(local):
        raise DataError(f"audio_dir {local} is no folder; name the root of the audio files")
    walked = (as_audio(Found(name)) for name in store.list()) if local is None else walk_audio(local, ordered=False)
    for found in walked:
        if found.source == "." and found.reason == "unreadable_folder":
            raise DataError(f"audio_dir {local}: {found.detail}")
        if found.reason not in HARMLESS:
            yield found


def _tar_shards(root: str, seed: int) -> tuple[str, ...]:
    """Addresses of the tar shards, shuffled."""
    if root.endswith(".txt"):
        store, name = split_uri(root)
        lines = open_store(store).read_bytes(name).decode("utf-8-sig").splitlines()
        found = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    else:
        found = set(_tars_below(open_store(root)))
    if len(found) < 2:
        raise DataError(
            f"audio_dir {root} has {len(found)} tar shards; at least two are needed, so that one can be held out: "
            "split the archive, or unpack it and set prepare_corpus.source to `folder`"
        )
    return tuple(sorted(sorted(found), key=lambda uri: order(seed, posixpath.basename(uri))))


def _tars_below(store: ObjectStore) -> Iterator[str]:
    local = store.local_path("")
    for found in map(Found, store.list()) if local is None else walk(local):
        named = found.source.endswith((".tar", ".tar.gz", ".tgz"))
        if found.reason == "unreadable_folder" or (named and found.reason not in ("", *HARMLESS)):
            raise DataError(f"audio_dir {store.uri}: {found.source}: {found.reason} ({found.detail})")
        if named and not found.reason:
            path = store.local_path(found.source)
            # A name may contain characters with a meaning in addresses, such as `#` and `%`.
            yield f"{store.uri}/{found.source}" if path is None else path.as_uri()


@dataclass(frozen=True)
class _Recordings(Source):
    index: CaptionIndex

    def captions(self) -> Iterator[str]:
        return (row.caption for row in self.index.captions())

    def survey(self) -> Survey:
        return self.index.survey()


class _Folder(_Recordings):
    """Audio files in shuffled order."""

    @property
    def shards(self) -> int:
        return shard_count(self.index.clips(), self.config)

    def key(self, number: int) -> dict[str, object]:
        """Captions, and names, sizes and times of the files; objects on S3 are identified by name only."""
        rows = self._rows(number)
        root = open_store(str(self.config.audio_dir))
        versions = [_version(root.local_path(str(row.file))) for row in rows]
        return {**super().key(number), "rows": hash_json([list(row) for row in rows]), "files": versions}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of shard `number`; a file with several captions is read once."""
        root = open_store(str(self.config.audio_dir))
        with tempfile.TemporaryDirectory(prefix="synthio-audio-") as folder:
            for file, rows in groupby(self._rows(number), key=lambda row: str(row.file)):
                path = root.local_path(file)
                if path is not None and not _is_inside(path, Path(str(root.local_path("")))):
                    audio: np.ndarray | AudioError = AudioError(
                        "outside", f"{path} leads out of {root.uri}; put the file itself there"
                    )
                else:
                    if path is None:
                        path = Path(folder) / f"clip{posixpath.splitext(file)[1]}"
                        root.download(file, path)
                    audio = _read(self.config, path, f"{root.uri}/{file}")
                yield from _captioned(audio, rows, dropped)

    def _rows(self, number: int) -> list[IndexRow]:
        part = shard_range(number, self.index.clips(), self.config)
        return self.index.between(part.start, part.stop)


@dataclass(frozen=True)
class _Tars(_Recordings):
    """Tar shards, plain or compressed; each becomes one shard of the corpus."""

    tars: tuple[str, ...]

    @property
    def shards(self) -> int:
        return len(self.tars)

    def key(self, number: int) -> dict[str, object]:
        """Name, size and time of the tar, and the caption index."""
        store, name = split_uri(self.tars[number])
        opened = open_store(store)
        version = [opened.size(name), *_version(opened.local_path(name))]
        return {**super().key(number), "tar": [name, version], "captions": self.index.path.parent.name}

    def clips(self, number: int, dropped: Dropped) -> Iterator[SourceClip]:
        """Clips of tar `number` that have captions, in the order of the tar."""
        uri = self.tars[number]
        with (
            tempfile.TemporaryDirectory(prefix="synthio-audio-") as folder,
            open_uri(uri) as stream,
            self.index.lookup(self.seed) as captions_of,
        ):
            # The name is for error messages.
            named = SimpleNamespace(name=uri, read=stream.read)
            suffixes = (*AUDIO_SUFFIXES, *FOREIGN_SUFFIXES, *_BESIDE_AUDIO)
            members = read_members(named, suffixes, _LIMITS, skip_others=True)  # type: ignore[arg-type]
            for place, (name, file) in enumerate(members):
                suffix = posixpath.splitext(name)[1].lower()
                if suffix in FOREIGN_SUFFIXES:
                    raise DataError(f"{uri}, member {name!r:.80}: {foreign(suffix)}")
                rows = captions_of(name) if suffix in AUDIO_SUFFIXES else []
                if not rows:
                    continue
                path = Path(folder) / f"clip{suffix}"
                with path.open("wb") as target:
                    shutil.copyfileobj(file, target)
                audio = _read(self.config, path, f"{uri}, member {name}")
                yield from _captioned(audio, rows, dropped, f"{number:06d}{place:07d}")

    def absent(self, found: int) -> int:
        return max(0, self.index.rows() - found)


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


def _captioned(
    audio: np.ndarray | AudioError, rows: Iterable[IndexRow], dropped: Dropped, key: str | None = None
) -> Iterator[SourceClip]:
    """A clip for each caption of a file; `key` is that of the first one, by default the number of the clip."""
    for again, row in enumerate(rows):
        if isinstance(audio, AudioError):
            dropped.add(audio.reason, str(audio))
        else:
            name = (key or f"{row.clip:09d}") + (f"-{again}" if again else "")
            yield SourceClip(name, audio, row.caption, row.label)


def _read(config: PrepareCorpusConfig, path: Path, name: str) -> np.ndarray | AudioError:
    """Audio `(C, T)` of a file, cut to the longest that is kept; or the error that makes it unusable."""
    longest_s = max(config.audio_s or 0.0, *config.durations_s)
    try:
        audio, info = read_audio(path, longest_s)
        reason = check_signal(to_mono(audio), info.sample_rate_hz)
        if reason in _UNUSABLE:
            return AudioError(reason, f"{name}: {reason}")
        audio = to_mono(audio) if config.channels == 1 else audio
        audio = resample(audio, info.sample_rate_hz, config.sample_rate_hz)
        return to_channels(loudest_window(audio, round(longest_s * config.sample_rate_hz)), config.channels)
    except AudioError as error:
        reason = "absent_audio" if error.reason == "missing_file" else error.reason
        return AudioError(reason, str(error).replace(str(path), name))
    except SynthioError:
        raise
    except Exception as error:
        return AudioError("unreadable", f"{name}: {one_line(error)}; export the file again")
