"""Headers that state a wrong size or none, by container: chunks (WAV, AIFF, W64, CAF, AU, NIST), FLAC and Ogg."""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.audio.layout import CutError, Layout, Piece, Source

_SLACK_BYTES = 64
"""Tolerance for recorders that count a padding byte or frame too many."""
_UNKNOWN_WITHIN = 2**16
"""Programs that write to a pipe put a size near 2^31, 2^32 or 2^63 for one that they do not know."""
_AU_UNKNOWN = 0xFFFFFFFF
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_NIST_BYTES = {"pcm", "ulaw", "mu-law", "alaw"}
_STREAMINFO = 8
"""Place of the block STREAMINFO, behind the mark `fLaC` and the block's head."""
_LARGEST_FRAME = 2**18
_LARGEST_TOTAL = 2**36 - 1
_TAG_BYTES = 1024
"""Bytes of tags of other kinds (ID3v1, APE) behind the last frame."""
_BLOCK_SIZES = {
    1: 192,
    **{code: 576 << (code - 2) for code in range(2, 6)},
    **{code: 256 << (code - 8) for code in range(8, 16)},
}
_PAGE_HEAD = 27
_FIRST, _LAST = 2, 4
"""Flags of a page: the first, and the last, of its stream."""
_SEARCHED = 2**16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class _Chunks:
    """Chunks of a container."""

    start: int
    """Place of the first chunk."""
    head: str
    """`struct` format of a chunk's id and size."""
    data: bytes
    counted: int = 0
    """Bytes of the chunk's own head that its size includes."""
    align: int = 2
    """Chunks start at multiples of this, counted from the first."""
    skipped: int = 0
    """Bytes between the head and the samples that the size includes."""

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


def flac_layout(source: Source) -> Layout | None:
    """Layout of a FLAC file; None for any other file.

    libsndfile stops at the header's number of samples, and where none is stated it takes a tag behind the last frame
    for a damaged one. So it is given the number at which the last frame ends.
    """
    head = source.read(0, _STREAMINFO + 34)
    if head[:4] != b"fLaC" or len(head) < _STREAMINFO + 34 or head[4] & 0x7F:
        return None
    info = head[_STREAMINFO:]
    stated = int.from_bytes(info[13:18], "big") & _LARGEST_TOTAL
    size = int.from_bytes(info[7:10], "big") or _LARGEST_FRAME
    tail = source.read(max(0, source.size - size - _TAG_BYTES), size + _TAG_BYTES)
    last = _last_sample(tail, int.from_bytes(info[2:4], "big"), (info[12] >> 1 & 7) + 1, stated)
    if last is None or last <= stated:
        return Layout(open_ended=not stated)
    total = bytes([info[13] & 0xF0 | last >> 32]) + (last & 0xFFFFFFFF).to_bytes(4, "big")
    return Layout((source.patched(_STREAMINFO + 13, total),), open_ended=not stated)


def _last_sample(tail: bytes, block: int, channels: int, stated: int) -> int | None:
    """Number of samples up to the end of the last frame that starts in the last bytes of a file.

    Samples look like the header of a frame in one of some ten thousand files. So a frame is preferred that ends at the
    `stated` number, or with which the file ends by its checksum.
    """
    place, doubtful = len(tail), None
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        found = _frame_end(tail[place : place + 16], block, channels)
        if found is None or found > _LARGEST_TOTAL:
            continue
        if found == stated or _is_last(tail[place:]):
            return found
        doubtful = doubtful or found
    return doubtful


def _is_last(data: bytes) -> bool:
    """Whether a whole frame starts here, and nothing but zeros or a tag follows it, by the frame's checksum."""
    ends = {len(data), data.rfind(b"TAG"), data.find(b"APETAGEX")}
    value = 0
    for place, byte in enumerate(data, 1):
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
        # The checksum ends the frame and leaves 0, and zeros behind it change nothing.
        if not value and place in ends:
            return True
    return False


