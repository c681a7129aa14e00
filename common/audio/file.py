"""Opening and decoding of audio files: to their end, whatever their headers say."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile

from common.audio.containers import chunk_layout, flac_layout, ogg_layout
from common.audio.layout import CutError, Layout, Piece, Source, Spliced
from common.audio.mpeg import mpeg_layout, skip_tags
from common.errors import DataError, SynthioError, one_line
from common.runtime.split_guard import check_may_open

HEAD_BYTES = 512

_AUDIO = (b"RIFF", b"RF64", b"RIFX", b"fLaC", b"OggS", b"FORM", b"ID3", b".snd", b"caff", b"riff", b"NIST")
"""First bytes of audio, which are letters as well: what begins so and cannot be decoded is damaged."""
_POINTERS = (
    (b"version https://git-lfs", "lfs_pointer", "a Git LFS pointer in place of the file; run `git lfs pull`"),
    (b"/annex/objects/", "annex_pointer", "a git-annex pointer in place of the file; run `git annex get`"),
)
_FOREIGN = (
    (4, b"ftyp", "MP4 (such as M4A or 3GP)"),
    (0, b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "Windows Media (WMA)"),
    (0, b"#!AMR", "AMR"),
    (0, b"ADIF", "AAC"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"\x0bw", "AC-3"),
    (0, b"MAC ", "Monkey's Audio (APE)"),
    (0, b"wvpk", "WavPack"),
    (0, b"TTA1", "True Audio"),
    (0, b"MPCK", "Musepack"),
    (0, b"MP+", "Musepack"),
    (0, b"DSD ", "DSD"),
    (0, b"FRM8", "DSD"),
    (0, b".RMF", "RealMedia"),
    (0, b".ra\xfd", "RealAudio"),
    (8, b"AVI ", "AVI"),
    (0, b"FLV\x01", "Flash video"),
)
_OTHER = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"MThd", "a MIDI file, which holds notes and no sound"),
)
_BLOCK_VALUES = 2**21
"""Samples over all channels that are decoded at once."""
_UNKNOWN_FRAMES = 2**62
"""libsndfile states at least this many frames for a length that it does not know."""
_PADDING_FRAMES = 4096
"""Tolerance for the padding that codecs count."""
_LARGEST = 1e12
"""Largest sample: integers of 32 bits that were written as floats reach 2e9; far beyond, float32 overflows."""


class AudioError(DataError):
    """An unusable audio file; `reason` is a short code for lists and counts."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """Facts about an audio file."""

    container: str
    """Such as WAV, FLAC, OGG, MP3."""
    encoding: str
    """Such as PCM_16, DOUBLE, VORBIS."""
    sample_rate_hz: int
    channels: int
    frames: int
    open_ended: bool = False
    """The file does not say where it ends, so that a loss at its end would not show."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate_hz


class _Forward(soundfile.SoundFile):
    """Reads on until nothing comes; the parent class trusts the header's frames, and seeks after each block."""

    def seekable(self) -> bool:
        return False


