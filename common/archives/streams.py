"""Decompression of an archive's bytes, as a stream."""

import bz2
import gzip
import io
import lzma
from typing import Any, BinaryIO, Protocol

from common.archives.rules import ArchiveLimits, Refused

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
MAGIC_BYTES = 6

_CHUNK = 1 << 16
_XZ_MEMORY_BYTES = 2**28
"""Memory limit for xz; a header may request a dictionary of 4 GiB, and `xz -9` needs 65 MiB."""


class Stream(Protocol):
    """A readable stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Read at most `size` bytes, none at the end."""


class Inflated:
    """Decompressed bytes of a stream, with a check of the ratio of unpacked to packed bytes.

    `file` is the stream after its first bytes, `head`: at least `MAGIC_BYTES` unless it is shorter.

    Raises Refused: the compression is not supported.
    """

    def __init__(self, file: BinaryIO, head: bytes, limits: ArchiveLimits) -> None:
        self._packed, self._limits, self._unpacked = _Counted(file, head), limits, 0
        buffered = io.BufferedReader(self._packed, _CHUNK)
        self._stream: Stream = buffered
        if head.startswith(b"\x1f\x8b"):
            self._stream = gzip.GzipFile(fileobj=buffered, mode="rb")
        elif head.startswith(b"BZh"):
            self._stream = bz2.BZ2File(buffered)
        elif head.startswith(b"\xfd7zXZ\x00"):
            self._stream = _Xz(self._packed)
        elif head.startswith((b"\x28\xb5\x2f\xfd", b"\x1f\x9d", b"Rar!", b"7z\xbc\xaf")):
            raise Refused("it is packed in a way that is not read; expected tar, tar.gz, tar.bz2, tar.xz or zip")

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; a short read does not mean the end.

        Raises Refused: the ratio of unpacked to packed bytes is too high.
        """
        data = self._stream.read(size)
        self._unpacked += len(data)
        most = max(self._limits.ratio_from_bytes, self._limits.ratio * self._packed.count)
        if self._unpacked > most:
            raise Refused(f"it unpacks to more than {self._limits.ratio:g} times its size, as bombs do")
        return data


def read_fully(stream: Stream, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the stream."""
    data = b""
    while len(data) < size:
        chunk = stream.read(size - len(data))
        if not chunk:
            break
        data += chunk
    return data


class _Counted(io.RawIOBase):
    """A stream with its first bytes put back, which counts the bytes read."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        super().__init__()
        self._file, self._head, self.count = file, head, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        data = data or self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.count += len(data)
        return len(data)


class _Xz:
    """An xz stream with bounded memory; `lzma.open` has no limit."""

    def __init__(self, packed: _Counted) -> None:
        self._packed = packed
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        while not self._decompressor.eof:
            chunk = self._packed.read(_CHUNK) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not chunk:
                raise EOFError("the compressed data is cut")
            data = self._decompressor.decompress(chunk or b"", size)
            if data:
                return data
        if self._decompressor.unused_data or self._packed.read(1):
            raise Refused("there is data after the compressed end")
        return b""
