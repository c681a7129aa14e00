"""The idea of the stage: one record per night, with figures, times and findings, in a history of all nights.

Nights that ran the same study are comparable, so a regression shows as a figure that fell or a time that grew. Read
next: common/contracts/study.py (the record), common/study/cells.py (the history), page.py (the trend page), run.py.
"""

from collections.abc import Mapping, Sequence
from statistics import median

from common.contracts.study import Asked, Night, NightFigure, PartFailure, Study, StudyCell

LAST = 7
"""Number of good nights that a night is compared with."""
MIN_NIGHTS_OF_TIME = 3
"""Good nights needed to compare times; a single one may have waited for a node."""
MAX_GROWTH = 1.2
MIN_GROWTH_S = 60.0
"""Growth below which a time raises no alarm."""


def figures_of(study: Study) -> tuple[NightFigure, ...]:
    """Headline figures of a study."""
    return tuple(
        NightFigure.of(method.score, method, cell, cell=cell_name(cell), method=name)
        for cell in study.cells
        for name, method in cell.methods.items()
    )


def seconds_of(study: Study) -> dict[str, float]:
    """Seconds of the whole study, and of each finished cell since the previous one finished."""
    finished = sorted((cell.seconds, cell_name(cell)) for cell in study.cells if cell.seconds is not None)
    before = [0.0, *(seconds for seconds, _ in finished)]
    cells = {name: seconds - last for (seconds, name), last in zip(finished, before, strict=False)}
    return {"whole study": study.seconds, **cells}


def cell_name(cell: StudyCell | PartFailure) -> str:
    """Display name of a cell, for example `esc50, n = 100`."""
    return f"{cell.dataset}, n = {cell.n}"


def good_before(nights: Sequence[Night], asked: Asked) -> list[Night]:
    """Last good nights of the same preset, seeds and overrides, oldest first."""
    return [night for night in nights if night.state == "good" and night.asked == asked][-LAST:]


def done_with(nights: Sequence[Night]) -> list[str]:
    """Runs whose work nobody will look at: of a good last night, and of all bad nights but the last bad one."""
    bad = [night.run for night in nights if night.state != "good"]
    return bad[:-1] + [night.run for night in nights[-1:] if night.state == "good"]


def failures(study: Study) -> list[str]:
    """One sentence for each part of the study that did not finish."""
    found = [f"{cell_name(row)}: {row.error}" for row in study.failures]
    return found or ([] if study.state == "complete" else ["the study is incomplete; its report names what is missing"])


def fallen(figures: Sequence[NightFigure], good: Sequence[Night]) -> list[str]:
    """One sentence for each figure below its interval in the good nights.

    A figure has fallen when it is below the median of the lower ends of its 95 % intervals in the good nights. Every
    night has the same clips and replicates, so nights differ by rounding only and alarms are rare. Nights with newly
    drawn replicates would raise an alarm for about 4 of 100 figures.
    """
    found = []
    for figure in figures:
        before = [other for night in good for other in night.figures if _key(other) == _key(figure)]
        if before and figure.mean < (floor := median(other.low for other in before)):
            usual = median(other.mean for other in before)
            found.append(
                f"{figure.cell}, {figure.method}: {figure.figure} fell to {100 * figure.mean:.1f} %, below the "
                f"interval of the last {len(before)} good nights ({100 * usual:.1f} %, from {100 * floor:.1f} % up)"
            )
    return found


def slower(seconds: Mapping[str, float], good: Sequence[Night], place: str) -> list[str]:
    """One sentence for each time that grew by more than a fifth over the median of good nights in the same place."""
    found = []
    for part, now in seconds.items():
        before = [night.seconds[part] for night in good if night.place == place and part in night.seconds]
        if len(before) < MIN_NIGHTS_OF_TIME:
            continue
        usual = median(before)
        if now > MAX_GROWTH * usual and now - usual > MIN_GROWTH_S:
            found.append(
                f"{part}: took {now:.0f} s, {100 * (now / usual - 1):.0f} % more than the {usual:.0f} s of the last "
                f"{len(before)} good nights"
            )
    return found


def _key(figure: NightFigure) -> tuple[str, str, str]:
    return figure.cell, figure.method, figure.figure
