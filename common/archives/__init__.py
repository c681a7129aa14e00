"""Archives from outside, read as if they meant harm.

Regular files only: no link, device, pipe, sparse file or encrypted member; no name that is absolute, leaves the folder,
is reserved somewhere or equals another one after case folding and Unicode normalisation; no suffix that was not asked
for; nothing above the caps on number, size, ratio, depth and length of names. The first thing that breaks a rule stops
the reading with a `DataError`. No link is ever made, so none can be followed.

Formats: tar, plain or compressed by gzip, bzip2 or xz, and zip (stored or deflated).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from common.archives.limits import ArchiveLimits, Refused, refusals
from common.archives.members import MemberFile
from common.archives.names import Names
from common.archives.streams import MAGIC_BYTES, ZIP_MAGICS, Inflated, read_fully
from common.archives.tar import read_tar
from common.archives.zip import read_zip
from common.errors import DataError, StorageError
from common.storage import publish_dir

__all__ = ["ArchiveLimits", "extract_archive", "read_members"]

_CHUNK = 1 << 20
_NO_LIMITS_GIVEN = ArchiveLimits()


def read_members(
    source: str | Path | BinaryIO, suffixes: Sequence[str], limits: ArchiveLimits = _NO_LIMITS_GIVEN
) -> Iterator[tuple[str, BinaryIO]]:
    """Stream the regular files of an archive as `(name, file)`; nothing is written.

    Args:
        source: a file, or a stream that is open for reading. A tar needs no seeking, a zip does.
        suffixes: the only ones allowed, such as `(".flac", ".json")`; upper or lower case.
        limits: caps on what the archive may hold.

    Yields:
        A name in POSIX form, relative and without `.` or `..`, and its content, readable until the next one is asked
        for. Folders are passed over.

    Raises:
        DataError: the archive is damaged, cut, of another format or breaks a rule. A checksum of the archive (gzip,
            xz, zip) is checked when its data ends: only an archive read to the end without an error was whole.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise DataError(f"archive {path} is missing or no regular file; correct the path")
        with path.open("rb") as file:
            yield from _read(file, str(path), suffixes, limits)
    else:
        yield from _read(source, str(getattr(source, "name", "stream")), suffixes, limits)


def extract_archive(
    path: str | Path, folder: str | Path, suffixes: Sequence[str], limits: ArchiveLimits = _NO_LIMITS_GIVEN
) -> int:
    """Unpack an archive into `folder`, which appears when all of it is there and has passed, else not at all.

    Returns:
        The number of files.

    Raises:
        DataError: as `read_members`.
        StorageError: `folder` exists, or cannot be written.
    """
    target = Path(folder)
    if os.path.lexists(target):
        raise StorageError(f"cannot unpack {path}: {target} exists; remove it or name another folder")
    count = 0
    with publish_dir(target) as temporary:
        for name, file in read_members(Path(path), suffixes, limits):
            final = temporary / name
            final.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(final, flags, 0o644), "wb") as output:
                while chunk := file.read(_CHUNK):
                    output.write(chunk)
            count += 1
    return count


def _read(file: BinaryIO, where: str, suffixes: Sequence[str], limits: ArchiveLimits) -> Iterator[tuple[str, BinaryIO]]:
    names = Names(suffixes, limits)
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
