"""kfp's executor as a local run starts it: the reason for a failure is left as data for the runner, not in the log.

`python -m common.runtime.executor` takes the arguments of `python -m kfp.dsl.executor_main`.
"""

from __future__ import annotations

import runpy
import sys

from common.contracts.base import write
from common.log import task_folder
from common.runtime.record import RECORD, StageRecord, reason

EXECUTOR = "kfp.dsl.executor_main"


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
