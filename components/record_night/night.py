"""What is kept of a night: its figures, its times, what was found wrong; and the history of all nights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError

from common.config.base import Frozen
from common.errors import StorageError
from common.storage import ObjectStore

KEPT = 400
"""Nights in a history; older ones are left out."""


class Figure(Frozen):
    """The headline figure of a method in a cell, a share, with its interval."""

    cell: str = Field(description="dataset and number of training clips")
    method: str
    title: str
    figure: str = Field(description="accuracy, or map where clips have several labels")
    mean: float
    low: float
    high: float


class Night(Frozen):
    """One night."""

    run: str = Field(description="id of the run; recording it again replaces it")
    at: str = Field(description="when it was recorded: UTC, ISO 8601")
    code: str = Field(description="hash of all stages' sources")
    place: str = Field(description="what it ran on; times are compared within a place only")
    asked: dict[str, Any] = Field(description="preset, seeds and overrides; nights that asked alike are compared")
    state: Literal["good", "worse", "incomplete"]
    figures: tuple[Figure, ...]
    seconds: dict[str, float] = Field(description="of the whole study and of each cell, waiting for nodes included")
    findings: tuple[str, ...] = Field(default=(), description="what failed or got worse, a sentence each")


def figures_of(study: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The headline figures in study.json, whose layout `pipelines/benchmark.py` states."""
    return tuple(
        Figure(
            cell=cell_name(cell),
            method=name,
            title=method["title"],
            figure=cell["figure"],
            **{key: method[cell["figure"]][key] for key in ("mean", "low", "high")},
        )
        for cell in study["cells"]
        for name, method in cell["methods"].items()
    )


def seconds_of(study: Mapping[str, Any]) -> dict[str, float]:
    """Time of the whole study, and of each finished cell since the one before it."""
    finished = sorted((cell["seconds"], cell_name(cell)) for cell in study["cells"] if cell["seconds"] is not None)
    before = [0.0, *(seconds for seconds, _ in finished)]
    cells = {name: seconds - last for (seconds, name), last in zip(finished, before, strict=False)}
    return {"whole study": study["seconds"], **cells}


def cell_name(cell: Mapping[str, Any]) -> str:
    """For people: `esc50, n = 100`."""
    return f"{cell['dataset']}, n = {cell['n']}"


class History:
    """All nights under one name, in one object, so that no night is read by listing.

    Args:
        store: the run store.
        name: of the history.
    """

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._objects, self._key = store.child("history"), f"{name}.jsonl"

    def nights(self) -> list[Night]:
        """Oldest first.

        Raises:
            StorageError: the object is damaged.
        """
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
        """Append `night`, or replace what its run recorded before; returns all nights."""
        nights = [*(other for other in self.nights() if other.run != night.run), night][-KEPT:]
        text = "".join(f"{night.model_dump_json()}\n" for night in nights)
        self._objects.write_bytes(self._key, text.encode())
        return nights
