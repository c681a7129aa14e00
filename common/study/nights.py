"""Nights: one record per night, in a history of all nights in the run store."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import Field, ValidationError

from common.config.base import Frozen
from common.errors import ConfigError, StorageError
from common.storage import ObjectStore

KEPT = 400
"""Largest number of nights in a history; older ones are dropped."""


class Figure(Frozen):
    """Headline figure of a method in a cell: a share in [0, 1] with its interval."""

    cell: str = Field(description="dataset and number of training clips")
    method: str
    title: str
    figure: str = Field(description="accuracy, or map where clips have several labels")
    mean: float
    low: float
    high: float


class Night(Frozen):
    """Record of one night."""

    run: str = Field(description="id of the run; recording it again replaces it")
    at: str = Field(description="when it was recorded: UTC, ISO 8601")
    code: str = Field(description="hash of all stages' sources")
    place: str = Field(description="what it ran on; times are compared within a place only")
    asked: dict[str, Any] = Field(description="preset, seeds and overrides; nights that asked alike are compared")
    state: Literal["good", "worse", "incomplete"]
    figures: tuple[Figure, ...]
    seconds: dict[str, float] = Field(description="of the whole study and of each cell, waiting for nodes included")
    findings: tuple[str, ...] = Field(default=(), description="what failed or got worse, a sentence each")


def check_history(name: str) -> None:
    """Check the name of a history; empty = none.

    Raises ConfigError: the name is no object key in plain letters, which KFP's conditions also need.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]*", name):
        raise ConfigError(f"history {name!r}: expected letters, digits, dots, dashes and underscores")


class History:
    """History of nights in one object of the run store; reading it needs no listing."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._objects, self._key = store.child("history"), f"{name}.jsonl"

    def nights(self) -> list[Night]:
        """Read all nights, oldest first. Raises StorageError: the object is damaged."""
        if self._objects.size(self._key) is None:
            return []
        lines = self._objects.read_bytes(self._key).decode().splitlines()
        try:
            return [Night.model_validate(json.loads(line)) for line in lines]
        except (ValueError, ValidationError) as error:
            raise StorageError(
                f"{self._objects.uri}/{self._key} is no history of nights ({str(error)[:200]}): restore it, or move it "
                "away to begin a new one"
            ) from error

    def add(self, night: Night) -> list[Night]:
        """Append `night`, replacing an earlier record of the same run; return all nights."""
        nights = [*(other for other in self.nights() if other.run != night.run), night][-KEPT:]
        text = "".join(f"{night.model_dump_json()}\n" for night in nights)
        self._objects.write_bytes(self._key, text.encode())
        return nights
