"""The corpus clips that are called like a gold clip: the control by label, which no CLAP and no generator enters."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from common.config.recipes import OF_LABEL
from common.corpus.naming import Names
from common.corpus.shards import Corpus, Shard, read_shard, recording_of
from common.records.clips import GoldClip
from common.runtime.seeding import numpy_generator
from components.retrieve_audio.found import Found, corpus_clip


def find_of_label(
    corpus: Corpus,
    shards: Sequence[Shard],
    labels: Sequence[str],
    train: Mapping[int, Sequence[GoldClip]],
    clips_per_gold: int,
    rate: int,
    without: Collection[str] = (),
) -> list[Found]:
    """Draw `clips_per_gold` clips for each training clip of a replicate, each recording at most once in it.

    A recording suits a gold clip when its labels, or else its captions, name exactly the labels of the gold clip; those
    whose key is in `without` are left out. A class gets fewer clips where the corpus holds fewer.
    """
    names = Names(labels)
    held: dict[frozenset[str], list[tuple[int, dict[str, Any]]]] = {}
    for recording, told in groupby(enumerate(_facts(corpus, shards)), lambda row: recording_of(row[1]["key"])):
        captions = list(told)
        if recording in without:
            continue
        if named := names.of_clip((facts["label"], facts["caption"]) for _, facts in captions):
            held.setdefault(named, []).append(captions[0])
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
    return found


def _facts(corpus: Corpus, shards: Sequence[Shard]) -> Iterator[dict[str, Any]]:
    """Key, label, caption and duration of each clip, in the order of the shards; no audio is decoded."""
    for shard in shards:
        with corpus.open_shard(shard) as file:
            for key, parts in read_shard(file, shard.uri):
                yield {"key": key, **json.loads(parts["json"])}
