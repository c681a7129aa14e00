"""The item store: every finished piece of work of a stage, kept under a key of what it was made from.

A killed stage starts again and finds what it had finished; a run with one method changed finds
everything else. An item is a folder, published whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.hashing import hash_json
from common.storage import publish_dir, store_root


class ItemStore:
    """Items of one stage.

    Args:
        stage: the stage's name (verb_object), the folder in the store.
        code_version: hash of the stage's source; part of every key.
        root: the store; default: `SYNTHIO_STORE`.
    """

    def __init__(self, stage: str, code_version: str, root: Path | None = None) -> None:
        self._folder = (root or store_root()) / stage
        self._code_version = code_version

    def path(self, **key: Any) -> Path:
        """Where the item made from `key` (JSON values: input hashes, settings, seed) is or will be."""
        digest = hash_json({"code": self._code_version, **key})
        return self._folder / digest[:2] / digest[:32]

    def has(self, **key: Any) -> bool:
        """Whether the item is finished."""
        return self.path(**key).is_dir()

    def get_or_make(self, make: Callable[[Path], None], **key: Any) -> Path:
        """The item's folder; `make(folder)` fills it when it is not there yet."""
        final = self.path(**key)
        if not final.is_dir():
            with publish_dir(final) as folder:
                make(folder)
        return final

    def work_dir(self, **key: Any) -> Path:
        """A lasting folder for unfinished work (checkpoints) on the item of `key`; made when absent."""
        folder = self._folder / "work" / self.path(**key).name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
