"""Whether a sentence is in another language of Latin script, told by its function words."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter

MIN_WORDS = 2
"""One foreign word may be a name or a loan word."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LISTS = TypeAdapter(dict[str, str])


def in_other_language(text: str, language: str) -> bool:
    """Whether `text` has more function words of one other language than of `language`, and at least two.

    Captions are too short for statistics of letters: those take `a loud hum, hiss` for anything.
    Function words never refuse a caption that has none.

    Args:
        text: without the labels, which may be in any language.
        language: name of a list in `languages.yaml`.
    """
    words = {word.replace("’", "'") for word in _WORD.findall(text.lower())}
    lists = _function_words()
    own = lists[language.lower()]
    counts = [len(words & listed - own) for name, listed in lists.items() if name != language.lower()]
    most = max(counts, default=0)
    return most >= MIN_WORDS and most > len(words & own)


@cache
def _function_words() -> dict[str, frozenset[str]]:
    text = Path(__file__).with_name("languages.yaml").read_text(encoding="utf-8")
    return {name: frozenset(words.split()) for name, words in _LISTS.validate_python(yaml.safe_load(text)).items()}
