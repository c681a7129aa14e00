"""How diverse captions are, and whether they keep their label."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from common.captions.checks import contains_phrase
from common.seeding import numpy_generator

SAMPLE_PER_LABEL = 50
"""Captions per label that enter the pairwise measures, to bound the time."""

_WORD = re.compile(r"[^\W_]+")


def diversity(captions: Mapping[str, Sequence[str]], seed: int = 0) -> dict[str, float | int]:
    """Figures of captions by label; means over labels, each label counted once.

    Args:
        captions: captions of each normalised label.
        seed: draws the sample for the pairwise measures.

    Returns:
        `captions`: their number. `distinct_1`, `distinct_2`: distinct words and pairs of words over
        all (arXiv 1510.03055). `self_bleu`: BLEU-4 against the label's other captions, 1 = all alike
        (arXiv 1802.01886). `word_spread`: mean Jaccard distance of the word sets of two captions, 0 =
        all alike. `unique_share`: distinct captions over all. `label_recall`: share with the whole label.
    """
    per_label = {label: list(found) for label, found in sorted(captions.items()) if found}
    total = sum(len(found) for found in per_label.values())
    kept = sum(contains_phrase(caption, label) for label, found in per_label.items() for caption in found)
    sampled = {label: _sample(found, seed, label) for label, found in per_label.items()}
    return {
        "captions": total,
        "distinct_1": _mean([distinct(found, 1) for found in per_label.values()]),
        "distinct_2": _mean([distinct(found, 2) for found in per_label.values()]),
        "self_bleu": _mean([self_bleu(found) for found in sampled.values() if len(found) > 1]),
        "word_spread": _mean([_word_spread(found) for found in sampled.values() if len(found) > 1]),
        "unique_share": _mean([len(set(found)) / len(found) for found in per_label.values()]),
        "label_recall": kept / total if total else 0.0,
    }


def distinct(captions: Sequence[str], n: int) -> float:
    """Distinct n-grams over all n-grams of the captions; 0 when there are none."""
    grams = [gram for caption in captions for gram in _grams(_words(caption), n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def self_bleu(captions: Sequence[str]) -> float:
    """Mean BLEU of each caption against all others; at least two captions.

    n-grams up to 4, or the caption's length; orders above 1 are smoothed by adding one to both counts.
    """
    words = [_words(caption) for caption in captions]
    logs: list[list[float]] = [[] for _ in words]
    for n in range(1, 5):
        counts = [Counter(_grams(own, n)) for own in words]
        highest = _highest(counts)
        smooth = 0 if n == 1 else 1
        for index, own in enumerate(counts):
            matches = sum(min(count, highest[gram].without(index)) for gram, count in own.items())
            if own:
                logs[index].append(_log((matches + smooth) / (own.total() + smooth)))
    lengths = [len(own) for own in words]
    return _mean([math.exp(_brevity(lengths, i) + _mean(found)) if found else 0.0 for i, found in enumerate(logs)])


class _Highest(NamedTuple):
    """The largest count of an n-gram in one caption, which caption has it, and the largest in any other."""

    most: int
    holder: int
    rest: int

    def without(self, index: int) -> int:
        """The largest count in captions other than `index`."""
        return self.rest if index == self.holder else self.most


def _highest(counts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], _Highest]:
    found: dict[tuple[str, ...], _Highest] = {}
    for index, own in enumerate(counts):
        for gram, count in own.items():
            known = found.get(gram, _Highest(0, -1, 0))
            if count > known.most:
                found[gram] = _Highest(count, index, known.most)
            else:
                found[gram] = known._replace(rest=max(known.rest, count))
    return found


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _brevity(lengths: Sequence[int], index: int) -> float:
    """0, or below it for a caption shorter than the one nearest to it in length."""
    own = lengths[index]
    others = [length for i, length in enumerate(lengths) if i != index]
    nearest = min(others, key=lambda length: (abs(length - own), length))
    return min(0.0, 1 - nearest / max(1, own))


def _word_spread(captions: Sequence[str]) -> float:
    sets = [frozenset(_words(caption)) for caption in captions]
    return _mean([1 - len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)])


def _sample(captions: Sequence[str], seed: int, label: str) -> list[str]:
    if len(captions) <= SAMPLE_PER_LABEL:
        return list(captions)
    chosen = numpy_generator(seed, "diversity", label).choice(len(captions), SAMPLE_PER_LABEL, replace=False)
    return [captions[index] for index in sorted(chosen)]


def _words(caption: str) -> list[str]:
    return _WORD.findall(caption.lower())


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
