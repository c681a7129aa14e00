"""Opening of audio files: header, and a check for truncation."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import soundfile

from common.errors import DataError
from common.runtime.split_guard import check_may_open

_UNKNOWN_SIZE = (0, 0xFFFFFFFF)
"""Data sizes that streaming encoders write when the length is unknown."""
_OGG_TAIL_BYTES = 65307
"""Maximum size of an Ogg page."""
_SLACK_BYTES = 64
"""Tolerance for recorders that count a padding byte or frame too many."""


class AudioError(DataError):
    """An unusable audio file; `reason` is a short code for lists and counts."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class AudioInfo:
    """Header of an audio file.

    Attributes:
        container: such as WAV, FLAC, OGG, MP3.
        encoding: such as PCM_16, DOUBLE, VORBIS.
        frames: samples per channel.
    """

    container: str
    encoding: str
    sample_rate_hz: int
    channels: int
    frames: int

    @classmethod
    def of(cls, file: soundfile.SoundFile) -> AudioInfo:
        """Header of an open file."""
        return cls(file.format, file.subtype, file.samplerate, file.channels, file.frames)

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate_hz


@contextmanager
def open_audio(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file by content, not by suffix.

    Raises:
        AudioError: with reason `missing_file`, `empty_file`, `truncated` or `unreadable`.
        DataError: it is a test clip, and the running stage is not `evaluate_classifier`.
    """
    check_may_open(path)
    try:
        stream = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise AudioError("missing_file", f"{path}: no such file; correct the path or remove the row") from error
    except OSError as error:
        raise AudioError("unreadable", f"{path}: {error.strerror}; check the file's permissions") from error
    with stream:
        if not stream.read(1):
            raise AudioError("empty_file", f"{path}: zero bytes; replace or remove the file")
        stream.seek(0)
        if _is_cut(stream):
            raise AudioError("truncated", f"{path}: shorter than its header says; replace the file")
        stream.seek(0)
        try:
            # Opened by descriptor; given a name, libsndfile would let the suffix decide in doubtful cases.
            file = soundfile.SoundFile(stream.fileno(), closefd=False)
        except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
            raise AudioError(
                "unreadable", f"{path}: no audio that can be decoded ({error}); expected WAV, FLAC, OGG or MP3"
            ) from error
        with file:
            yield file


def check_whole(path: Path, info: AudioInfo, decoded: int) -> None:
    """Compare the decoded number of frames with the header's.

    Raises:
        AudioError: `truncated`, when more frames are missing than a codec's padding.
    """
    if decoded < info.frames - 4096:
        raise AudioError("truncated", f"{path}: {decoded} of {info.frames} samples could be decoded; replace the file")


def _is_cut(stream: io.FileIO) -> bool:
    """Whether a WAV or Ogg file is truncated; libsndfile reads such files without an error."""
    magic = stream.read(12)
    size = stream.seek(0, 2)
    if magic[:4] == b"RIFF" and magic[8:12] == b"WAVE":
        return _wav_is_cut(stream, size)
    if magic[:4] == b"OggS":
        stream.seek(max(0, size - _OGG_TAIL_BYTES))
        return _ogg_is_cut(stream.read() or b"")
    return False


def _wav_is_cut(stream: io.FileIO, size: int) -> bool:
    place = 12
    while place + 8 <= size:
        stream.seek(place)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name == b"data":
            return length not in _UNKNOWN_SIZE and place + 8 + length > size + _SLACK_BYTES
        place += 8 + length + length % 2
    return True


def _ogg_is_cut(tail: bytes) -> bool:
    """Whether the last page is incomplete or not marked as the last of its stream."""
    place = tail.rfind(b"OggS")
    if place < 0 or place + 27 > len(tail):
        return True
    segments = tail[place + 26]
    table = tail[place + 27 : place + 27 + segments]
    whole = place + 27 + segments + sum(table) <= len(tail)
    return not whole or not tail[place + 5] & 4
