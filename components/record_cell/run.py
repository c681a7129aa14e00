"""Reads a cell's `report.json`, verifies it, writes it to the run store.

The idea of the stage: every finished cell records its own report, so one failed cell does not hide the others.
`common.study.cells` reads and writes the records.
"""

from pathlib import Path

from common.contracts.base import read
from common.contracts.report import Report
from common.log import event, get_logger
from common.storage.artifacts import verify_artifact
from common.study.cells import Records

log = get_logger("record_cell")


def run(results_path: str, study: str, key: str) -> None:
    """Record the report of a cell; `component.py` describes the arguments.

    Raises:
        StorageError: the report is damaged, or the store cannot be written.
        DataError: another version of the code wrote the report.
    """
    verify_artifact("record_cell", "results", Path(results_path))
    report = read(Report, Path(results_path) / "report.json")
    Records(study).write(key, report)
    event(log, "recorded", study=study, cell=key, dataset=report.dataset.name, n=report.dataset.n)
