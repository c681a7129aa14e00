"""The tripwire of the test split: its clips are opened in `evaluate_classifier`, and nowhere else.

The pipeline hands the test split to that stage alone. This guards against a later change, or a wrong path, that gives
it to another one: the artifact is marked, and the mark travels with it, through object stores as well. What reads audio
and its records asks here first. A process that is not known to belong to the stage is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import DataError
from common.storage import write_text

TEST_SPLIT = "TEST_SPLIT"
"""Name of the mark, a file in the artifact."""
READER = "evaluate_classifier"

_running: str | None = None


def mark_test_split(artifact: Path) -> None:
    """Mark an artifact as a test split.

    Raises:
        StorageError: the folder is not writable.
    """
    write_text(artifact / TEST_SPLIT, f"Clips of a test split: only {READER} may open them.\n")


@contextmanager
def running_as(stage: str) -> Iterator[None]:
    """Let this block count as part of `stage`, in all threads."""
    global _running
    before, _running = _running, stage
    try:
        yield
    finally:
        _running = before


def running_stage() -> str | None:
    """The stage that this process is part of."""
    return _running


def go_on_as(stage: str | None) -> None:
    """Make this process, a worker, part of the stage that its parent runs."""
    global _running
    _running = stage


def check_may_open(path: Path) -> None:
    """Refuse what belongs to a test split, unless `evaluate_classifier` asks.

    Args:
        path: an artifact, its folder of clips, or a file of either.

    Raises:
        DataError: it belongs to one, and another stage asks.
    """
    if _running == READER:
        return
    for folder in (path, *path.parents[:2]):
        if (folder / TEST_SPLIT).is_file():
            raise DataError(
                f"{path} belongs to a test split, and {_running or 'this program'} is not {READER}, the one stage that "
                "may open it: what trains, generates or chooses must not see test clips. Give it the gold set or files "
                "of another folder"
            )
