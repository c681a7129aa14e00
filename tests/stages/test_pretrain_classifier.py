from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline

from common.classifier.features import LogMel
from common.classifier.model import build_classifier, build_extractor, load_classifier, save_classifier
from common.classifier.scores import mean_average_precision
from common.config.classifier import ASTArchitecture, PretrainClassifierPlan
from common.corpus.features import audio_shards, write_features
from common.corpus.shards import VERSION
from common.errors import ConfigError, DataError
from common.storage import write_json
from common.storage.hashing import hash_file
from common.training import WHOLE, Part
from common.training.engine import Engine
from components.pretrain_classifier.pretraining import LabelledClips, batch_loss, held_out_figures, read_labelled
from components.pretrain_classifier.run import run
from tests.kit.corpus import write_shard
from tests.kit.hashing import hash_dir
from tests.kit.models import write_other_classifier
from tests.kit.predictions import predict_logits

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
OPTIM = {"steps": 60.0, "batch_size": 8, "learning_rate": 5e-3, "record_every": 5}


def samples(count: int, seed: int, labelled: bool, unlabelled: int = 0) -> Iterator[tuple[str, dict[str, bytes]]]:
    rng = np.random.default_rng(seed)
    for index in range(count):
        label = LABELS[index % 2]
        noise = rng.standard_normal((20000, 2))
        tone = np.sin(2 * np.pi * 200 * np.arange(20000) / 44100)[:, None]
        audio = 0.1 * noise if label == "hiss" else 0.4 * tone + 0.01 * noise
        file = io.BytesIO()
        soundfile.write(file, audio, 44100, format="FLAC")
        known = label if labelled and index >= unlabelled else None
        facts = {"caption": f"a {label}", "label": known, "duration_s": 20000 / 44100}
        yield f"{index:05d}", {"flac": file.getvalue(), "json": json.dumps(facts).encode()}


def write_corpus(folder: Path, labelled: bool = True, unlabelled: int = 0) -> Path:
    folder.mkdir(parents=True)
    shards = []
    for split, count in (("train", 24), ("heldout", 10)):
        path = folder / f"{split}.tar"
        clips = write_shard(path, samples(count, len(split), labelled, unlabelled))
        shards.append(
            {
                "uri": path.name,
                "kind": "audio",
                "split": split,
                "clips": clips,
                "bytes": path.stat().st_size,
                "sha256": hash_file(path),
            }
        )
    write_json(
        folder / "manifest.json", {"version": VERSION, "shards": shards, "labels": sorted(LABELS) if labelled else []}
    )
    return folder


def config(**settings: Any) -> dict[str, Any]:
    optim = None if "checkpoint" in settings else OPTIM
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


def unscaled(architecture: ASTArchitecture) -> LogMel:
    return LogMel(build_extractor(architecture, None, do_normalize=False))


def test_training_goes_on_from_a_checkpoint_with_the_labels_of_the_corpus(tmp_path: Path) -> None:
    sizes = ASTArchitecture(**SIZES)
    save_classifier(build_classifier(sizes, ["dog", "cat", "bell"], -5.0, 4.0, seed=7), tmp_path / "first")
    corpus = write_corpus(tmp_path / "corpus")
    optim = {**OPTIM, "steps": 1, "learning_rate": 1e-9}
    first = {"checkpoint": str(tmp_path / "first")}
    pretrain(corpus, tmp_path / "out", optim=optim, **first)
    trained, start = load_classifier(tmp_path / "out"), load_classifier(tmp_path / "first")
    assert trained.labels == sorted(LABELS)
    assert (trained.extractor.mean, trained.extractor.std) == (-5.0, 4.0)
    body = start.model.audio_spectrogram_transformer.state_dict()
    for name, value in trained.model.audio_spectrogram_transformer.state_dict().items():
        torch.testing.assert_close(value, body[name], atol=1e-6, rtol=0)
    pretrain(corpus, tmp_path / "as it is", optim=None, **first)
    assert load_classifier(tmp_path / "as it is").labels == ["dog", "cat", "bell"]


