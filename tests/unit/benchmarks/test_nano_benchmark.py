"""The benchmark of nano's corpus: what is left out, which clips are drawn, its table."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.errors import DataError
from common.storage import STORE_VARIABLE, read_json
from contrib.nano.training import load_settings
from tests.benchmarks.codec import Clip, Split
from tests.benchmarks.nano import EVERYTHING, PROCEDURAL, Result, accuracy, drawn, table, train
from tests.kit.sounds import TONES, tone

RATE = 16000
QUICK = (
    "pretrain_classifier.optim.steps=2 pretrain_classifier.optim.warmup_steps=1 pretrain_classifier.optim.batch_size=8"
)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shards of clips, half of them notes and half effects."""
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    folder = tmp_path / "corpus"
    (folder / "shards").mkdir(parents=True)
    rows = []
    for shard in range(2):
        with tarfile.open(folder / "shards" / f"{shard:03d}.tar", "w") as tar:
            for number in range(8):
                name, label = f"{shard:03d}-{number}.flac", sorted(TONES)[number % 2]
                soundfile.write(folder / name, tone(label, number), RATE)
                tar.add(folder / name, name)
                collection = ("notes", "effects_16k")[number // 4]
                rows.append({"file": name, "caption": label, "label": label, "collection": collection})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_an_encoder_is_trained_without_the_clips_of_a_kind(corpus: Path, tmp_path: Path) -> None:
    settings = load_settings(f"{QUICK} prepare_corpus.procedural_clips=84 prepare_corpus.heldout_fraction=0.4")
    clips = {
        left_out: read_json(train(corpus, tmp_path / left_out, left_out, settings, 2) / "corpus.json")["clips"]
        for left_out in (EVERYTHING, "notes", PROCEDURAL)
    }
    assert clips == {EVERYTHING: 16 + 84, "notes": 8 + 84, PROCEDURAL: 16}
    part = [Clip(tone(label, number), label) for label in TONES for number in range(4)]
    assert 0 <= accuracy(tmp_path / EVERYTHING / "classifier", Split(part, part), 4) <= 100


def test_a_folder_without_a_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"captions\.jsonl.*nano-corpus"):
        train(tmp_path, tmp_path / "made", EVERYTHING, load_settings(), 2)


def test_clips_are_drawn_as_many_of_each_label_as_of_any_other() -> None:
    clips = [Clip(np.zeros(1, np.float32), label) for label in "aaaaaaaabb"]
    assert sorted(clips[place].label for place in drawn(clips, 4, 0)) == ["a", "a", "b", "b"]
    assert drawn(clips, 4, 0) == drawn(clips, 4, 0) != drawn(clips, 4, 1)


def test_the_table_states_differences_to_the_encoder_of_the_whole_corpus() -> None:
    whole = Result(EVERYTHING, 100, 50.0, {"demo": 60.0, "digits": 40.0})
    rows = table([whole, Result("notes", 80, 45.0, {"demo": 58.0, "digits": 41.0})]).splitlines()
    assert rows[2] == "| nothing | 100 | 50.0 | 60.0 | 40.0 | 50.0 |"
    assert rows[3] == "| notes | 80 | 45.0 | 58.0 (-2.0) | 41.0 (+1.0) | 49.5 (-0.5) |"
