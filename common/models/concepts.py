"""How near a dataset's labels are to what a text-to-audio model was trained on. Free of torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.corpus.naming import Names
from common.models.shipped import shipped_folder, shipped_models
from common.records.text import normalize_label
from common.storage import read_json

CONCEPTS = "concepts.json"
"""File of a shipped text-to-audio model: the labels of its training clips."""


@dataclass(frozen=True)
class Nearness:
    """A label and the concept of the model that shares most words with it."""

    label: str
    concept: str | None
    """None = none shares a word."""
    shared: float
    """Words in both, as a share of the words in either; 1 = the same words."""


def concepts_of(model: str) -> list[str] | None:
    """Concepts of a text-to-audio model; None where they are not known, as for published ones.

    Raises DataError: a file of a shipped model is missing or changed.
    """
    if model not in shipped_models():
        return None
    path = shipped_folder(model) / CONCEPTS
    return list(read_json(path)) if path.is_file() else None


def nearest(label: str, concepts: Sequence[str]) -> Nearness:
    """The concept that shares the largest part of a label's words; of equal ones the first."""
    names = Names([label])
    shares = [names.shared(each)[label] for each in concepts]
    best = max(range(len(shares)), key=shares.__getitem__, default=None)
    if best is None or not shares[best]:
        return Nearness(label, None, 0.0)
    return Nearness(label, concepts[best], round(shares[best], 3))


def spelled_words(tokenizer: Path, label: str) -> list[str]:
    """Words of a label that a text encoder reads letter by letter, having met none of their parts.

    None are found in a folder without `tokenizer.json`.
    """
    from tokenizers import Tokenizer

    file = tokenizer / "tokenizer.json"
    if not file.is_file():
        return []
    opened = Tokenizer.from_file(str(file))
    opened.no_padding()
    pieces = {word: opened.encode(word, add_special_tokens=False).tokens for word in normalize_label(label).split()}
    letter = re.compile("▁*.?|<0x.*")  # or a byte
    return [word for word, parts in pieces.items() if len(parts) > 1 and all(map(letter.fullmatch, parts))]
