from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

import common.training
from common.classifier.model import build_classifier, load_classifier, save_classifier
from common.config.classifier import ASTArchitecture
from common.corpus import write_shard
from common.errors import DataError
from common.hashing import hash_dir, hash_file
from components.pretrain_classifier.run import run

SIZES = {
    "hidden_size": 16,
    "layers": 1,
    "heads": 2,
    "intermediate_size": 32,
    "patch_size": 16,
    "frequency_stride": 16,
    "time_stride": 16,
    "max_length": 48,
    "num_mel_bins": 32,
}
LABELS = ["hum", "hiss"]


def samples(count: int, seed: int, labelled: bool) -> Iterator[tuple[str, dict[str, bytes]]]:
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = LABELS[index % 2]
        noise = rng.standard_normal((20000, 2))
        tone = np.sin(2 * np.pi * 200 * np.arange(20000) / 44100)[:, None]
        audio = 0.1 * noise if label == "hiss" else 0.4 * tone + 0.01 * noise
        file = io.BytesIO()
        soundfile.write(file, audio, 44100, format="FLAC")
        facts = {"caption": f"a {label}", "label": label if labelled else None, "duration_s": 20000 / 44100}
        yield f"{index:05d}", {"flac": file.getvalue(), "json": json.dumps(facts).encode()}


def write_corpus(folder: Path, labelled: bool = True) -> Path:
    folder.mkdir(parents=True)
    shards = []
    for split, count in (("train", 24), ("heldout", 10)):
        path = folder / f"{split}.tar"
        clips = write_shard(path, samples(count, len(split), labelled))
        shards.append(
            {
                "file": path.name,
                "kind": "audio",
                "split": split,
                "clips": clips,
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        )
    (folder / "manifest.json").write_text(json.dumps({"shards": shards, "labels": sorted(LABELS) if labelled else []}))
    return folder


def config(**settings: Any) -> dict[str, Any]:
    optim = {"steps": 60.0, "batch_size": 8, "learning_rate": 5e-3, "record_every": 5}
    return {
        "settings": {"checkpoint": None, "revision": None, "architecture": SIZES, "optim": optim, **settings},
        "seed": 3.0,
    }


def pretrain(corpus: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return run(str(corpus), str(out), str(out.parent / "metrics.json"), config=config(**settings), code_version="v1")


def test_it_learns_the_labels_and_the_stock_pipeline_loads_it(tmp_path: Path) -> None:
    figures = pretrain(write_corpus(tmp_path / "corpus"), tmp_path / "out")
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    assert training["held_out_accuracy"] == figures["held_out_accuracy"] >= 0.9
    assert training["clips"] == 24
    assert training["curve"][-1]["loss"] < training["curve"][0]["loss"]
    stock = pipeline("audio-classification", model=str(tmp_path / "out"))
    assert {entry["label"] for entry in stock(np.zeros(8000, np.float32), top_k=None)} == set(LABELS)
    assert load_classifier(tmp_path / "out").labels == sorted(LABELS)


def test_features_are_normalised_by_the_corpus(tmp_path: Path) -> None:
    pretrain(write_corpus(tmp_path / "corpus"), tmp_path / "out")
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    extractor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (extractor["mean"], extractor["std"]) == (training["mean"], training["std"])
    assert 0 < extractor["std"] < 10


def dies_at(call: int) -> Callable[..., dict[str, float]]:
    real, calls = common.training._step, 0

    def step(*args: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*args)

    return step


@pytest.mark.parametrize("masks", [0.0, 0.2])
def test_a_repeat_and_a_resumed_run_are_equal_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: float
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    optim = {**config()["settings"]["optim"], "steps": 20, "checkpoint_every_s": 1e-9}
    settings = {"optim": optim, "specaugment_strength": masks}
    hashes = []
    for name in ("a", "b"):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store-{name}"))
        torch.manual_seed(len(hashes))
        if name == "b":
            with monkeypatch.context() as patch:
                patch.setattr(common.training, "_step", dies_at(14))
                with pytest.raises(KeyboardInterrupt):
                    pretrain(corpus, tmp_path / name, **settings)
        pretrain(corpus, tmp_path / name, **settings)
        hashes.append(hash_dir(tmp_path / name))
    assert hashes[0] == hashes[1]


def test_a_corpus_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label column"):
        pretrain(write_corpus(tmp_path / "corpus", labelled=False), tmp_path / "out")


def test_a_published_checkpoint_is_verified_and_handed_on(tmp_path: Path) -> None:
    published = build_classifier(ASTArchitecture(**SIZES), ["a", "b", "c"], -4.0, 4.5, seed=1)
    save_classifier(published, tmp_path / "published")
    figures = pretrain(tmp_path, tmp_path / "out", checkpoint=str(tmp_path / "published"))
    assert figures["labels"] == 3
    handed = load_classifier(tmp_path / "out").model.state_dict()
    assert all(torch.equal(value, handed[key]) for key, value in published.model.state_dict().items())
    assert json.loads((tmp_path / "out" / "training.json").read_text())["checkpoint"] == str(tmp_path / "published")


def test_a_damaged_or_unreachable_checkpoint_is_refused(tmp_path: Path) -> None:
    published = build_classifier(ASTArchitecture(**SIZES), ["a", "b", "c"], -4.0, 4.5, seed=1)
    with torch.no_grad():
        published.model.classifier.dense.bias.fill_(float("nan"))
    save_classifier(published, tmp_path / "nan")
    with pytest.raises(DataError, match="not finite"):
        pretrain(tmp_path, tmp_path / "out", checkpoint=str(tmp_path / "nan"))
    with pytest.raises(DataError, match="allow access to the hub"):
        pretrain(tmp_path, tmp_path / "out", checkpoint="nobody/nothing", revision="0" * 40)
