"""Labels and names written from right to left, inside text written from left to right."""

import unicodedata

_OPEN, _CLOSE = "\u2068", "\u2069"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN", "RLE", "RLO", "RLI"})


def isolated(text: str) -> str:
    """`text`, between a first strong isolate and its end where it holds characters written from right to left.

    Without them the words and figures that follow would be shown on its other side (UAX 9, "Isolates"). In HTML `bdi`
    does the same, but an attribute and a Markdown file hold no elements.
    """
    if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return f"{_OPEN}{text}{_CLOSE}"
    return text
