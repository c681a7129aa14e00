"""Which state of an alignment is kept, and when it ends early. Free of torch.

Both are functions of the probes alone (the figures measured before and during alignment), so a
resumed alignment needs no other memory to decide as the unbroken one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.config.t2a import AlignT2AConfig

Probe = Mapping[str, float]
"""Figures of one look at the model: `step`, and what is measured there; smaller is better."""

ERROR, DISTANCE = "held_out_error", "spectrum_db"


def criterion(probes: Sequence[Probe], settings: AlignT2AConfig) -> str:
    """The figure that decides: `keep_best_by`; without validation clips the distance takes the error's place."""
    wanted = settings.keep_best_by
    return DISTANCE if wanted == ERROR and ERROR not in probes[0] else wanted


def best_step(probes: Sequence[Probe], settings: AlignT2AConfig) -> int:
    """The step that is kept.

    Among the states whose held-out error is at most `max_error_rise` above the lowest so far, the one
    with the smallest deciding figure, the first of equals. A later state is compared with the one kept
    until then, and with no other: those are gone.

    Args:
        probes: in order of their steps; the first is the unaligned model at step 0.
        settings: `keep_best_by`, `max_error_rise`.
    """
    by = criterion(probes, settings)
    if by == "none":
        return int(probes[-1]["step"])
    kept = probes[0]
    for end, probe in enumerate(probes[1:], start=2):
        limit = _limit(probes[:end], ERROR, settings.max_error_rise)
        if probe.get(ERROR, limit) <= limit and (kept.get(ERROR, limit) > limit or probe[by] < kept[by]):
            kept = probe
    return int(kept["step"])


def stop_reason(probes: Sequence[Probe], settings: AlignT2AConfig) -> str:
    """Why alignment should end after the last probe: the figure that got worse, or an empty string.

    A figure is worse at a probe where it exceeds its best before that probe by more than the allowed
    share of the unaligned model's; it ends alignment when it is so in `patience` probes in a row.
    """
    for figure, rise in ((ERROR, settings.max_error_rise), (DISTANCE, settings.max_distance_rise)):
        seen = range(max(1, len(probes) - settings.patience), len(probes)) if figure in probes[0] else ()
        worse = [probes[index][figure] > _limit(probes[:index], figure, rise) for index in seen]
        if len(worse) == settings.patience and all(worse):
            return figure
    return ""


def _limit(probes: Sequence[Probe], figure: str, rise: float) -> float:
    values = [probe.get(figure, 0.0) for probe in probes]
    return min(values) + rise * values[0]
