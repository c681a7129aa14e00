from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline

from common.classifier.inference import feature_logits, probabilities
from common.classifier.model import Classifier, build_classifier, load_classifier, save_classifier, with_fresh_head
from common.config.classifier import ASTArchitecture
from common.errors import DataError
from common.learners.linear import NEVER
from tests.kit.predictions import predict_logits


def test_stock_pipeline_loads_the_directory_and_agrees(
    classifier_dir: Path, classifier: Classifier, clips: list[np.ndarray]
) -> None:
    stock = pipeline("audio-classification", model=str(classifier_dir))
    ours = probabilities(predict_logits(classifier_dir, clips, 16000))
    for clip, row in zip(clips, ours, strict=True):
        found = {entry["label"]: entry["score"] for entry in stock(clip, top_k=None)}
        assert set(found) == set(classifier.labels)
        for label, value in zip(classifier.labels, row, strict=True):
            assert found[label] == pytest.approx(value, abs=1e-4)


def test_labels_survive_saving_as_they_are(classifier_dir: Path, classifier: Classifier) -> None:
    assert load_classifier(classifier_dir).labels == ["Glass / break", "dog bark", "müsic"] == classifier.labels


def test_a_body_without_some_weights_is_refused_and_a_missing_head_is_drawn(
    classifier_dir: Path, tmp_path: Path
) -> None:
    cut = Path(shutil.copytree(classifier_dir, tmp_path / "cut"))
    weights = load_file(cut / "model.safetensors")
    save_file(
        {name: row for name, row in weights.items() if not name.startswith("classifier")}, cut / "model.safetensors"
    )
    assert load_classifier(cut).labels
    lost = "audio_spectrogram_transformer.layernorm.weight"
    save_file({name: row for name, row in weights.items() if name != lost}, cut / "model.safetensors")
    with pytest.raises(DataError, match=f"lacks weights: {lost}"):
        load_classifier(cut)


def test_weights_depend_on_the_seed_only(architecture: ASTArchitecture) -> None:
    torch.manual_seed(1)
    first = build_classifier(architecture, ["a", "b"], -6, 3, seed=5).model.state_dict()
    state = torch.random.get_rng_state()
    again = build_classifier(architecture, ["a", "b"], -6, 3, seed=5).model.state_dict()
    other = build_classifier(architecture, ["a", "b"], -6, 3, seed=6).model.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)
    assert torch.equal(state, torch.random.get_rng_state())


def test_fresh_head_keeps_the_body_and_is_seeded(classifier: Classifier) -> None:
    torch.manual_seed(1)
    first = with_fresh_head(classifier, ["x", "y", "z", "w"], seed=1).model
    torch.manual_seed(2)
    again = with_fresh_head(classifier, ["x", "y", "z", "w"], seed=1).model
    other = with_fresh_head(classifier, ["x", "y", "z", "w"], seed=2).model
    body = classifier.model.audio_spectrogram_transformer.state_dict()
    kept = first.audio_spectrogram_transformer.state_dict()
    assert all(torch.equal(body[key], kept[key]) for key in body)
    assert torch.equal(first.classifier.dense.weight, again.classifier.dense.weight)
    assert not torch.equal(first.classifier.dense.weight, other.classifier.dense.weight)
    assert first.config.id2label == {0: "x", 1: "y", 2: "z", 3: "w"}


def test_training_the_new_model_leaves_the_pretrained_one(classifier: Classifier) -> None:
    before = classifier.model.audio_spectrogram_transformer.layernorm.weight.clone()
    fresh = with_fresh_head(classifier, ["x", "y"], seed=1).model
    with torch.no_grad():
        fresh.audio_spectrogram_transformer.layernorm.weight.add_(1)
    assert torch.equal(before, classifier.model.audio_spectrogram_transformer.layernorm.weight)


def test_a_long_clips_logits_are_the_mean_over_its_windows(classifier: Classifier) -> None:
    rng = np.random.default_rng(0)
    hop, length = 160, classifier.front_end.max_length
    clip = (0.1 * rng.standard_normal(400 + hop * (2 * length - 1))).astype(np.float32)
    window = 400 + hop * (length - 1)
    parts = [clip[:window], clip[hop * length : hop * length + window]]
    expected = predict_logits(classifier, parts, 16000).mean(axis=0)
    np.testing.assert_allclose(predict_logits(classifier, [clip], 16000)[0], expected, atol=1e-5)


def test_logits_do_not_depend_on_batch_size_or_company(classifier: Classifier, clips: list[np.ndarray]) -> None:
    together = predict_logits(classifier, clips, 16000)
    np.testing.assert_array_equal(predict_logits(classifier, clips[:1], 16000), together[:1])
    np.testing.assert_allclose(predict_logits(classifier, clips, 16000, batch_size=2), together, atol=1e-5)
    assert feature_logits(classifier, []).shape == (0, 3)


def test_clips_at_another_rate_are_resampled(classifier: Classifier) -> None:
    def tone(rate: int) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(0.4 * rate)) / rate)).astype(np.float32)

    first = predict_logits(classifier, [tone(16000)], 16000)
    np.testing.assert_allclose(predict_logits(classifier, [tone(44100)], 44100), first, atol=0.05)


@pytest.mark.filterwarnings("error")
def test_probabilities_are_softmax_or_sigmoid() -> None:
    logits = np.array([[0.0, np.log(3.0)], [1000.0, 1000.0]])
    np.testing.assert_allclose(probabilities(logits), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(probabilities(logits[:1], multi_label=True), [[0.5, 0.75]])
    # A label that no clip has.
    assert probabilities(np.array([[NEVER]]), multi_label=True) == 0


def test_unfit_directories_are_refused(classifier_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no classifier at"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DataError, match=r"bert.*no audio classifier"):
        load_classifier(tmp_path)
    cut = tmp_path / "cut"
    shutil.copytree(classifier_dir, cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"damaged|cannot load"):
        load_classifier(cut)
    mixed = tmp_path / "mixed"
    shutil.copytree(classifier_dir, mixed)
    settings = json.loads((mixed / "preprocessor_config.json").read_text())
    (mixed / "preprocessor_config.json").write_text(json.dumps({**settings, "num_mel_bins": 64}))
    with pytest.raises(DataError, match="different models"):
        load_classifier(mixed)


def test_saving_twice_gives_equal_bytes(classifier: Classifier, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_classifier(classifier, tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
