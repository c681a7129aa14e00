"""The corpus clips that are called like a gold clip: the control by label, which no CLAP and no generator enters."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.config.recipes import OF_LABEL
from common.corpus.shards import Corpus, Shard, read_shard
from common.records.clips import GoldClip
from common.records.text import normalize_label
from common.runtime.seeding import numpy_generator
from components.retrieve_audio.found import Found, corpus_clip

_ENDING = re.compile(r"(?:ing|ed|es|(?<!s)s|e)$")


class Names:
    """Which labels a text names.

    A text names a label when it has all its words, in any order and any of their common forms: `dogs are barking` names
    `dog_bark`. Of `dog` and `dog_bark` it then names the longer one.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._words = {label: _words(label) for label in labels}

    def __call__(self, text: str) -> frozenset[str]:
        """Labels that the text names."""
        heard = _words(text)
        found = {label: words for label, words in self._words.items() if words and words <= heard}
        return frozenset(label for label, own in found.items() if not any(own < other for other in found.values()))


def _words(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in re.findall(r"\w+", normalize_label(text)))


def _stem(word: str) -> str:
    """A word without its common endings: `claps`, `clapped` and `clapping` become `clap`."""
    stem = _ENDING.sub("", re.sub("ies$", "y", word))
    if stem == word or len(stem) < 3 or not re.search("[aeiouy]", stem):
        return word
    return re.sub(r"([bdgmnprt])\1$", r"\1", stem)


def find_of_label(
    corpus: Corpus,
    shards: Sequence[Shard],
    labels: Sequence[str],
    train: Mapping[int, Sequence[GoldClip]],
    clips_per_gold: int,
    rate: int,
) -> tuple[list[Found], dict[str, int]]:
    """Draw clips for the training clips of every replicate, each corpus clip at most once in a replicate.

    A corpus clip suits a gold clip when its label, or else its caption, names exactly the labels of the gold clip.

    Args:
        clips_per_gold: clips wanted per training clip; a class gets fewer where the corpus holds fewer.

    Returns the clips, and how many the corpus holds of each label.
    """
    names = Names(labels)
    held: dict[frozenset[str], list[tuple[int, dict[str, Any]]]] = {}
    for place, facts in enumerate(_facts(corpus, shards)):
        if named := names(facts.pop("label") or "") or names(facts["caption"]):
            held.setdefault(named, []).append((place, facts))
    found: list[Found] = []
    for replicate, clips in train.items():
        alike: dict[frozenset[str], list[GoldClip]] = {}
        for clip in sorted(clips, key=lambda clip: clip.clip_id):
            alike.setdefault(frozenset(clip.labels), []).append(clip)
        for named, sources in alike.items():
            known = held.get(named, [])
            drawn = numpy_generator(replicate, "clips of label", *sorted(named)).permutation(len(known))
            # Each source gets its first clip before any gets its second.
            for number, row in enumerate(drawn[: len(sources) * clips_per_gold]):
                rank, turn = divmod(number, len(sources))
                place, facts = known[row]
                found.append((place, corpus_clip(OF_LABEL, replicate, sources[turn], rank, facts, rate)))
    counts = Counter(label for named, known in held.items() for label in named for _ in known)
    return found, {label: counts[label] for label in labels}


def _facts(corpus: Corpus, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    """Key, label, caption and duration of each clip, in the order of the shards; no audio is decoded."""
    for shard in shards:
        with corpus.open_shard(shard) as file:
            for key, parts in read_shard(file, shard.uri):
                told = json.loads(parts["json"])
                yield {"key": key, **{name: told[name] for name in ("label", "caption", "duration_s")}}