def _frame_end(head: bytes, block: int, channels: int) -> int | None:
    """Number of samples up to the end of the frame with this header; None if it is no header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[2] & 15 == 15 or head[3] & 1:
        return None
    if channels != (2 if 8 <= head[3] >> 4 <= 10 else (head[3] >> 4) + 1):
        return None
    number, length = _number(head[4:])
    if not length:
        return None
    code, place = head[2] >> 4, 4 + length
    if code in (6, 7):
        width = code - 5
        samples = int.from_bytes(head[place : place + width], "big") + 1
        place += width
    elif code in _BLOCK_SIZES:
        samples = _BLOCK_SIZES[code]
    else:
        return None
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    # Frames are numbered where all have one size; else the number is that of their first sample.
    return (number if head[1] & 1 else number * block) + samples


def _number(code: bytes) -> tuple[int, int]:
    """Number in the extended UTF-8 of FLAC, and its length in bytes; length 0 if it is none."""
    first = code[0]
    if first < 0x80:
        return first, 1
    length = 8 - (first ^ 0xFF).bit_length()
    rest = code[1:length]
    if not 2 <= length <= 7 or len(rest) < length - 1 or any(byte & 0xC0 != 0x80 for byte in rest):
        return 0, 0
    number = first & (0x7F >> length)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, length


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _crc(value ^ byte, 8, 0x07)
    return value


def _crc(value: int, bits: int, polynomial: int) -> int:
    """The rest of a cyclic redundancy check after a further byte, which is in the highest bits of `value`."""
    for _ in range(8):
        value = value << 1 ^ (polynomial if value >> bits - 1 else 0)
        value &= (1 << bits) - 1
    return value


_CRC16 = [_crc(byte << 8, 16, 0x8005) for byte in range(256)]


@dataclass(frozen=True)
class _Page:
    start: int
    end: int
    flags: int


def ogg_layout(source: Source) -> Layout | None:
    """Layout of an Ogg file; None for any other file.

    libsndfile decodes the first of several streams that follow each other, so each becomes a part; the last page gets
    its end mark where it has none.

    Raises CutError: the last page is incomplete.
    """
    if source.read(0, 4) != b"OggS":
        return None
    starts, last = [0], None
    for page in _pages(source):
        if page.flags & _FIRST and last is not None and not last.flags & _FIRST:
            starts.append(page.start)
        last = page
    if last is None or last.end > source.size:
        raise CutError
    ends = [*starts[1:], source.size]
    parts: list[tuple[Piece, ...]] = [(source.piece(start, end),) for start, end in zip(starts, ends, strict=True)]
    if not last.flags & _LAST:
        # Some decoders stop with an error at the missing mark, though all of the page is there.
        parts[-1] = source.piece(starts[-1], last.start), _marked(source.read(last.start, last.end - last.start))
        return Layout(tuple(parts), open_ended=True)
    return Layout(tuple(parts)) if len(parts) > 1 else Layout()


def _pages(source: Source) -> Iterator[_Page]:
    """All pages; bytes between pages are skipped."""
    place = 0
    while place < source.size:
        head = source.read(place, _PAGE_HEAD + 255)
        if head[:4] != b"OggS":
            found = source.read(place, _SEARCHED).find(b"OggS", 1)
            place += found if found > 0 else _SEARCHED - 3
            continue
        if len(head) < _PAGE_HEAD:
            yield _Page(place, source.size + 1, 0)
            return
        table = head[_PAGE_HEAD : _PAGE_HEAD + head[26]]
        end = place + _PAGE_HEAD + head[26] + sum(table)
        yield _Page(place, end, head[5])
        place = end


def _marked(page: bytes) -> bytes:
    """The page as the last of its stream, with its checksum (CRC-32, most significant bit first)."""
    blank = page[:5] + bytes([page[5] | _LAST]) + page[6:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    checksum = int(f"{mirrored:032b}"[::-1], 2)
    return blank[:22] + checksum.to_bytes(4, "little") + blank[26:]
