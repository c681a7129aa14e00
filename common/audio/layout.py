"""What a decoder is given of a file: the file itself, or its bytes with a mended header."""

import io
import os
from bisect import bisect_right
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

Piece = bytes | tuple[int, int]
"""Bytes, or a range (start, end) of the file."""


class CutError(Exception):
    """The file ends before its header says."""


@dataclass(frozen=True)
class Layout:
    """Streams that are decoded one after the other, each of pieces; none: the file is decoded as it is.

    An `open_ended` file does not say where it ends, so that a loss at its end would not show.
    """

    parts: tuple[tuple[Piece, ...], ...] = ()
    open_ended: bool = False


@dataclass(frozen=True)
class Source:
    """Random access to an open file, or to its bytes from `start` to `end`."""

    descriptor: int
    end: int
    start: int = 0

    @classmethod
    def of(cls, descriptor: int) -> Self:
        """A whole file."""
        return cls(descriptor, os.fstat(descriptor).st_size)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    def read(self, place: int, count: int) -> bytes:
        """At most `count` bytes from `place` on; fewer at the end."""
        first = self.start + place
        return os.pread(self.descriptor, max(0, min(count, self.end - first)), first)

    def piece(self, start: int, end: int | None = None) -> Piece:
        """Range of the file."""
        return self.start + start, self.end if end is None else self.start + end

    def part(self, start: int) -> Self:
        """The bytes from `start` on."""
        return replace(self, start=self.start + start)

    def patched(self, place: int, new: bytes) -> tuple[Piece, ...]:
        """All bytes, with those at `place` replaced by `new`."""
        return self.piece(0, place), new, self.piece(place + len(new))


class Spliced(io.RawIOBase):
    """Pieces of an open file as one stream; `error` is why a read failed, which libsndfile cannot tell."""

    def __init__(self, descriptor: int, pieces: tuple[Piece, ...]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._pieces = [piece for piece in pieces if _length(piece)]
        self._ends = list(accumulate(map(_length, self._pieces)))
        self._place = 0
        self.error: OSError | None = None

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer, or less at the end."""
        done = 0
        while done < len(buffer):
            number = bisect_right(self._ends, self._place)
            if number == len(self._pieces):
                break
            piece = self._pieces[number]
            inside = self._place - (self._ends[number] - _length(piece))
            count = min(len(buffer) - done, self._ends[number] - self._place)
            if isinstance(piece, bytes):
                read = piece[inside : inside + count]
            else:
                try:
                    read = os.pread(self._descriptor, count, piece[0] + inside)
                except OSError as error:
                    self.error = error
                    break
            if not read:
                break
            buffer[done : done + len(read)] = read
            done += len(read)
            self._place += len(read)
        return done

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Move, as in any stream."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        self._place = max(0, base + place)
        return self._place

    def tell(self) -> int:
        """Place in the stream."""
        return self._place

    def readable(self) -> bool:
        """True."""
        return True

    seekable = readable


def _length(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
