"""What the recordings are like, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.report.wording import number, reason

_SPLIT = {"official": "as the dataset says", "group": "by whole groups", "clip": "by clip"}
_VALIDATION = {
    "official": "as the dataset says",
    "remaining": "drawn from labelled clips that training does not use",
    "training": "taken out of the training clips, because nothing else remained",
}


def health_facts(health: Mapping[str, Any]) -> list[str]:
    """Sentences on files, splits and oddities; what health.json does not hold is left out.

    Args:
        health: the content of the gold set's health.json.
    """
    lines = []
    if "sample_rates_hz" in health:
        rates, formats = _listed(health["sample_rates_hz"], " Hz"), _listed(health["formats"])
        lines.append(f"Files: {formats}; {rates}; {_listed(health['channels'], ' channel(s)')}.")
    if "duration_s" in health:
        seconds = {key: number(float(value)) for key, value in health["duration_s"].items()}
        lines.append(
            f"Durations: {seconds['shortest']} to {seconds['longest']} s, median {seconds['median']} s, "
            f"{seconds['total']} s in all."
        )
    if "test_split_by" in health:
        lines.append(f"Test clips: {_SPLIT.get(health['test_split_by'], health['test_split_by'])}.")
    if "validation_from" in health:
        lines.append(f"Validation clips: {_VALIDATION.get(health['validation_from'], health['validation_from'])}.")
    if health.get("clips_cut"):
        lost = number(float(health["seconds_cut"]))
        lines.append(f"{health['clips_cut']} long clip(s) were cut to their loudest part: {lost} s left out.")
    if health.get("duplicate_sets"):
        lines.append(f"{health['duplicate_sets']} recording(s) are listed more than once; no copy crosses the splits.")
    if health.get("ignored_columns"):
        lines.append(f"Columns that were not used: {', '.join(health['ignored_columns'])}.")
    if health.get("ignored_files_count"):
        lines.append(f"{health['ignored_files_count']} file(s) were not listed or are no audio, and were not used.")
    notes = health.get("notes", {}).items()
    return lines + [f"{note['clips']} clip(s) were used although {reason(code)}." for code, note in notes]


def _listed(counts: Mapping[str, int], unit: str = "") -> str:
    return ", ".join(f"{name}{unit} ({count})" for name, count in counts.items())
