"""Guard of the test split: only `evaluate_classifier` may open its clips.

The pipeline passes the test split to that stage alone. The guard catches a later code change or a wrong path that
would give it to another stage. The artifact carries a marker file, which travels through object stores as well; code
that reads audio or its records checks for it first. A process or thread with no known stage is refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from common.errors import DataError
from common.storage import write_text

TEST_SPLIT = "TEST_SPLIT"
"""Name of the marker file in the artifact."""
READER = "evaluate_classifier"
RUNNING: ContextVar[str | None] = ContextVar("stage", default=None)
"""Stage that this code runs for."""


def mark_test_split(artifact: Path) -> None:
    """Mark an artifact as a test split. Raises StorageError: the folder is not writable."""
    write_text(artifact / TEST_SPLIT, f"Clips of a test split: only {READER} may open them.\n")


@contextmanager
def running_as(stage: str) -> Iterator[None]:
    """Run this block as part of `stage`."""
    before = RUNNING.set(stage)
    try:
        yield
    finally:
        RUNNING.reset(before)


def check_may_open(path: Path) -> None:
    """Refuse access to a test split outside `evaluate_classifier`.

    Raises DataError: the path, of an artifact, its folder of clips, or a file in either, belongs to a test split, and
    the running stage is another one.
    """
    stage = RUNNING.get()
    if stage != READER and any((folder / TEST_SPLIT).is_file() for folder in (path, *path.parents[:2])):
        raise DataError(
            f"{path} belongs to a test split, and {stage or 'this program'} is not {READER}, the one stage that may "
            "open it: what trains, generates or chooses must not see test clips. Give it the gold set or files of "
            "another folder"
        )
