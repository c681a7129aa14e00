"""Files and folders that a list names: whether they are there, or under another spelling (Unicode form, case, `/`)."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from common.audio.walk import is_text
from common.datasets.labels import shown, without_invisible
from common.errors import DataError

_SHOWN = 3


class NameFinder:
    """Finds files by other spellings of their names; lists each folder once."""

    def __init__(self) -> None:
        self._folders: dict[str, _Names] = {}

    def spellings(self, root: Path, source: str) -> list[str]:
        """Files below `root` whose names differ from `source` in Unicode form, case or `/` for `\\` only.

        `source` is a listed path, relative or absolute, that is no file.

        Returns their paths as in `source`; the nearest spelling only, and so more than one only if equally near.
        """
        found = ["/"] if source.startswith("/") else [""]
        for part in (part for part in re.split(r"[/\\]", source) if part):
            found = [f"{folder}{name}/" for folder in found for name in self._alike(os.path.join(root, folder), part)]
        return [os.path.normpath(name) for name in found if os.path.isfile(os.path.join(root, name[:-1]))]

    def hint(self, path: Path) -> str:
        """What stands where the absent file `path` is expected, as `; …` to add to a message; may be empty."""
        if not os.path.isdir(path.parent):
            return f"; there is no folder {path.parent}"
        near = self._names(str(path.parent)).by_stem.get(_folded(path.stem), [])
        return f"; beside it: {', '.join(map(shown, near[:_SHOWN]))}" if near else ""

    def _alike(self, folder: str, part: str) -> list[str]:
        if part in (".", "..") or os.path.lexists(os.path.join(folder, part)):
            return [part]
        names = self._names(folder)
        return names.composed.get(_composed(part)) or names.folded.get(_folded(part), [])

    def _names(self, folder: str) -> _Names:
        folder = folder.rstrip("/") or "/"
        if folder not in self._folders:
            self._folders[folder] = _Names(folder)
        return self._folders[folder]


def first_names(names: Sequence[str], most: int) -> str:
    """At most `most` names, for messages, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder.

    Raises DataError: the system does not say, as for a folder of another user or too long a name.
    """
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(
            f"cannot look for {path}: {error.strerror}; correct the path, or allow this user to enter the folder"
        ) from error


def near(path: Path) -> str:
    """What stands where `path`, which is not there, is expected, as `; …` to add to a message; may be empty."""
    return NameFinder().hint(path)


class _Names:
    """Names in a folder by their NFC form, by that without case, and by the latter without suffix."""

    def __init__(self, folder: str) -> None:
        self.composed: dict[str, list[str]] = {}
        self.folded: dict[str, list[str]] = {}
        self.by_stem: dict[str, list[str]] = {}
        try:
            names = sorted(os.listdir(folder))
        except (OSError, ValueError):
            names = []
        for name in filter(is_text, names):
            self.composed.setdefault(_composed(name), []).append(name)
            self.folded.setdefault(_folded(name), []).append(name)
            self.by_stem.setdefault(_folded(PurePosixPath(name).stem), []).append(name)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", without_invisible(name)).strip()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", _composed(name).casefold())