class AudioFile:
    """An open audio file; the `frames` of its `info` may be wrong, and are a hint only."""

    def __init__(self, path: Path, descriptor: int, layout: Layout) -> None:
        self._path, self._descriptor, self._parts = path, descriptor, layout.parts or ((),)
        with closing(_Forward(self._source(self._parts[0]), closefd=False)) as file:
            self.info = AudioInfo(
                file.format, file.subtype, file.samplerate, file.channels, file.frames, layout.open_ended
            )

    def blocks(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Decode from the beginning until nothing comes, in blocks `(frames, C)` float32, less in the last.

        Raises AudioError: `truncated`, `unreadable`, `nan` or `no_samples`.
        """
        size = frames or max(1, _BLOCK_VALUES // self.info.channels)
        block = None
        with _decoding(self._path):
            for block in _evenly(chain.from_iterable(self._part(part, size) for part in self._parts), size):
                if not np.abs(block).max() <= _LARGEST:
                    found = f"samples that are no numbers, or beyond {_LARGEST:g} times full scale"
                    raise AudioError("nan", f"{self._path}: {found}; export the file again")
                yield block
        if block is None:
            raise AudioError("no_samples", f"{self._path}: holds no samples; replace or remove the file")

    def _source(self, pieces: tuple[Piece, ...]) -> Spliced | int:
        if pieces:
            return Spliced(self._descriptor, pieces)
        # Opened by descriptor; given a name, libsndfile would let the suffix decide in doubtful cases.
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return self._descriptor

    def _part(self, pieces: tuple[Piece, ...], size: int) -> Iterator[np.ndarray]:
        """Decode one stream, in blocks of at most `size`."""
        source = self._source(pieces)
        with closing(_Forward(source, closefd=False)) as file:
            self._check_same(file)
            stated = file.frames if 0 < file.frames < _UNKNOWN_FRAMES else 0
            left = stated or _UNKNOWN_FRAMES
            # Not more is asked for than is likely to come, because the decoder fills the rest with zeros.
            while len(block := file.read(min(size, max(left, _PADDING_FRAMES)), dtype="float32", always_2d=True)):
                left -= len(block)
                yield block
            if isinstance(source, Spliced) and source.error is not None:
                raise source.error
        if stated and left > _PADDING_FRAMES:
            found = f"{stated - left} of {stated} samples could be decoded"
            raise AudioError("truncated", f"{self._path}: {found}; replace the file")

    def _check_same(self, file: soundfile.SoundFile) -> None:
        if (file.samplerate, file.channels) != (self.info.sample_rate_hz, self.info.channels):
            raise AudioError(
                "unreadable",
                f"{self._path}: streams of {self.info.sample_rate_hz} Hz and {self.info.channels} channel(s), and of "
                f"{file.samplerate} Hz and {file.channels}, follow each other; export each as a file of its own",
            )


def _evenly(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of `size`, less in the last."""
    held, count = list[np.ndarray](), 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count >= size:
            whole = np.concatenate(held) if len(held) > 1 else block
            end = count - count % size
            yield from (whole[start : start + size] for start in range(0, end, size))
            held, count = [whole[end:]] if count > end else [], count - end
    if held:
        yield np.concatenate(held)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Turn whatever decoding raises into an `AudioError` with the path."""
    try:
        yield
    except SynthioError:
        raise
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError("truncated", f"{path}: decoding stopped: {error}; replace the file") from error
    except Exception as error:
        raise AudioError("unreadable", f"{path}: decoding stopped: {one_line(error)}; replace the file") from error


@contextmanager
def open_audio(path: Path) -> Iterator[AudioFile]:
    """Open an audio file by content, not by suffix.

    Raises:
        AudioError: with reason `missing_file`, `empty_file`, `truncated`, `unreadable`, or one of `told_by_content`.
        DataError: it is a test clip, and the running stage is not `evaluate_classifier`.
    """
    descriptor = _descriptor(path)
    try:
        yield _opened(path, descriptor)
    finally:
        os.close(descriptor)


def _descriptor(path: Path) -> int:
    try:
        check_may_open(path)
        # Asked before opening: a pipe would block, and a device may act.
        if not stat.S_ISREG(path.stat().st_mode):
            raise AudioError("unreadable", f"{path}: no regular file, but a folder, pipe or device; give an audio file")
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise AudioError("missing_file", f"{path}: no such file; correct the path or remove the row") from error
    except PermissionError as error:
        raise AudioError("unreadable", f"{path}: {error.strerror}; check the file's permissions") from error
    except (OSError, ValueError) as error:
        raise AudioError("unreadable", f"{path}: {one_line(error)}; correct the path or remove the row") from error


def _opened(path: Path, descriptor: int) -> AudioFile:
    try:
        source = Source.of(descriptor)
        if not source.size:
            raise AudioError("empty_file", f"{path}: zero bytes; replace or remove the file")
        return AudioFile(path, descriptor, _layout(source))
    except CutError as error:
        raise AudioError("truncated", f"{path}: shorter than its header says; replace the file") from error
    except SynthioError:
        raise
    except Exception as error:
        # Asked last: what can be decoded is audio, whatever its first bytes resemble.
        told = told_by_content(os.pread(descriptor, HEAD_BYTES, 0))
        unknown = f"no audio that can be decoded ({one_line(error)}); expected WAV, FLAC, OGG or MP3"
        reason, sentence = told or ("unreadable", unknown)
        raise AudioError(reason, f"{path}: {sentence}") from error


def _layout(source: Source) -> Layout:
    behind_tags = source.part(skip_tags(source, 0))
    for layout_of in (chunk_layout, ogg_layout, flac_layout):
        layout = layout_of(behind_tags)
        if layout is not None:
            return layout
    return mpeg_layout(source) or Layout()


def told_by_content(head: bytes) -> tuple[str, str] | None:
    """What a file that cannot be decoded is in truth, told by its first `HEAD_BYTES` bytes.

    Returns `lfs_pointer`, `annex_pointer`, `web_page`, `foreign_format`, `zeros` or `no_audio`, and a sentence with the
    remedy; None if the bytes tell nothing.
    """
    for start, code, sentence in _POINTERS:
        if head.startswith(start):
            return code, sentence
    if head and not head.strip(b"\0"):
        return "zeros", "nothing but zero bytes, as of a copy that broke off; copy or fetch the file again"
    for place, magic, name in _FOREIGN:
        if head[place:].startswith(magic):
            return "foreign_format", f"{name} cannot be read; convert it, as by `ffmpeg -i FILE FILE.wav`"
    for magic, name in _OTHER:
        if head.startswith(magic):
            return "no_audio", f"it is {name}; expected an audio file"
    return _text(head)


def _text(head: bytes) -> tuple[str, str] | None:
    """Web pages and answers of servers that were saved in place of a file, and other text."""
    text = head.decode("utf-8", "ignore").lstrip("\ufeff \t\r\n")
    if (
        not text
        or head.startswith(_AUDIO)
        or sum(character.isprintable() or character in "\t\r\n" for character in text) < len(text)
    ):
        return None
    shown = " ".join(text.split())[:60]
    if text.lower().startswith(("<!doctype", "<html", "<head", "<body", "<?xml", "<error", "<!--")) or text[0] in "{[":
        page = text.lower().startswith(("<!doctype html", "<html", "<head", "<body"))
        kind = "web page" if page else "server's answer"
        return "web_page", f"a {kind} was saved in place of the file ({shown!r}); fetch it again"
    return "no_audio", f"it is text ({shown!r}); expected an audio file"
