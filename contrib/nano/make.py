"""Put together the corpus that the shipped weights are trained on (`make nano-corpus DATA=… OUT=…`); docs/NANO.md."""

from __future__ import annotations

import argparse

from common.errors import ConfigError
from pipelines.commands.arguments import number
from pipelines.commands.options import place

OPTIONS = {
    **{"--data": "", "--out": "", "--collections": "", "--leave-out": "foley8 esc50", "--notes": "20000"},
    **{"--words": "10000", "--shards": "40", "--seed": "0", "--jobs": "2"},
}


def run(options: argparse.Namespace) -> int:
    """Make what is missing of the corpus, and print its counts."""
    from contrib.nano.corpus import make_corpus
    from contrib.nano.notes import Notes
    from contrib.nano.recordings import KINDS, read_collection
    from contrib.nano.spoken import Spoken

    if not options.data or not options.out:
        raise ConfigError("DATA and OUT are needed: the folder of the collections, and the folder of the corpus")
    left_out = "" if options.leave_out == "none" else options.leave_out
    names = options.collections.replace(",", " ").split() or list(KINDS)
    recordings = [read_collection(place(options.data) / name, left_out) for name in names]
    notes, spoken = Notes(number("NOTES", options.notes, 0)), Spoken(number("WORDS", options.words, 0))
    card = make_corpus(
        [*recordings, *([notes] if notes.count else []), *([spoken] if spoken.count else [])],
        place(options.out),
        number("SEED", options.seed, 0),
        number("SHARDS", options.shards, 2),
        number("JOBS", options.jobs, 1),
    )
    for kind in ("collections", "licences"):
        for name, counts in card[kind].items():
            print(f"{name:20} {counts['files']:6} files {counts['clips']:7} clips {counts['hours']:7.2f} hours")
    for found in recordings:
        if found.left_out:
            print(f"{found.name}: {found.left_out} recordings left out ({left_out})")
    print(f"{card['clips']} clips, {card['captions']} captions, {card['hours']} hours, {card['labels']} labels")
    return 0
