"""What an untrusted archive may hold: caps, names of members, and the exception for a violation."""

import re
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from common.errors import DataError

_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Device names on Windows, with any suffix."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Caps on an untrusted archive; the values are ours, at least ten times those of a corpus shard."""

    members: int = 200_000
    member_bytes: int = 2**28
    total_bytes: int = 2**36
    """Size of all files and headers, unpacked."""
    ratio: float = 200.0
    """Unpacked to packed bytes of the whole, from `ratio_from_bytes` unpacked ones on. FLAC and WAV shrink to a fifth
    or less, silence to a thousandth."""
    ratio_from_bytes: int = 2**24
    """Unpacked size from which `ratio` applies."""
    path_bytes: int = 240
    """Length of a name in UTF-8."""
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
        zipfile.BadZipFile,
    ) as error:
        raise DataError(f"archive {where} is damaged or cut ({error}); fetch or make it again") from error


class Names:
    """Names seen so far in one archive; each new one must be safe and differ from all others.

    Names are compared after case folding and compatibility normalisation (NFKC), because some file systems treat such
    names as one file. A name is checked both as written and normalised, because a full-width `．．／` normalises to
    `../`.
    """

    def __init__(self, suffixes: Sequence[str], limits: ArchiveLimits, skip_others: bool = False) -> None:
        self._suffixes = tuple(suffix.lower() for suffix in suffixes)
        self._limits = limits
        self._skip_others = skip_others
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def file(self, name: str) -> str | None:
        """Register a file and return its safe name; None when it is skipped.

        Raises Refused: the name is unsafe, has another suffix, or is taken.
        """
        if self._skip_others and _stays_inside(name) and (_hidden(name) or not self._wanted(name)):
            return None
        name = self._safe(name)
        if not self._wanted(name):
            raise Refused(f"member {name!r:.80} is not allowed; expected files in {', '.join(self._suffixes)}")
        key = _key(name)
        folders = _parents(key)
        if key in self._files or key in self._folders or self._files.intersection(folders):
            raise Refused(f"member {name!r:.80} has the name of another one, after case folding and normalisation")
        self._files.add(key)
        self._folders.update(folders)
        return name

    def folder(self, name: str) -> None:
        """Register a folder; `.` is the archive's own. Raises Refused: the name is unsafe, or taken by a file."""
        name = name.removesuffix("/")
        if name == "." or (self._skip_others and _stays_inside(name) and _hidden(name)):
            return
        key = _key(self._safe(name))
        if key in self._files or self._files.intersection(_parents(key)):
            raise Refused(f"folder {name!r:.80} has the name of a file")
        self._folders.update((*_parents(key), key))

    def _wanted(self, name: str) -> bool:
        return name.lower().endswith(self._suffixes)

    def _safe(self, name: str) -> str:
        name = name.removeprefix("./")
        try:
            length = len(name.encode())
        except UnicodeEncodeError as error:
            raise Refused(f"member {name!a:.80}: the name is no UTF-8") from error
        if length > self._limits.path_bytes:
            raise Refused(f"member {name!r:.80}: the name has {length} bytes, at most {self._limits.path_bytes} may be")
        for spelling in (name, unicodedata.normalize("NFKC", name)):
            problem = _problem(spelling, self._limits.depth)
            if problem:
                raise Refused(f"member {name!r:.80}: {problem}")
        return name


def _stays_inside(name: str) -> bool:
    return not name.startswith("/") and ".." not in re.split(r"[/\\]", unicodedata.normalize("NFKC", name))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part.strip(".") for part in name.split("/"))


def _problem(name: str, depth: int) -> str | None:
    if not name:
        return "the name is empty"
    if not name.isprintable():
        return "the name holds control or invisible characters"
    if name.startswith("/") or "\\" in name or ":" in name:
        return "the name is absolute, or holds a backslash or a colon"
    parts = name.split("/")
    if len(parts) > depth:
        return f"the name has {len(parts)} parts, at most {depth} may be"
    for part in parts:
        if part in ("", ".", ".."):
            return "the name leaves its folder, ends with a slash or holds an empty part"
        if part.startswith(".") or part[-1] in ". ":
            return "a part of the name starts with a dot, or ends with a dot or a space"
        if _RESERVED.fullmatch(part):
            return f"{part!r} is reserved"
    return None


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _parents(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]
