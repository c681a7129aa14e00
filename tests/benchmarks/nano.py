"""What each kind of sound in the corpus of nano brings its encoder: short trainings, each without one kind.

Every training takes the same number of steps by the settings of `make nano`. The judge is logistic regression on the
encoder's frozen features, from n labelled clips of sets that the corpus does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.classifier.inference import embeddings
from common.classifier.model import load_classifier
from common.errors import DataError, SynthioError
from common.storage import STORE_VARIABLE, read_json, write_text
from components.prepare_corpus.run import run as prepare_corpus
from components.pretrain_classifier.run import run as pretrain_classifier
from contrib.nano.corpus import CAPTIONS, SHARDS
from contrib.nano.training import NanoSettings, load_settings
from pipelines.sources import code_version
from tests.benchmarks.codec import Clip, Split, splits
from tests.benchmarks.figures import FOLDER, machine
from tests.benchmarks.learner_sets import SETS

PROCEDURAL = "procedural"
KINDS: dict[str, tuple[str, ...]] = {
    "effects": ("effects_16k",),
    "sounds": ("sounds_16k", "corpus_16k"),
    "drums": ("drums_16k",),
    "notes": ("notes",),
    "speech": ("speech_16k", "words_16k", "spoken"),
    PROCEDURAL: (),
}
"""Collections of the corpus, by kind of sound; `prepare_corpus` generates the procedural clips."""
EVERYTHING = "nothing"
DRAWS = 20


class Result(NamedTuple):
    """Of one encoder.

    Attributes:
        left_out: kind of sound, or `EVERYTHING`.
        clips: that it was trained on.
        held_out: percent of labels right on clips of its own corpus that it was not trained on.
        accuracy: percent of test clips right by set, mean over draws of n clips.
    """

    left_out: str
    clips: int
    held_out: float
    accuracy: dict[str, float]


def train(corpus: Path, folder: Path, left_out: str, settings: NanoSettings, shards: int) -> Path:
    """Train the encoder without a kind of sound; return the folder that holds `classifier` and `metrics.json`.

    Args:
        shards: how many tar files of the corpus are used; clips of all kinds are in each.

    Raises:
        DataError: `corpus` holds none.
    """
    if not (corpus / CAPTIONS).is_file():
        raise DataError(f"{corpus / CAPTIONS} is not there: CORPUS= names a folder of make nano-corpus")
    used = sorted((corpus / SHARDS).glob("*.tar"))[:shards]
    captions, audio = folder / CAPTIONS, folder / SHARDS
    shutil.rmtree(audio, ignore_errors=True)
    audio.mkdir(parents=True)
    for path in used:
        (audio / path.name).symlink_to(path.resolve())
    rows = ((line, json.loads(line)) for line in (corpus / CAPTIONS).read_text(encoding="utf-8").splitlines())
    without, stems = KINDS.get(left_out, ()), {path.stem for path in used}
    kept = [line for line, row in rows if row["file"].split("-")[0] in stems and row["collection"] not in without]
    write_text(captions, "\n".join(kept) + "\n")
    made_of = settings.prepare_corpus.model_copy(
        update={
            "audio_dir": str(audio.resolve()),
            "captions_file": str(captions.resolve()),
            **({"procedural_clips": 0} if left_out == PROCEDURAL else {}),
        }
    )
    prepare_corpus(
        str(folder / "corpus"),
        str(folder / "corpus.json"),
        config={"settings": made_of.model_dump(mode="json"), "seed": settings.seed, "latents": False},
        code_version=code_version("prepare_corpus"),
    )
    pretrain_classifier(
        str(folder / "corpus"),
        str(folder / "classifier"),
        str(folder / "metrics.json"),
        config={"settings": settings.pretrain_classifier.model_dump(mode="json"), "seed": settings.seed},
        code_version=code_version("pretrain_classifier"),
    )
    return folder


def accuracy(encoder: Path, split: Split, n: int) -> float:
    """Percent of the split's test clips right by a regression on frozen features; mean over `DRAWS` of n clips."""
    opened = load_classifier(encoder)
    train, test = (embeddings(opened, opened.front_end([clip.audio for clip in part])) for part in split)
    labels, truth = (np.array([clip.label for clip in part]) for part in split)
    found = []
    for draw in range(DRAWS):
        kept = drawn(split.train, n, draw)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        found.append(float(model.fit(train[kept], labels[kept]).score(test, truth)))
    return 100 * float(np.mean(found))


def drawn(clips: Sequence[Clip], n: int, seed: int) -> list[int]:
    """Places of n clips, as many of each label as of any other, as far as they go."""
    order = np.random.default_rng(seed).permutation(len(clips))
    rank: dict[str, int] = {}
    turns = []
    for place in order:
        label = clips[place].label
        turns.append((rank.setdefault(label, 0), int(place)))
        rank[label] += 1
    return [place for _, place in sorted(turns, key=lambda turn: turn[0])[:n]]


def table(results: Sequence[Result]) -> str:
    """A row for each encoder, as Markdown; differences to the one that nothing is left out of."""
    names = list(results[0].accuracy)
    head = ["left out", "clips", "labels right, own held-out clips", *names, "mean"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for each in results:
        row = [each.left_out, f"{each.clips:,}", f"{each.held_out:.1f}"]
        own = [*each.accuracy.values(), float(np.mean(list(each.accuracy.values())))]
        base = [*results[0].accuracy.values(), float(np.mean(list(results[0].accuracy.values())))]
        told = [f"{a:.1f}" if each is results[0] else f"{a:.1f} ({a - b:+.1f})" for a, b in zip(own, base, strict=True)]
        lines.append(f"| {' | '.join([*row, *told])} |")
    return "\n".join(lines)


def main() -> int:
    """Train and judge the encoders, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of make nano-corpus")
    parser.add_argument("--data", type=Path, required=True, help="folder of the audio of all sets but the demo")
    parser.add_argument("--shards", type=int, default=10, help="tar files of the corpus to use")
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--folder", type=Path, default=FOLDER / "nano")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ[STORE_VARIABLE] = str((asked.folder / "store").resolve())
    optim = {"steps": asked.steps, "evaluate_every": asked.steps}
    settings = load_settings(" ".join(f"pretrain_classifier.optim.{name}={value}" for name, value in optim.items()))
    results: list[Result] = []
    try:
        sets = {name: splits(name, asked.data, 1)[0] for name in SETS}
        for left_out in (EVERYTHING, *KINDS):
            made = train(asked.corpus, asked.folder / left_out, left_out, settings, asked.shards)
            found = {
                name: accuracy(made / "classifier", split, min(SETS[name].targets)) for name, split in sets.items()
            }
            figures: dict[str, Any] = read_json(made / "metrics.json")
            results.append(Result(left_out, figures["clips"], 100 * figures["held_out_accuracy"], found))
            print(f"without {left_out}: {found}", flush=True)
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{machine()}\n\n{table(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
