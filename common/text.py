"""The one place where label and caption text is normalised."""

from __future__ import annotations

import unicodedata


def normalize_label(label: str) -> str:
    """`Dog_Bark ` → `dog bark`: NFC, lower case, `_` and `/` to space, single spaces, printable characters only."""
    text = unicodedata.normalize("NFC", label).replace("_", " ").replace("/", " ")
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.lower().split())


def template_caption(label: str) -> str:
    """`Sound of a {label}`: the prompt of losers, alignment and CLAP scoring (arXiv 2410.02056)."""
    return f"sound of a {normalize_label(label)}"
