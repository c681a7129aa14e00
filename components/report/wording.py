"""Display names of figures, reason codes and methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config.methods import BEST_CLASSIC

TITLES = {"accuracy": "Accuracy", "map": "mAP", "macro_f1": "Macro-F1"}
"""Names of figures at the start of a sentence; `FIGURES` has those within one."""

REASONS = {
    "low_score": "too little like its label",
    "low_margin": "not clearly its label",
    "second_judge": "not its label to the second judge",
    "near_copy": "nearly a copy of a real clip",
    "near_duplicate": "nearly a duplicate of another synthetic clip",
    "silence": "silent",
    "clipping": "clipped",
    "dc": "constant offset",
    "nan": "samples that are not numbers",
    "no_samples": "no samples in the file",
    "bad_name": "name that is no Unicode text",
    "foreign_format": "format that cannot be read",
    "lfs_pointer": "Git LFS pointer",
    "annex_pointer": "git-annex pointer",
    "web_page": "web page in place of the file",
    "zeros": "zero bytes only",
    "no_file": "no regular file",
    "same_folder": "folder listed already",
    "no_path": "row without a path",
    "no_label": "row without a label",
    "duplicate_row": "listed twice",
    "conflicting_rows": "listed with different labels",
    "suffix_mismatch": "file name of another format",
    "cut": "cut to the loudest part",
    "scaled_down": "beyond full scale, scaled down",
    "channels_cancel": "channels that cancel each other",
    "open_ended": "end not stated by the file",
}

REFUSALS = {
    "no_label": "without the exact label",
    "not_json": "no JSON object",
    "too_large": "far too long",
    "too_deep": "nested too deeply",
    "cut_off": "cut off before the end",
    "refused": "declined to answer",
    "content_filter": "stopped by a content filter",
    "schema": "other fields than asked for",
    "too_few": "too few captions",
    "too_long": "too many words",
    "unprintable": "invisible characters",
    "characters": "markup or odd characters",
    "language": "another language",
    "duplicate": "not new",
}


def figure_of(found: Mapping[str, Any]) -> str:
    """Figure by which methods are compared: `accuracy`, or `map` where clips have several labels.

    Args:
        found: content of evaluation.json or report.json.
    """
    return str(found.get("figure", "accuracy"))


def reason(code: str | None) -> str:
    """Reason code of a rejection or quarantine, in words."""
    return REASONS.get(code or "", (code or "").replace("_", " "))


def refusal(code: str) -> str:
    """Reason code of a refused reply or caption, in words."""
    return REFUSALS.get(code, code.replace("_", " "))


def title(name: str, results: Mapping[str, Any]) -> str:
    """Display name of a method."""
    if name == BEST_CLASSIC:
        return "Best classic"
    return str(results["methods"].get(name, {}).get("title", name))