def test_a_checkpoint_on_waveforms_is_not_trained_on(tmp_path: Path) -> None:
    write_other_classifier("wav2vec2", tmp_path / "first")
    with pytest.raises(ConfigError, match="takes waveforms"):
        pretrain(write_corpus(tmp_path / "corpus"), tmp_path / "out", checkpoint=str(tmp_path / "first"), optim=OPTIM)


def dies_at(call: int) -> Callable[..., Any]:
    real, calls = Engine.step, 0

    def step(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise KeyboardInterrupt
        return real(*args)

    return step


@pytest.mark.e2e
@pytest.mark.parametrize("masks", [0.0, 0.2])
def test_a_repeat_and_a_resumed_run_are_equal_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, masks: float
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    optim = {**OPTIM, "steps": 20, "checkpoint_every_s": 1e-9}
    settings = {"optim": optim, "specaugment_strength": masks}
    hashes = []
    for name in ("a", "b"):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store-{name}"))
        torch.manual_seed(len(hashes))
        if name == "b":
            with monkeypatch.context() as patch:
                patch.setattr(Engine, "step", dies_at(14))
                with pytest.raises(KeyboardInterrupt):
                    pretrain(corpus, tmp_path / name, **settings)
        pretrain(corpus, tmp_path / name, **settings)
        hashes.append(hash_dir(tmp_path / name))
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("checkpoint", [None, "nano/encoder"])
def test_a_corpus_without_labels_is_refused(checkpoint: str | None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="label column"):
        pretrain(
            write_corpus(tmp_path / "corpus", labelled=False), tmp_path / "out", checkpoint=checkpoint, optim=OPTIM
        )


def test_a_published_checkpoint_is_verified_and_handed_on(tmp_path: Path) -> None:
    published = build_classifier(ASTArchitecture(**SIZES), ["a", "b", "c"], -4.0, 4.5, seed=1)
    save_classifier(published, tmp_path / "published")
    figures = pretrain(tmp_path, tmp_path / "out", checkpoint=str(tmp_path / "published"))
    assert figures["labels"] == 3
    handed = load_classifier(tmp_path / "out").model.state_dict()
    assert all(torch.equal(value, handed[key]) for key, value in published.model.state_dict().items())
    assert json.loads((tmp_path / "out" / "training.json").read_text())["checkpoint"] == str(tmp_path / "published")


def test_another_classifier_of_transformers_is_handed_on_with_its_window(tmp_path: Path) -> None:
    write_other_classifier("wav2vec2", tmp_path / "published")
    figures = pretrain(tmp_path, tmp_path / "out", checkpoint=str(tmp_path / "published"), window_s=0.5)
    assert figures["labels"] == 3
    handed = load_classifier(tmp_path / "out")
    assert (handed.sample_rate_hz, handed.front_end.max_length) == (16000, 8000)


def test_a_level_is_kept_with_what_was_trained_at_it_and_can_be_given_to_a_published_checkpoint(tmp_path: Path) -> None:
    level = {"peak_dbfs": -12.0, "floor_db": -50.0}
    figures = pretrain(write_corpus(tmp_path / "corpus"), tmp_path / "out", level=level)
    assert figures["held_out_accuracy"] >= 0.9
    made = load_classifier(tmp_path / "out")
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    loud, quiet = predict_logits(made, [0.2 * noise, 0.002 * noise], 16000)
    assert quiet == pytest.approx(loud, abs=1e-4)
    for checkpoint, given in (("out", None), ("plain", level)):
        if checkpoint == "plain":
            save_classifier(build_classifier(ASTArchitecture(**SIZES), ["a"], -4.0, 4.5, seed=1), tmp_path / "plain")
        pretrain(tmp_path, tmp_path / "handed", checkpoint=str(tmp_path / checkpoint), level=given)
        extractor = json.loads((tmp_path / "handed" / "preprocessor_config.json").read_text())
        assert {name: extractor[name] for name in level} == level
    write_other_classifier("wav2vec2", tmp_path / "waves")
    with pytest.raises(ConfigError, match=r"level is given for a Wav2Vec2.*leave it out"):
        pretrain(tmp_path, tmp_path / "refused", checkpoint=str(tmp_path / "waves"), level=level)


def test_a_damaged_or_unreachable_checkpoint_is_refused(tmp_path: Path) -> None:
    published = build_classifier(ASTArchitecture(**SIZES), ["a", "b", "c"], -4.0, 4.5, seed=1)
    with torch.no_grad():
        published.model.classifier.dense.bias.fill_(float("nan"))
    save_classifier(published, tmp_path / "nan")
    with pytest.raises(DataError, match="not finite"):
        pretrain(tmp_path, tmp_path / "out", checkpoint=str(tmp_path / "nan"))
    with pytest.raises(ConfigError, match="HF_HOME"):
        pretrain(tmp_path, tmp_path / "out", checkpoint="nobody/nothing", revision="0" * 40)


def test_clips_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    figures = pretrain(write_corpus(tmp_path / "corpus", unlabelled=6), tmp_path / "out")
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (figures["clips"], figures["unlabelled_clips"], training["held_out_clips"]) == (18, 6, 4)
    capped = pretrain(tmp_path / "corpus", tmp_path / "capped", max_clips=8)
    assert (capped["clips"], capped["unlabelled_clips"]) == (2, 6)


@pytest.mark.parametrize("select_by", ["accuracy", "map"])
def test_the_best_evaluation_is_kept(tmp_path: Path, select_by: str) -> None:
    optim = {**OPTIM, "steps": 24, "evaluate_every": 3, "learning_rate": 0.02}
    corpus = write_corpus(tmp_path / "corpus")
    pretrain(corpus, tmp_path / "out", optim={**optim, "schedule": "constant"}, select_by=select_by)
    training = json.loads((tmp_path / "out" / "training.json").read_text())
    figure = f"held_out_{select_by}"
    told = {row["step"]: row[figure] for row in training["curve"] if figure in row}
    assert set(told) == set(range(3, 25, 3))
    assert training[figure] == max(told.values()) == told[training["best_step"]]
    shards = audio_shards(corpus, "heldout", None)
    read = partial(read_labelled, unscaled(ASTArchitecture(**SIZES)), tuple(sorted(LABELS)))
    stored = write_features(tmp_path / "features", shards, read)
    clips = LabelledClips(stored, training["mean"], training["std"])
    assert held_out_figures(load_classifier(tmp_path / "out"), clips)[figure] == training[figure]


def test_bf16_learns_and_keeps_weights_in_single_precision(tmp_path: Path) -> None:
    optim = {**OPTIM, "precision": "bf16"}
    figures = pretrain(write_corpus(tmp_path / "corpus"), tmp_path / "out", optim=optim)
    assert figures["held_out_accuracy"] >= 0.9
    weights = load_classifier(tmp_path / "out").model.parameters()
    assert {parameter.dtype for parameter in weights} == {torch.float32}


@pytest.mark.parametrize("changes", [{}, {"specaugment_strength": 0.3}, {"recording": {"gain_db": 40, "lead_s": 0.1}}])
def test_the_loss_of_a_batch_is_the_mean_over_its_parts(tmp_path: Path, changes: dict[str, Any]) -> None:
    shards = audio_shards(write_corpus(tmp_path / "corpus"), "train", None)
    architecture, labels = ASTArchitecture(**SIZES), tuple(sorted(LABELS))
    read = partial(read_labelled, unscaled(architecture), labels)
    clips = LabelledClips(write_features(tmp_path / "features", shards, read), -5.0, 4.0)
    classifier = build_classifier(architecture, labels, -5.0, 4.0, seed=1)
    settings = PretrainClassifierPlan.model_validate(config(**changes)).settings
    assert settings.optim is not None
    loss = batch_loss(classifier, clips, settings, settings.optim, seed=1)
    values = [loss(3, torch.Generator().manual_seed(3), part)[0] for part in (WHOLE, Part(0, 2, 2), Part(1, 2, 2))]
    torch.testing.assert_close(values[0], (values[1] + values[2]) / 2)


def test_mean_average_precision_is_the_closed_form() -> None:
    """Label 0 is found at ranks 1 and 3, label 1 at rank 2; label 2 does not occur."""
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.5, 0.0]])
    assert mean_average_precision(np.array([0, 0, 1]), scores) == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
