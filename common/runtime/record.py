"""`stage.json`: how a task ended, left beside its outputs; and kfp's executor as a local run starts it.

`python -m common.runtime.record` takes the arguments of `python -m kfp.dsl.executor_main`. The reason for a failure
is left as data for the runner, also where it came outside a stage's frame.
"""

import errno
import runpy
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool
from typing import Literal

from pydantic import Field

from common.contracts.base import Contract, write
from common.log import task_folder

RECORD = "stage.json"
PROGRAM, EXECUTOR = "common.runtime.record", "kfp.dsl.executor_main"
LONGEST = 600
"""Characters of a reason; the log has all."""
NO_MEMORY = "most often the machine ran out of memory: close other programs, or take a smaller preset or N"

NO_SPACE = "free some space, also for temporary files (TMPDIR), and run the same command again: finished work is kept"


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
    told = f"{type(error).__name__}: {error}".rstrip(".")
    if isinstance(error, BaseExceptionGroup):
        told += f": {'; '.join(_parts(error))}"
    elif not str(error):
        frames = traceback.extract_tb(error.__traceback__)
        place = f", raised in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        told = f"{type(error).__name__}{place}"
    told = shortened(told)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{told}; {NO_SPACE}"
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


def main() -> None:
    """Run the executor; an error that no stage recorded is recorded here."""
    folder = task_folder()
    sys.modules.pop(EXECUTOR, None)
    try:
        runpy.run_module(EXECUTOR, run_name="__main__", alter_sys=True)
    except Exception as error:
        if folder is not None and not (folder / RECORD).exists():
            write(folder / RECORD, StageRecord(stage="", outcome="failed", error=reason(error)))
        raise


if __name__ == "__main__":
    main()
