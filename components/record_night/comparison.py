"""Comparison of a night with the good nights before it: failures, fallen figures, grown times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from common.study.nights import Figure, Night
from components.record_night.night import cell_name

LAST = 7
"""Number of good nights that a night is compared with."""
MIN_NIGHTS_OF_TIME = 3
"""Good nights needed to compare times; a single one may have waited for a node."""
MAX_GROWTH = 1.2
MIN_GROWTH_S = 60.0
"""Growth below which a time raises no alarm."""


def good_before(nights: Sequence[Night], asked: Mapping[str, Any]) -> list[Night]:
    """Last good nights of the same preset, seeds and overrides, oldest first."""
    return [night for night in nights if night.state == "good" and night.asked == asked][-LAST:]


def failures(study: Mapping[str, Any]) -> list[str]:
    """One sentence for each part of the study that did not finish."""
    found = [f"{cell_name(row)}: {row.get('error', 'failed')}" for row in study["failures"]]
    return found or (
        [] if study["state"] == "complete" else ["the study is incomplete; its report names what is missing"]
    )


def fallen(figures: Sequence[Figure], good: Sequence[Night]) -> list[str]:
    """One sentence for each figure below its interval in the good nights.

    A figure has fallen when it is below the median of the lower ends of its 95 % intervals in the good nights. Every
    night has the same clips and replicates, so nights differ by rounding only and alarms are rare. Nights with newly
    drawn replicates would raise an alarm for about 4 of 100 figures.
    """
    found = []
    for figure in figures:
        before = [other for night in good for other in night.figures if _same(figure, other)]
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


def _same(first: Figure, second: Figure) -> bool:
    return (first.cell, first.method, first.figure) == (second.cell, second.method, second.figure)
