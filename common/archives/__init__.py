"""Safe extraction of untrusted archives.

Regular files only: no link, device, pipe, sparse file or encrypted member; no name that is absolute, leaves the folder,
is reserved on some system or equals another one after case folding and Unicode normalisation; only the requested
suffixes; nothing above the caps on number, size, ratio, depth and length of names. The first violation stops the
reading with a `DataError`. Links are never created, so none can be followed.

Formats: tar, plain or compressed by gzip or bzip2, and zip (stored or deflated).
"""

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from common.archives.rules import ArchiveLimits, Names, Refused, refusals
from common.archives.streams import inflated
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
    rule. A checksum of the archive (gzip, zip) is verified at the end of its data, so only an archive read to the
    end is known to be undamaged.
    """
    names = Names(suffixes, limits, skip_others)
    if not isinstance(source, str | Path):
        yield from _read(source, str(getattr(source, "name", "stream")), names, limits)
        return
    if not Path(source).is_file():
        raise DataError(f"archive {source} is missing or no regular file; correct the path")
    with Path(source).open("rb") as file:
        yield from _read(file, str(source), names, limits)


def unpack_into(
    path: str | Path,
    folder: Path,
    suffixes: Sequence[str],
    limits: ArchiveLimits = _NO_LIMITS_GIVEN,
    skip_others: bool = False,
) -> None:
    """Unpack an archive into an existing `folder`, which is private to the caller and without links.

    After an error some files remain there.

    Raises:
        DataError: as in `read_members`; or a file of that name exists.
        OSError: the disk is full.
    """
    for name, file in read_members(Path(path), suffixes, limits, skip_others):
        final = folder / name
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            with final.open("xb") as output:
                shutil.copyfileobj(file, output, _CHUNK)
        except FileExistsError as error:
            raise DataError(f"archive {path}: {name!r} is in another archive of this dataset as well") from error


def _read(file: BinaryIO, where: str, names: Names, limits: ArchiveLimits) -> Iterator[tuple[str, BinaryIO]]:
    with refusals(where):
        stream = inflated(file, limits)
        members = read_zip(file, names, limits) if stream is None else read_tar(stream, names, limits)
    while True:
        with refusals(where):
            member = next(members, None)
        if member is None:
            return
        name, size, read = member
        content = _Member(read, size, where)
        yield name, io.BufferedReader(content, 1 << 16)
        # To the end, so that a checksum there is verified.
        while content.read(_CHUNK):
            pass


class _Member(io.RawIOBase):
    """File object over exactly `size` bytes of an archive; fewer are an error, more are not read.

    `read` returns at most the requested number of bytes of the member, none at its end.
    """

    def __init__(self, read: Callable[[int], bytes], size: int, where: str) -> None:
        super().__init__()
        self._read, self._left, self._where = read, size, where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._left)
        if not size:
            return 0
        with refusals(self._where):
            data = self._read(size)
            if not data:
                raise Refused(f"a member is cut, {self._left} bytes are missing")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
