"""Which evaluation of a training is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


def best_by(figure: str, start: float | None = None) -> Callable[[Sequence[Mapping[str, float]]], int]:
    """What `fit` takes as `best`: the step with the largest `figure`, the first of equals.

    Where no evaluation has it, the last step is kept.

    Args:
        figure: its name in the curve's rows; only evaluations have it.
        start: its value before the training, which then competes as step 0.
    """

    def best(rows: Sequence[Mapping[str, float]]) -> int:
        measured = [(row[figure], int(row["step"])) for row in rows if figure in row]
        candidates = measured if start is None else [(start, 0), *measured]
        if not candidates:
            return int(rows[-1]["step"])
        return max(candidates, key=lambda candidate: candidate[0])[1]

    return best
