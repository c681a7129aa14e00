"""Normalisation of label and caption text; the only place where it happens."""

import unicodedata
from collections.abc import Sequence


def normalize_label(label: str) -> str:
    """`Dog_Bark ` → `dog bark`: NFC, lower case, `_` and `/` to space, single spaces, printable characters only."""
    text = unicodedata.normalize("NFC", label).replace("_", " ").replace("/", " ")
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.lower().split())


def joined_labels(labels: Sequence[str]) -> str:
    """Join the labels of one clip into one normalised phrase: `rain and dog bark`."""
    return " and ".join(map(normalize_label, labels))


PROMPTS = ("the sound of a {}", "this is a sound of {}", "a recording of a {}", "{} can be heard", "{}")
"""Wordings beside `template_caption`."""


def label_prompts(label: str) -> list[str]:
    """A label in several wordings, `template_caption` first; their mean says better what a label sounds like."""
    return [template_caption(label), *(wording.format(normalize_label(label)) for wording in PROMPTS)]


def template_caption(*labels: str) -> str:
    """`sound of a {label}`: the prompt for losers, alignment and CLAP scoring (arXiv 2410.02056)."""
    return f"sound of a {joined_labels(labels)}"
