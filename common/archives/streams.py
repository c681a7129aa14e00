"""Decompression of an archive's bytes, as a stream."""

import bz2
import gzip
import io
from typing import Any, BinaryIO

from common.archives.rules import ArchiveLimits, Refused

_ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
_MAGIC_BYTES = 6
_CHUNK = 1 << 16


class _Packed(io.RawIOBase):
    """A stream, whose reads may be short, which counts the bytes read from it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self.count = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        filled = 0
        while filled < len(buffer) and (data := self._file.read(len(buffer) - filled)):
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        self.count += filled
        return filled


class _Inflated(io.RawIOBase):
    """A decompressed stream, with a check of the ratio of unpacked to packed bytes."""

    def __init__(self, stream: BinaryIO, packed: _Packed, limits: ArchiveLimits) -> None:
        super().__init__()
        self._stream, self._packed, self._limits, self._unpacked = stream, packed, limits, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._unpacked += len(data)
        if self._unpacked > max(self._limits.ratio_from_bytes, self._limits.ratio * self._packed.count):
            raise Refused(f"it unpacks to more than {self._limits.ratio:g} times its size, as bombs do")
        buffer[: len(data)] = data
        return len(data)


def inflated(file: BinaryIO, limits: ArchiveLimits) -> BinaryIO | None:
    """Decompressed bytes of a stream, each read as long as it was asked for unless the stream ends; None of a zip.

    Raises Refused: the stream is empty, its compression is not supported, or, while it is read, the ratio of unpacked
    to packed bytes is too high.
    """
    packed = _Packed(file)
    stream: Any = io.BufferedReader(packed, _CHUNK)
    head = stream.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
    if not head:
        raise Refused("it is empty")
    if head.startswith(_ZIP_MAGICS):
        return None
    if head.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=stream, mode="rb")
    elif head.startswith(b"BZh"):
        stream = bz2.BZ2File(stream)
    elif head.startswith((b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x1f\x9d", b"Rar!", b"7z\xbc\xaf")):
        raise Refused("it is packed in a way that is not read; expected tar, tar.gz, tar.bz2 or zip")
    return io.BufferedReader(_Inflated(stream, packed, limits), _CHUNK)
