"""Reading of zip archives; the directory is checked as a whole before any member is opened."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from common.archives.rules import ArchiveLimits, Names, Refused

_END, _END_64 = b"PK\x05\x06", b"PK\x06\x06"
_END_BYTES, _LOCATOR_BYTES, _END_64_BYTES, _COMMENT_BYTES = 22, 20, 56, 0xFFFF
_ENTRY_BYTES, _LOCAL_BYTES, _EXTRA_BYTES = 46, 30, 512
_MAX_DIRECTORY_BYTES = 2**28
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_REPARSE_POINT = 0x400


def read_zip(file: BinaryIO, names: Names, limits: ArchiveLimits) -> Iterator[tuple[str, int, Callable[[int], bytes]]]:
    """Yield `(name, size, read)` of each regular file, in the order of the directory.

    Raises Refused: the archive breaks a rule, or the stream cannot seek.
    """
    if not file.seekable():
        raise Refused("a zip cannot be read as a stream; copy it to a file, or make it a tar")
    length = file.seek(0, io.SEEK_END)
    _check_directory(file, length, limits)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        _check_entries(entries, archive.start_dir, length, limits)
        kept = [(names.file(entry.orig_filename), entry) for entry in entries if not _is_folder(entry, names)]
        for name, entry in kept:
            if name is None:
                continue
            with archive.open(entry) as content:
                yield name, entry.file_size, content.read


def _check_directory(file: BinaryIO, length: int, limits: ArchiveLimits) -> None:
    # zipfile reads the whole directory into memory, so its size is checked first.
    start = max(0, length - _END_BYTES - _COMMENT_BYTES - _LOCATOR_BYTES - _END_64_BYTES)
    file.seek(start)
    tail = file.read(length - start)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise Refused("it is cut: a zip ends with its directory")
    entries, size = struct.unpack("<HI", tail[at + 10 : at + 16])
    end_64 = tail[max(0, at - _LOCATOR_BYTES - _END_64_BYTES) : max(0, at - _LOCATOR_BYTES)]
    if end_64.startswith(_END_64) and len(end_64) == _END_64_BYTES:
        entries, size = struct.unpack("<QQ", end_64[32:48])
    most = min(limits.members * (_ENTRY_BYTES + limits.path_bytes + _EXTRA_BYTES), _MAX_DIRECTORY_BYTES)
    if entries > limits.members or size > most:
        raise Refused(f"it has more than {limits.members} members, or {size} bytes of directory")


def _check_entries(entries: Sequence[zipfile.ZipInfo], directory_at: int, length: int, limits: ArchiveLimits) -> None:
    if len(entries) > limits.members:
        raise Refused(f"it has more than {limits.members} members")
    total = 0
    for entry in entries:
        _check_kind(entry)
        if entry.file_size > limits.member_bytes:
            raise Refused(
                f"member {entry.filename!r:.80} has {entry.file_size} bytes, at most {limits.member_bytes} may be"
            )
        total += entry.file_size
    if total > limits.total_bytes:
        raise Refused(f"it unpacks to {total} bytes, at most {limits.total_bytes} may be")
    if total > limits.ratio_from_bytes and total > limits.ratio * length:
        raise Refused(f"it unpacks to more than {limits.ratio:g} times its size, as bombs do")
    free_from = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < free_from:
            raise Refused(f"member {entry.filename!r:.80} overlaps another one, as in bombs")
        free_from = entry.header_offset + _LOCAL_BYTES + len(entry.orig_filename) + entry.compress_size
    if free_from > directory_at:
        raise Refused("a member overlaps the directory")


def _check_kind(entry: zipfile.ZipInfo) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise Refused(f"member {entry.filename!r:.80} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refused(f"member {entry.filename!r:.80} is packed in a way that is not read; expected stored or deflated")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    allowed = (0, stat.S_IFDIR) if entry.orig_filename.endswith("/") else (0, stat.S_IFREG)
    if kind not in allowed or entry.external_attr & _REPARSE_POINT:
        raise Refused(f"member {entry.filename!r:.80} is a link or no regular file")


def _is_folder(entry: zipfile.ZipInfo, names: Names) -> bool:
    if not entry.orig_filename.endswith("/"):
        return False
    names.folder(entry.orig_filename)
    if entry.file_size or entry.compress_size:
        raise Refused(f"folder {entry.orig_filename!r:.80} holds data")
    return True
