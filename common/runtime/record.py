"""`stage.json`: how a task of a local run ended, left beside its outputs for the runner."""

from __future__ import annotations

import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

from pydantic import Field

from common.contracts.base import Contract

RECORD = "stage.json"
LONGEST = 600
"""Characters of a reason; the log has all."""
NO_MEMORY = "most often the machine ran out of memory: close other programs, or take a smaller preset or N"


class StageRecord(Contract):
    """Content of stage.json."""

    stage: str = Field(description="empty where the task failed outside the stage's frame")
    outcome: Literal["succeeded", "failed"]
    seconds: float = 0.0
    model_seconds: float = Field(default=0.0, description="of these, inside models")
    figures: dict[str, float | int | str] = Field(default={}, description="as on the run's page")
    error: str = Field(default="", description="why it failed, in one line")


def reason(error: BaseException) -> str:
    """Class and message of an error in one line; without a message, where it was raised; of a group also its parts."""
    name, message = type(error).__name__, str(error)
    if isinstance(error, BaseExceptionGroup):
        message += f": {'; '.join(_parts(error))}"
    frames = traceback.extract_tb(error.__traceback__)
    if not message:
        message = f", raised in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        told = shortened(f"{name}{message}")
    else:
        told = shortened(f"{name}: {message}".rstrip("."))
    return f"{told}; {NO_MEMORY}" if isinstance(error, MemoryError | BrokenProcessPool) else told


def shortened(text: str) -> str:
    """The text in one line of at most `LONGEST` characters."""
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def _parts(group: BaseExceptionGroup[BaseException]) -> list[str]:
    parts: list[str] = []
    for error in group.exceptions:
        parts += _parts(error) if isinstance(error, BaseExceptionGroup) else [f"{type(error).__name__}: {error}"]
    return parts
