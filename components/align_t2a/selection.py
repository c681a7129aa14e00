"""Rules for the best step of an alignment and for early stopping. Free of torch.

Both depend only on the probes, the figures measured before and during alignment; a resumed alignment
therefore decides as an unbroken one does.
"""

from collections.abc import Mapping, Sequence

from common.config.t2a import AlignT2AConfig

Probe = Mapping[str, float]
"""Figures of one measurement, with its `step`; smaller is better."""

ERROR, DISTANCE, LEARNER = "held_out_error", "spectrum_db", "learner_loss"


def criterion(probes: Sequence[Probe], settings: AlignT2AConfig) -> str:
    """Deciding figure, of `keep_best_by`; without validation clips the spectral distance replaces what needs them."""
    wanted = LEARNER if settings.keep_best_by == "learner_gain" else settings.keep_best_by
    return DISTANCE if wanted in (ERROR, LEARNER) and wanted not in probes[0] else wanted


def best_step(probes: Sequence[Probe], settings: AlignT2AConfig) -> int:
    """Step whose weights are kept.

    Candidates are steps whose held-out error exceeds the lowest so far by at most `max_error_rise`, a
    share of the unaligned model's error; all steps, if a learner's loss decides. The smallest deciding figure wins,
    the first among equals.
    Each candidate is compared only with the step kept until then; the weights of others are gone.
    The first of `probes` is the unaligned model at step 0.
    """
    by = criterion(probes, settings)
    if by == "none":
        return int(probes[-1]["step"])
    kept = probes[0]
    for end, probe in enumerate(probes[1:], start=2):
        limit = float("inf") if by == LEARNER else _limit(probes[:end], ERROR, settings.max_error_rise)
        if probe.get(ERROR, limit) <= limit and (kept.get(ERROR, limit) > limit or probe[by] < kept[by]):
            kept = probe
    return int(kept["step"])


def stop_reason(probes: Sequence[Probe], settings: AlignT2AConfig) -> str:
    """Figure that ends alignment after the last probe because it got worse, or an empty string.

    A figure is worse at a probe if it exceeds its best earlier value by more than the allowed share of
    the unaligned model's value. It ends alignment if it is worse in `patience` probes in a row.
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
