"""The idea of the stage: `study.json` sets the measured cells beside the published table and tests them together.

A failed cell becomes a named failure and does not hide the others. Read next: page.py (study.html and study.md), run.py
(where the cells' records come from).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from common.config.methods import ABLATIONS, BASELINE, SUBJECT, Method
from common.contracts.evaluation import LearnerScore, Range
from common.contracts.report import Judgement, MethodFigures, Report
from common.contracts.study import (
    Ablation,
    ClipSet,
    Correction,
    Measured,
    PartFailure,
    Point,
    Study,
    StudyCell,
    StudyDifference,
    WinRate,
)
from common.study.cells import Cell, Record
from common.study.comparisons import holm, mean_interval, reliable
from common.study.paper import published

LEVEL = 0.05
UNFINISHED = "the cell did not finish; the run's log names the task, and running it again goes on there"


def study(
    cells: Sequence[tuple[Cell, Record | None]], methods: Mapping[str, Method], asked: Mapping[str, Any]
) -> Study:
    """Build the content of study.json.

    The p values of all cells are corrected for the number of comparisons (Holm 1979).

    Args:
        cells: each cell with its record; None = the cell did not finish.
        methods: methods by name, in the order of the report.
        asked: preset, seeds, overrides, estimate and seconds, which are copied.
    """
    corrected = holm([row.p for _, record in cells if record for row in record.report.differences])
    unused = iter(corrected)
    rows = [_cell(cell, record, methods, unused) for cell, record in cells]
    complete = all(row.state == "done" and not row.failures for row in rows)
    return Study(
        **asked,
        methods={name: method.title for name, method in methods.items()},
        state="complete" if complete else "incomplete",
        cells=rows,
        correction=Correction(comparisons=len(corrected), below=sum(p < LEVEL for p in corrected), level=LEVEL),
        win_rates=_win_rates(rows),
        ablations=[
            Ablation.of(difference, dataset=row.dataset, n=row.n, without=part)
            for row in rows
            for part in ABLATIONS
            for difference in row.differences
            if (difference.method, difference.versus) == (SUBJECT, part)
        ],
        curves=_curves([(row, row.methods) for row in rows]),
        learner_curves=_curves([(row, row.learners) for row in rows]),
        failures=[
            each.model_copy(update={"dataset": row.dataset, "n": row.n}) for row in rows for each in row.failures
        ],
    ).rounded()


def _cell(cell: Cell, record: Record | None, methods: Mapping[str, Method], corrected: Iterator[float]) -> StudyCell:
    """Row of a cell; `corrected` are the p values of its differences, then of those of later cells."""
    dataset, n = cell.names()
    if record is None:
        return StudyCell(dataset=dataset, n=n, state="failed", failures=[PartFailure(error=UNFINISHED)])
    report = record.report
    return StudyCell.of(
        report,
        record,
        dataset=dataset,
        n=n,
        state="done",
        methods={
            name: _measured(row, published(dataset, n, name)) for name in methods if (row := report.methods.get(name))
        },
        learners={name: own[BASELINE] for name, own in report.learners.items() if BASELINE in own},
        factors=report.factors.methods,
        differences=[StudyDifference.of(row, p_study=next(corrected)) for row in report.differences],
        verdict=Judgement.of(report.verdict),
        clip_sets=_clip_sets(report),
        failures=[PartFailure.of(failure) for failure in report.failures],
    )


def _measured(row: MethodFigures, value: float | None) -> Measured:
    # The paper gives no interval, so the interval is that of the measured figure.
    difference = value and {end: 100 * figure - value for end, figure in Range.of(row.score)}
    return Measured.of(row, published=value, difference=difference)


def _curves(
    rows: Sequence[tuple[StudyCell, Mapping[str, Measured | LearnerScore]]],
) -> dict[str, dict[str, list[Point]]]:
    curves: dict[str, dict[str, list[Point]]] = {}
    for row, found in sorted(rows, key=lambda entry: (entry[0].dataset, entry[0].n)):
        for name, told in found.items():
            curves.setdefault(row.dataset, {}).setdefault(name, []).append(Point.of(told.score, n=row.n))
    return curves


def _win_rates(rows: Sequence[StudyCell]) -> list[WinRate]:
    """Wins over the cells, and the mean difference over the datasets with its interval.

    The datasets are the sample (Demsar 2006, JMLR 7, section 3). Cells of one dataset share its test clips, so their
    differences are averaged first; Student's t interval is then over the datasets. One dataset alone has no interval.
    """
    pairs: dict[tuple[str, str], dict[str, list[StudyDifference]]] = {}
    for row in rows:
        for each in row.differences:
            pairs.setdefault((each.method, each.versus), {}).setdefault(row.dataset, []).append(each)
    rates = []
    for (method, versus), by_dataset in pairs.items():
        found = [each for own in by_dataset.values() for each in own]
        signs = [reliable(each) for each in found]
        rates.append(
            WinRate(
                method=method,
                versus=versus,
                wins=sum(each.mean > 0 for each in found),
                cells=len(found),
                reliable=signs.count(1),
                worse=signs.count(-1),
                datasets=len(by_dataset),
                **mean_interval([float(np.mean([each.mean for each in own])) for own in by_dataset.values()]),
            )
        )
    return rates


def _clip_sets(report: Report) -> list[ClipSet]:
    """Figures of each synthetic set: the oracle's accuracy, distances to gold, acoustics, caption diversity."""
    heard = report.oracle.sets if report.oracle else {}
    distances, acoustics, captions = report.distances.sets, report.acoustics.sets, report.captions
    return [
        ClipSet.of(
            distances.get(name),
            captions.get(name),
            name=name,
            oracle=heard[name].accuracy if name in heard else None,
            acoustics=acoustics[name].model_dump(exclude={"statistics"}) if name in acoustics else {},
        )
        for name in sorted({*heard, *distances, *acoustics})
    ]
