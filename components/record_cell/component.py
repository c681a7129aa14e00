from kfp.dsl import Dataset, Input

from components.catalogue import component


@component("Record the cell", "base")
def record_cell(results: Input[Dataset], study: str, key: str, code_version: str) -> None:
    """Copy a finished cell's report to the run store, so that the study's report finds it even when other cells fail.

    Args:
        results: report of the cell, from report.
        study: id of the study's run.
        key: key of the cell within the study.
    """
    from components.record_cell.run import run

    run(results.path, study, key)
