"""The request cache: no answer of a model is paid for twice.

An entry holds the result of the checks: valid captions, reason codes and the cost, never a reply's text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from common.captions.records import Kept, Request
from common.storage import read_json, write_json
from common.storage.items import ItemStore

FORMAT = "3"
"""Bump when `Kept` or the checks change in a way that makes old answers wrong."""

KEPT = "kept.json"


class Cache(Protocol):
    """Checked replies by request."""

    def get(self, request: Request) -> Kept | None:
        """Look up a checked reply; None when absent."""

    def put(self, request: Request, kept: Kept) -> None:
        """Store a checked reply."""


class NoCache:
    """Stores nothing; for writers that cost nothing."""

    def get(self, request: Request) -> Kept | None:
        """None."""
        return None

    def put(self, request: Request, kept: Kept) -> None:
        """Do nothing."""


class RequestCache:
    """Replies in the item store, keyed by model, prompt hash, seed and the settings that shape a reply.

    Args:
        store: shared by all caption stages, so a code change in a stage costs nothing either.
    """

    def __init__(self, model: str, store: ItemStore) -> None:
        self._model = model
        self._store = store

    def get(self, request: Request) -> Kept | None:
        """Look up a checked reply; None when absent."""
        key = self._key(request)
        return Kept.model_validate(read_json(self._store.path(**key) / KEPT)) if self._store.has(**key) else None

    def put(self, request: Request, kept: Kept) -> None:
        """Store a checked reply."""

        def make(folder: Path) -> None:
            write_json(folder / KEPT, kept.model_dump(mode="json"))

        self._store.get_or_make(make, **self._key(request))

    def _key(self, request: Request) -> dict[str, str | int]:
        return {"model": self._model, "request": request.key}
