"""The content of one member of an archive."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from common.archives.limits import Refused, refusals

_CHUNK = 1 << 20


class MemberFile(io.RawIOBase):
    """Exactly `size` bytes of an archive; fewer are an error, more are not read.

    Args:
        read: gives at most so many bytes of the member, none at its end.
        size: that the archive declares.
        where: the archive, for errors.
    """

    def __init__(self, read: Callable[[int], bytes], size: int, where: str) -> None:
        super().__init__()
        self._read = read
        self._left = size
        self._where = where

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as one read goes."""
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """All that is left."""
        return b"".join(iter(lambda: self._take(_CHUNK), b""))

    def drain(self) -> None:
        """Pass over what is left, so that a checksum at the end is checked."""
        while self._take(_CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        size = min(size, self._left, _CHUNK)
        if size <= 0:
            return b""
        with refusals(self._where):
            data = self._read(size)
            if not data:
                raise Refused(f"a member is cut, {self._left} bytes are missing")
        self._left -= len(data)
        return data
