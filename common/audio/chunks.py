"""Containers with a size field in front of the samples: WAV, RF64, AIFF, W64, CAF, AU, NIST, and truncation of each."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from common.audio.layout import CutError, Layout, Source

_SLACK_BYTES = 64
"""Tolerance for recorders that count a padding byte or frame too many."""
_UNKNOWN_WITHIN = 2**16
"""Programs that write to a pipe put a size near 2^31, 2^32 or 2^63 for one that they do not know."""
_AU_UNKNOWN = 0xFFFFFFFF
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_NIST_BYTES = {"pcm", "ulaw", "mu-law", "alaw"}


@dataclass(frozen=True)
class _Chunks:
    """Chunks of a container.

    Attributes:
        start: place of the first chunk.
        head: `struct` format of a chunk's id and size.
        data: id of the chunk that holds the samples.
        counted: bytes of the chunk's own head that its size includes.
        align: chunks start at multiples of this, counted from the first.
        skipped: bytes between the head and the samples that the size includes.
    """

    start: int
    head: str
    data: bytes
    counted: int = 0
    align: int = 2
    skipped: int = 0

    @property
    def head_bytes(self) -> int:
        """Size of a chunk's head."""
        return struct.calcsize(self.head)

    def next(self, source: Source, place: int) -> tuple[bytes, int, int] | None:
        """Id and length of the chunk at `place`, and the place after it; None at the end."""
        head = source.read(place, self.head_bytes)
        if len(head) < self.head_bytes:
            return None
        name, size = struct.unpack(self.head, head)
        length = size - self.counted
        return name, length, place + self.head_bytes + length + -length % self.align

    def find(self, source: Source) -> tuple[int, int] | None:
        """Place and length of the data chunk."""
        place = self.start
        while (found := self.next(source, place)) is not None:
            name, length, after = found
            if name == self.data:
                return place, length
            if after <= place:
                return None
            place = after
        return None

    def fills(self, source: Source, place: int) -> bool:
        """Whether chunks with printable names fill the file from `place` to its end."""
        while place < source.size:
            found = self.next(source, place)
            if found is None or not found[0][:4].isascii() or not found[0][:4].decode().isprintable():
                return False
            place = found[2]
        return place <= source.size + self.align


def _chunks_of(magic: bytes) -> _Chunks | None:
    kind = magic[8:12]
    if magic[:4] in (b"RIFF", b"RF64") and kind == b"WAVE":
        return _Chunks(12, "<4sI", b"data")
    if magic[:4] == b"RIFX" and kind == b"WAVE":
        return _Chunks(12, ">4sI", b"data")
    if magic[:4] == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _Chunks(12, ">4sI", b"SSND", skipped=8)
    if magic[:4] == b"FORM" and kind in (b"8SVX", b"16SV"):
        return _Chunks(12, ">4sI", b"BODY")
    if magic[:16] == _W64_RIFF:
        return _Chunks(40, "<16sQ", _W64_DATA, counted=24, align=8)
    if magic[:4] == b"caff":
        return _Chunks(8, ">4sQ", b"data", align=1, skipped=4)
    return None


def chunk_layout(source: Source) -> Layout | None:
    """Layout of a file whose container states the size of its samples; None for any other file.

    A size that stands for "unknown" (near 2^31, 2^32 or 2^63, or 0 with samples behind it) is replaced by the true one.

    Raises CutError: the file holds fewer bytes than its header says.
    """
    magic = source.read(0, 16)
    if magic[:4] in (b".snd", b"dns."):
        return _au(source, ">" if magic[:4] == b".snd" else "<")
    if magic[:7] == b"NIST_1A":
        return _nist(source)
    chunks = _chunks_of(magic)
    if chunks is None:
        return None
    found = chunks.find(source)
    if found is None:
        if chunks.data == b"data" and chunks.start == 12:
            raise CutError
        return Layout()
    place, length = found
    field, width = place + chunks.head_bytes - 4, "I"
    start = place + chunks.head_bytes
    if chunks.head.endswith("Q"):
        field, width = field - 4, "Q"
    elif magic[:4] == b"RF64" and length == 0xFFFFFFFF and source.read(12, 4) == b"ds64":
        # The size stands in the chunk ds64, which comes first.
        field, width = 28, "Q"
        (length,) = struct.unpack("<Q", source.read(field, 8))
    held = source.size - start
    nothing = length <= chunks.skipped and held > chunks.skipped and not chunks.fills(source, start + max(0, length))
    if nothing or (length > held and _is_unknown(length + chunks.counted)):
        size = min(held + chunks.counted, 0xFFFFFFFF if width == "I" else 2**63)
        return Layout((source.patched(field, struct.pack(chunks.head[0] + width, size)),), open_ended=True)
    if length > held + _SLACK_BYTES:
        raise CutError
    return Layout()


def _is_unknown(size: int) -> bool:
    return any(abs(size - 2**power) <= _UNKNOWN_WITHIN for power in (31, 32, 63, 64))


def _au(source: Source, order: str) -> Layout:
    head = source.read(4, 8)
    if len(head) < 8:
        raise CutError
    start, length = struct.unpack(f"{order}II", head)
    held = source.size - start
    if (length == 0 and held > 0) or (length > held and _is_unknown(length)):
        return Layout((source.patched(8, struct.pack(f"{order}I", _AU_UNKNOWN)),), open_ended=True)
    if length > held + _SLACK_BYTES:
        raise CutError
    return Layout()


def _nist(source: Source) -> Layout:
    head = source.read(0, 4096).decode("latin-1")
    lines = dict(re.findall(r"^(\w+) -\w+ (\S+)$", head.partition("end_head")[0], re.MULTILINE))
    try:
        start = int(head.splitlines()[1])
        count, channels, width = (int(lines[name]) for name in ("sample_count", "channel_count", "sample_n_bytes"))
    except (IndexError, KeyError, ValueError):
        return Layout(open_ended=True)
    if count <= 0 or _is_unknown(count):
        return Layout(open_ended=True)
    # Compressed samples take fewer bytes than their count says.
    if (
        lines.get("sample_coding", "pcm") in _NIST_BYTES
        and start + count * channels * width > source.size + _SLACK_BYTES
    ):
        raise CutError
    return Layout()
