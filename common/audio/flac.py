"""Headers of FLAC files: a number of samples that is open or too small."""

from __future__ import annotations

from common.audio.layout import Layout, Source

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
    last = _last_sample(tail, int.from_bytes(info[2:4], "big"), (info[12] >> 1 & 7) + 1)
    if last is None or last <= stated:
        return Layout(open_ended=not stated)
    total = bytes([info[13] & 0xF0 | last >> 32]) + (last & 0xFFFFFFFF).to_bytes(4, "big")
    return Layout((source.patched(_STREAMINFO + 13, total),), open_ended=not stated)


def _last_sample(tail: bytes, block: int, channels: int) -> int | None:
    """Number of samples up to the end of the last frame that starts in the last bytes of a file."""
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        found = _frame_end(tail[place : place + 16], block, channels)
        if found is not None and found <= _LARGEST_TOTAL:
            return found
    return None


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
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 0x80 else value << 1) & 0xFF
    return value
