"""Reads the record of the study's report, and its night, in the run store; fails if one is missing or bad.

The idea of the stage: the state of the run is that of the study. KFP runs the report of a study also when a cell
failed, and does not count a failure of such a task; this stage comes after it and does count.
"""

from common.errors import RegressionError, StorageError
from common.log import event, get_logger
from common.storage import open_store, store_uri
from common.study.cells import History, Records

log = get_logger("judge_study")


def run(history: str, run_id: str) -> None:
    """Fail if the study's report or night is missing or bad; arguments as in `component.py`.

    Raises:
        RegressionError: something failed or got worse; the message names each finding.
        StorageError: the report or the night was not written, or the store cannot be read.
    """
    state = Records(run_id).state()
    if state is None:
        raise StorageError("the study has no report; see the log of the task report-study, then run the study again")
    findings: tuple[str, ...] = ()
    if state != "complete":
        findings = (f"the study is {state}; its report names what is missing",)
    if history:
        recorded = [row for row in History(open_store(store_uri()), history).nights() if row.run == run_id]
        if not recorded:
            raise StorageError(
                f"the night is not in the history {history}; see the log of the task record-night, then run it again"
            )
        findings = recorded[-1].findings
    if findings:
        raise RegressionError("; ".join(findings))
    event(log, "good_study", state=state, night=history or "-")
