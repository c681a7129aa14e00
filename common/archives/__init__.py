"""Safe extraction of untrusted archives.

Regular files only: no link, device, pipe, sparse file or encrypted member; no name that is absolute, leaves the folder,
is reserved on some system or equals another one after case folding and Unicode normalisation; only the requested
suffixes; nothing above the caps on number, size, ratio, depth and length of names. The first violation stops the
reading with a `DataError`. Links are never created, so none can be followed.

Formats: tar, plain or compressed by gzip, bzip2 or xz, and zip (stored or deflated).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from common.archives.limits import ArchiveLimits, Refused, refusals
from common.archives.names import Names
from common.archives.streams import MAGIC_BYTES, ZIP_MAGICS, Inflated, read_fully
from common.archives.tar import read_tar
from common.archives.zip import read_zip
from common.errors import DataError

__all__ = ["ArchiveLimits", "read_members", "unpack_into"]

_CHUNK = 1 << 20
_NO_LIMITS_GIVEN = ArchiveLimits()


def read_members(
    source: str | Path | BinaryIO,
    suffixes: Sequence[str],
    limits: ArchiveLimits = _NO_LIMITS_GIVEN,
    skip_others: bool = False,
) -> Iterator[tuple[str, BinaryIO]]:
    """Stream the regular files of an archive as `(name, file)`; nothing is written.

    Args:
        source: a file, or a readable stream. A tar needs no seeking, a zip does.
        suffixes: allowed suffixes, such as `(".flac", ".json")`; upper or lower case.
        skip_others: skip hidden files and files of other suffixes, which are common in published collections, instead
            of refusing the archive. All other rules apply, and skipped files count towards the caps.

    Yields a name in POSIX form, relative and without `.` or `..`, and its content, readable until the next item is
    requested. Folders are skipped. Raises DataError: the archive is damaged, truncated, of another format or breaks a
    rule. A checksum of the archive (gzip, xz, zip) is verified at the end of its data, so only an archive read to the
    end is known to be undamaged.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise DataError(f"archive {path} is missing or no regular file; correct the path")
        with path.open("rb") as file:
            yield from _read(file, str(path), Names(suffixes, limits, skip_others), limits)
    else:
        where = str(getattr(source, "name", "stream"))
        yield from _read(source, where, Names(suffixes, limits, skip_others), limits)


def unpack_into(
    path: str | Path,
    folder: Path,
    suffixes: Sequence[str],
    limits: ArchiveLimits = _NO_LIMITS_GIVEN,
    skip_others: bool = False,
) -> int:
    """Unpack an archive into an existing `folder`; after an error some of its files remain there.

    Args:
        folder: private to the caller and without links, such as one that is not published yet.

    Raises:
        DataError: as in `read_members`; or a file of that name exists.
        OSError: the disk is full.

    Returns the number of files.
    """
    count = 0
    for name, file in read_members(Path(path), suffixes, limits, skip_others):
        final = folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        try:
            descriptor = os.open(final, flags, 0o644)
        except FileExistsError as error:
            raise DataError(f"archive {path}: {name!r} is in another archive of this dataset as well") from error
        with os.fdopen(descriptor, "wb") as output:
            while chunk := file.read(_CHUNK):
                output.write(chunk)
        count += 1
    return count


def _read(file: BinaryIO, where: str, names: Names, limits: ArchiveLimits) -> Iterator[tuple[str, BinaryIO]]:
    with refusals(where):
        head = read_fully(file, MAGIC_BYTES)
        if not head:
            raise Refused("it is empty")
        if head[:4] in ZIP_MAGICS:
            members = read_zip(file, names, limits)
        else:
            members = read_tar(Inflated(file, head, limits), names, limits)
    while True:
        with refusals(where):
            member = next(members, None)
        if member is None:
            return
        name, size, read = member
        content = MemberFile(read, size, where)
        yield name, io.BufferedReader(content, 1 << 16)
        content.drain()


class MemberFile(io.RawIOBase):
    """File object over exactly `size` bytes of an archive; fewer are an error, more are not read.

    Args:
        read: returns at most the requested number of bytes of the member, none at its end.
    """

    def __init__(self, read: Callable[[int], bytes], size: int, where: str) -> None:
        super().__init__()
        self._read = read
        self._left = size
        self._where = where

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the bytes of one read."""
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read all remaining bytes."""
        return b"".join(iter(lambda: self._take(_CHUNK), b""))

    def drain(self) -> None:
        """Skip all remaining bytes, so that a checksum at the end is verified."""
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
