"""Guard of the test split: only `evaluate_classifier` may open its clips.

The pipeline passes the test split to that stage alone. The guard catches a later code change or a wrong path that
would give it to another stage. The artifact carries a marker file, which travels through object stores as well; code
that reads audio or its records checks for it first. A process with no known stage is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import DataError
from common.storage import write_text

TEST_SPLIT = "TEST_SPLIT"
"""Name of the marker file in the artifact."""
READER = "evaluate_classifier"

_running: str | None = None


def mark_test_split(artifact: Path) -> None:
    """Mark an artifact as a test split. Raises StorageError: the folder is not writable."""
    write_text(artifact / TEST_SPLIT, f"Clips of a test split: only {READER} may open them.\n")


@contextmanager
def running_as(stage: str) -> Iterator[None]:
    """Run this block, in all threads, as part of `stage`."""
    global _running
    before, _running = _running, stage
    try:
        yield
    finally:
        _running = before


def running_stage() -> str | None:
    """Stage that this process belongs to."""
    return _running


def go_on_as(stage: str | None) -> None:
    """Make this worker process part of its parent's stage."""
    global _running
    _running = stage


def check_may_open(path: Path) -> None:
    """Refuse access to a test split outside `evaluate_classifier`.

    Args:
        path: an artifact, its folder of clips, or a file in either.

    Raises DataError: the path belongs to a test split, and the running stage is another one.
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
