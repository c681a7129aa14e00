"""Pages of Ogg files: truncation, a missing end mark, and streams chained one after the other."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from common.audio.layout import CutError, Layout, Piece, Source

_HEAD_BYTES = 27
_FIRST, _LAST = 2, 4
"""Flags of a page: the first, and the last, of its stream."""
_SEARCHED = 2**16
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


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
        head = source.read(place, _HEAD_BYTES + 255)
        if head[:4] != b"OggS":
            found = source.read(place, _SEARCHED).find(b"OggS", 1)
            place += found if found > 0 else _SEARCHED - 3
            continue
        if len(head) < _HEAD_BYTES:
            yield _Page(place, source.size + 1, 0)
            return
        table = head[_HEAD_BYTES : _HEAD_BYTES + head[26]]
        end = place + _HEAD_BYTES + head[26] + sum(table)
        yield _Page(place, end, head[5])
        place = end


def _marked(page: bytes) -> bytes:
    """The page as the last of its stream, with its checksum (CRC-32, most significant bit first)."""
    blank = page[:5] + bytes([page[5] | _LAST]) + page[6:22] + bytes(4) + page[26:]
    mirrored = zlib.crc32(blank.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    checksum = int(f"{mirrored:032b}"[::-1], 2)
    return blank[:22] + checksum.to_bytes(4, "little") + blank[26:]
