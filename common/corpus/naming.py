"""Which labels a caption of the corpus names."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache

from common.records.text import normalize_label

_ENDINGS = (("ie[sd]$", "y"), ("(?<![su])s$", ""), (r"(?:([bdgmnprt])\1)?(?:ing|(?<!e)ed)$|e$", r"\1"))


class Names:
    """Which labels a text names.

    A text names a label when it has all its words, in any order and any of their common forms: `dogs are barking` names
    `dog_bark`. Of `dog` and `dog_bark` it then names the longer one. Of a label without words its signs count: `🐶`.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._words = {label: _words(label) or _signs(label) for label in labels}
        self._own = {normalize_label(label): frozenset([label]) for label in labels}

    def __call__(self, text: str) -> frozenset[str]:
        """Labels that the text names; one that it is names no other."""
        if own := self._own.get(normalize_label(text)):
            return own
        heard = _words(text) | _signs(text)
        found = {label: words for label, words in self._words.items() if words and words <= heard}
        return frozenset(label for label, own in found.items() if not any(own < other for other in found.values()))

    def of_clip(self, captions: Iterable[tuple[str | None, str]]) -> frozenset[str]:
        """Labels of a clip with these labels and captions: of each pair those that the label names, or the caption."""
        named = {name for label, caption in captions for name in self(label or "") or self(caption)}
        return frozenset(named) if len(named) < 2 else self(" ".join(sorted(named)))

    def shared(self, text: str) -> dict[str, float]:
        """Of each label, the words that the text has too, as a share of the words in either."""
        heard = _words(text)
        return {label: len(words & heard) / max(1, len(words | heard)) for label, words in self._words.items()}


def _words(text: str) -> frozenset[str]:
    text = re.sub(r"['’]s\b", "", normalize_label(text))
    # Vowel signs are parts of a word, and Chinese and Japanese characters words, since no spaces are between them.
    text = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in text)
    return frozenset(map(_stem, re.sub("([\u3040-\u9fff])", r" \1 ", text).split()))


def _signs(text: str) -> frozenset[str]:
    """Emoji and the like; punctuation stands in any text."""
    return frozenset(c for c in text if unicodedata.category(c) == "So")


@cache
def _stem(word: str) -> str:
    """A word without its common endings: `claps`, `clapped` and `clapping` become `clap`."""
    for ending, rest in _ENDINGS:
        stem = re.sub(ending, rest, word)
        if len(stem) >= 3 and re.search("[aeiouy]", stem):
            word = stem
    return word
