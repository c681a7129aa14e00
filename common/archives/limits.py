"""Caps on archives, and the exceptions for violations."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import DataError


@dataclass(frozen=True)
class ArchiveLimits:
    """Caps on an untrusted archive; the values are ours, at least ten times those of a corpus shard.

    Attributes:
        total_bytes: size of all files and headers, unpacked.
        ratio: unpacked to packed bytes of the whole, from `ratio_from_bytes` unpacked ones on. FLAC and WAV shrink to
            a fifth or less, silence to a thousandth.
        ratio_from_bytes: unpacked size from which `ratio` applies.
        path_bytes: length of a name in UTF-8.
    """

    members: int = 200_000
    member_bytes: int = 2**28
    total_bytes: int = 2**36
    ratio: float = 200.0
    ratio_from_bytes: int = 2**24
    path_bytes: int = 240
    depth: int = 8


class Refused(Exception):
    """An archive breaks a rule; the message names the rule, not the archive."""


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """Turn a violation, or an exception of a decompressor or zip file, into a `DataError` about `where`."""
    try:
        yield
    except Refused as error:
        raise DataError(f"archive {where}: {error}; nothing of it was kept. Make it again, or remove it") from error
    except (
        EOFError,
        OSError,
        ValueError,
        OverflowError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        struct.error,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"archive {where} is damaged or cut ({error}); fetch or make it again") from error
