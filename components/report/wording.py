"""Display names of reason codes, methods and classifiers."""

from collections.abc import Mapping

from common.config.learners import find_learner
from common.config.methods import BEST_CLASSIC
from common.contracts.evaluation import Evaluation
from common.contracts.report import Report

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
    "conflicting_rows": "listed with different labels, splits or groups",
    "suffix_mismatch": "file name of another format",
    "cut": "cut to the loudest part",
    "scaled_down": "beyond full scale, scaled down",
    "channels_cancel": "channels that cancel each other",
    "open_ended": "end not stated by the file",
    "low_rate": "sampled at less than 4 kHz",
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


def worded(code: str, words: Mapping[str, str] = REASONS) -> str:
    """A reason code in words."""
    return words.get(code, code.replace("_", " "))


def title(method: str, results: Evaluation | Report) -> str:
    """Display name of a method."""
    if method == BEST_CLASSIC:
        return "Best classic"
    return results.methods[method].title if method in results.methods else method


def pair(learner: str, method: str, results: Evaluation | Report) -> str:
    """Display name of a classifier: its learner and the method of its clips."""
    return f"{find_learner(learner).title}; {title(method, results)}"
