"""The corpus clips that are called like a gold clip: the control by label, which no CLAP and no generator enters."""

import json
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

from common.config.recipes import OF_LABEL
from common.corpus.naming import Names
from common.corpus.shards import Corpus, Shard, read_shard, recording_of
from common.records.clips import GoldClip
from common.runtime.seeding import numpy_generator
from components.retrieve_audio.found import Found


def find_of_label(
    corpus: Corpus,
    shards: Sequence[Shard],
    labels: Sequence[str],
    train: Mapping[int, Sequence[GoldClip]],
    clips_per_gold: int,
    without: Collection[int] = (),
) -> list[Found]:
    """Draw `clips_per_gold` clips for each training clip of a replicate, each recording at most once in it.

    A recording suits a gold clip when its labels, or else its captions, name exactly the labels of the gold clip; those
    whose place is in `without` are left out. A class gets fewer clips where the corpus holds fewer.
    """
    names = Names(labels)
    # Eight bytes a recording: a class may be named by a million.
    held: dict[frozenset[str], array[int]] = {}
    for _, rows in groupby(enumerate(_captions(corpus, shards)), lambda row: recording_of(row[1][0])):
        told = list(rows)
        if told[0][0] in without:
            continue
        if named := names.of_clip((label, caption) for _, (_, label, caption) in told):
            held.setdefault(named, array("q")).append(told[0][0])
    found: list[Found] = []
    for replicate, clips in train.items():
        alike: dict[frozenset[str], list[GoldClip]] = {}
        for clip in sorted(clips, key=lambda clip: clip.clip_id):
            alike.setdefault(frozenset(clip.labels), []).append(clip)
        for named, sources in alike.items():
            known = held.get(named, array("q"))
            drawn = numpy_generator(replicate, "clips of label", *sorted(named)).permutation(len(known))
            # Each source gets its first clip before any gets its second.
            for number, row in enumerate(drawn[: len(sources) * clips_per_gold]):
                rank, turn = divmod(number, len(sources))
                found.append(Found(known[row], OF_LABEL, replicate, sources[turn], rank, {}))
    return found


def _captions(corpus: Corpus, shards: Sequence[Shard]) -> Iterator[tuple[str, str | None, str]]:
    """Key, label and caption of each clip, in the order of the shards; no audio is decoded."""
    for shard in shards:
        with corpus.open_shard(shard) as file:
            for key, parts in read_shard(file, shard.uri):
                facts = json.loads(parts["json"])
                yield key, facts["label"], facts["caption"]
