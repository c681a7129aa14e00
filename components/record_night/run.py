"""Reads the study's results and the history, writes the night, the history and the trend page."""

from datetime import UTC, datetime
from pathlib import Path

from common.contracts.base import read, write
from common.contracts.study import Asked, Night, Study
from common.log import event, get_logger
from common.runtime.stage import Figures, stage
from common.storage import open_store, store_uri, write_text
from common.study.cells import History, Records, night_scope
from components.record_night.night import done_with, failures, fallen, figures_of, good_before, seconds_of, slower
from components.record_night.page import page

log = get_logger("record_night")


def run(
    study_path: str, history: str, night: str, code: str, place: str, night_path: str, html_path: str, metrics_path: str
) -> Figures:
    """Append the night to its history and render the trend page; `component.py` describes the arguments.

    The items of a good night are deleted from the store, since no other night reuses them; those of the last bad night
    stay for inspection. So are the records of the cells of the night before.

    Raises:
        StorageError: the study is damaged, or the store cannot be read or written.
    """
    config = {"history": history, "night": night, "code": code, "place": place}
    with stage("record_night", config, metrics_path, {"night": night_path}, {"study": study_path}) as running:
        study = read(Study, Path(study_path) / "study.json")
        store = open_store(store_uri())
        kept = History(store, history)
        asked = Asked.of(study)
        figures, seconds = figures_of(study), seconds_of(study)
        good = good_before([other for other in kept.nights() if other.run != night], asked)
        missing = failures(study)
        findings = [*missing, *fallen(figures, good), *slower(seconds, good, place)]
        told = Night(
            run=night,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            code=code,
            place=place,
            asked=asked,
            state="incomplete" if missing else "worse" if findings else "good",
            figures=figures,
            seconds=seconds,
            findings=tuple(findings),
        )
        nights = kept.add(told)
        trend = page(history, nights)
        write(Path(night_path) / "night.json", told)
        write_text(Path(night_path) / "trend.html", trend)
        write_text(Path(html_path), trend)
        for finding in findings:
            event(log, "finding", text=finding)
        for run_id in done_with(nights):
            work = store.child(night_scope(run_id))
            for key in work.list():
                work.delete(key)
        for before in nights[-2:-1]:
            Records(before.run).clear()
        running.record({"state": told.state, "findings": len(findings), "compared_with": len(good)})
    return running.figures
