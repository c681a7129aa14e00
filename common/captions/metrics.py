"""Diversity and label recall of captions."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate, combinations
from operator import or_

from common.captions.checks import contains_phrase
from common.runtime.seeding import numpy_generator

SAMPLE_PER_LABEL = 50
"""Captions per label in the pairwise measures, to bound the time."""

FIGURES = ("captions", "distinct_1", "distinct_2", "self_bleu", "word_spread", "unique_share", "label_recall")

_WORD = re.compile(r"[^\W_]+")


def diversity(captions: Mapping[str, Sequence[str]]) -> dict[str, float | int]:
    """Diversity figures of captions; means over labels, each label counted once.

    Returns:
        `captions`: their number. `distinct_1`, `distinct_2`: distinct words and pairs of words over
        all (arXiv 1510.03055). `self_bleu`: BLEU-4 against the label's other captions, 1 = all alike
        (arXiv 1802.01886). `word_spread`: mean Jaccard distance of the word sets of two captions, 0 =
        all alike. `unique_share`: distinct captions over all. `label_recall`: share with the whole
        label. Labels with a single caption are left out of the pairwise measures.
    """
    per_label = diversity_by_label(captions)
    total = sum(int(one["captions"]) for one in per_label.values())
    kept = sum(one["captions"] * one["label_recall"] for one in per_label.values())
    return {
        **dict.fromkeys(FIGURES, 0.0),
        **mean_figures(list(per_label.values())),
        "captions": total,
        "label_recall": kept / total if total else 0.0,
    }


def diversity_by_label(captions: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float | int]]:
    """Figures of `diversity` for each label with captions; pairwise ones from two captions on."""
    return {label: _of_label(label, list(found)) for label, found in sorted(captions.items()) if found}


def _of_label(label: str, captions: list[str]) -> dict[str, float | int]:
    figures = {
        "captions": len(captions),
        "distinct_1": distinct(captions, 1),
        "distinct_2": distinct(captions, 2),
        "unique_share": len(set(captions)) / len(captions),
        "label_recall": sum(contains_phrase(caption, label) for caption in captions) / len(captions),
    }
    if len(captions) > 1:
        sample = _sample(captions, label)
        sets = [frozenset(_words(caption)) for caption in sample]
        spread = _mean([1 - len(a & b) / max(1, len(a | b)) for a, b in combinations(sets, 2)])
        figures |= {"self_bleu": self_bleu(sample), "word_spread": spread}
    return figures


def mean_figures(figures: Sequence[Mapping[str, float | int]]) -> dict[str, float | int]:
    """Mean of each figure over the entries that have it."""
    names = [name for name in FIGURES if any(name in one for one in figures)]
    return {name: _mean([one[name] for one in figures if name in one]) for name in names}


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
        # The largest count of each n-gram in the captions before each, and after it.
        before = [*accumulate(counts, or_, initial=Counter[tuple[str, ...]]())]
        after = [*accumulate(counts[::-1], or_, initial=Counter[tuple[str, ...]]())][::-1]
        smooth = 0 if n == 1 else 1
        for index, own in enumerate(counts):
            matches = sum(min(times, max(before[index][gram], after[index + 1][gram])) for gram, times in own.items())
            if own:
                share = (matches + smooth) / (own.total() + smooth)
                logs[index].append(math.log(share) if share > 0 else -math.inf)
    lengths = [len(own) for own in words]
    return _mean([math.exp(_brevity(lengths, i) + _mean(found)) if found else 0.0 for i, found in enumerate(logs)])


def _brevity(lengths: Sequence[int], index: int) -> float:
    """Log of BLEU's brevity penalty: 0, or less for a caption shorter than the one nearest in length."""
    own = lengths[index]
    others = [length for i, length in enumerate(lengths) if i != index]
    nearest = min(others, key=lambda length: (abs(length - own), length))
    return min(0.0, 1 - nearest / max(1, own))


def _sample(captions: Sequence[str], label: str) -> list[str]:
    if len(captions) <= SAMPLE_PER_LABEL:
        return list(captions)
    chosen = numpy_generator(0, "diversity", label).choice(len(captions), SAMPLE_PER_LABEL, replace=False)
    return [captions[index] for index in sorted(chosen)]


def _words(caption: str) -> list[str]:
    return _WORD.findall(caption.lower())


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
