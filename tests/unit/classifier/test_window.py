"""A classifier that sees only as many frames as the clips need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ASTConfig, pipeline

from common.classifier.inference import probabilities
from common.classifier.model import (
    POSITIONS,
    Classifier,
    build_classifier,
    cut_positions,
    load_classifier,
    save_classifier,
    with_fresh_head,
)
from common.config.run import RunConfig, load_preset
from components.train_classifier.inputs import window_for
from components.train_classifier.training import draw_windows
from contrib.nano.training import NanoSettings, load_settings
from tests.kit.models import wav2vec2_config
from tests.kit.predictions import predict_logits


def official(embeddings: torch.Tensor, columns: int) -> torch.Tensor:
    """Lines of the official code (ast_models.py) for a window shorter than AudioSet's 10 s, in its own numbers."""
    patches = embeddings[:, 2:, :].detach().reshape(1, 1212, 4).transpose(1, 2).reshape(1, 4, 12, 101)
    if columns < 101:
        patches = patches[:, :, :, 50 - int(columns / 2) : 50 - int(columns / 2) + columns]
    patches = patches.reshape(1, 4, 12 * columns).transpose(1, 2)
    return torch.cat([embeddings[:, :2, :].detach(), patches], dim=1)


@pytest.mark.parametrize("frames", [128, 256, 384, 512, 640, 768, 1023, 1024])
def test_positions_are_cut_as_in_the_official_code(frames: int) -> None:
    embeddings = torch.randn(1, 1214, 4)
    columns = (frames - 16) // 10 + 1
    assert torch.equal(cut_positions(embeddings, ASTConfig(), frames), official(embeddings, columns))


@pytest.mark.parametrize(
    ("durations_s", "window_s"),
    [
        ([5.0] * 40, 5.12),
        ([4.0] * 40, 5.12),
        ([2.97] * 40, 3.84),
        ([10.0] * 40, 10.24),
        ([30.0] * 40, 30.72),
        ([1.0] * 9 + [29.0], 1.28),
        ([1.0] * 8 + [29.0] * 2, 29.44),
        ([2.56], 2.56),
        ([0.01], 1.28),
    ],
)
def test_the_window_holds_nine_of_ten_clips_whole(durations_s: list[float], window_s: float) -> None:
    assert window_for(durations_s) == pytest.approx(window_s)


@pytest.mark.parametrize(("window_s", "frames"), [(None, 104), (1.28, 104), (10.24, 104), (0.64, 64), (0.1, 104)])
def test_the_window_is_never_longer_than_the_pretrained_models(window_s: float | None, frames: int) -> None:
    architecture = load_settings().pretrain_classifier.architecture
    base = build_classifier(architecture, ["a", "b"], -6.0, 3.0, seed=1)
    made = with_fresh_head(base, ["x", "y", "z"], seed=2, window_s=window_s)
    assert made.front_end.max_length == made.model.config.max_length == made.extractor.max_length == frames
    if frames == architecture.max_length:
        plain = with_fresh_head(base, ["x", "y", "z"], seed=2).model.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in made.model.state_dict().items())
    assert base.front_end.max_length == base.extractor.max_length == 104


@pytest.mark.parametrize("settings", [load_preset("smoke"), load_settings()])
def test_clips_of_the_demo_leave_the_small_presets_as_they_are(settings: RunConfig | NanoSettings) -> None:
    assert window_for([1.0] * 320) * 100 >= settings.pretrain_classifier.architecture.max_length


def short(classifier: Classifier, frames: int = 24) -> Classifier:
    return with_fresh_head(classifier, ["x", "y", "z"], seed=3, window_s=frames / 100)


def test_a_saved_classifier_of_a_short_window_agrees_with_the_stock_pipeline(
    classifier: Classifier, tmp_path: Path, clips: list[np.ndarray]
) -> None:
    save_classifier(short(classifier), tmp_path)
    stock, again = pipeline("audio-classification", model=str(tmp_path)), load_classifier(tmp_path)
    assert again.front_end.max_length == 24 < classifier.front_end.max_length
    heard = [clip[:4000] for clip in clips]
    for clip, row in zip(heard, probabilities(predict_logits(tmp_path, heard, 16000)), strict=True):
        found = {entry["label"]: entry["score"] for entry in stock(clip, top_k=None)}
        assert [found[label] for label in again.labels] == pytest.approx(list(row), abs=1e-4)


def test_a_model_on_waveforms_keeps_its_window(tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    Wav2Vec2ForSequenceClassification(wav2vec2_config()).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    base = load_classifier(tmp_path, 2.0)
    assert with_fresh_head(base, ["x", "y"], seed=1, window_s=1.28).front_end.max_length == 32000


def test_a_long_clip_is_heard_window_by_window(classifier: Classifier) -> None:
    made = short(classifier)
    clip = np.random.default_rng(0).standard_normal(400 + 160 * 47).astype(np.float32)
    (features,) = made.front_end([clip])
    halves = torch.stack([features[:24], features[24:]])
    with torch.no_grad():
        expected = made.logits(halves).mean(0)
    np.testing.assert_allclose(predict_logits(made, [clip], 16000)[0], expected.numpy(), atol=1e-5)
    drawn = draw_windows([[features]], np.zeros(50, dtype=np.int64), made.front_end, torch.Generator().manual_seed(0))
    assert drawn.shape == (50, 24, features.shape[1]) and len(drawn[:, 0, 0].unique()) > 10


def test_the_published_size_does_less_than_half_of_the_work_on_clips_of_five_seconds() -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import ASTForAudioClassification

    work: dict[int, Any] = {}
    for frames in (512, 1024):
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            ASTForAudioClassification(ASTConfig(max_length=frames))(torch.empty(1, frames, 128))
        work[frames] = counter.get_total_flops()
    assert work[1024] == pytest.approx(0.261e12, rel=0.02) and work[512] < 0.5 * work[1024]


def test_trained_positions_are_the_pretrained_ones_of_the_middle(classifier: Classifier) -> None:
    made = short(classifier)
    old, new = classifier.model.state_dict()[POSITIONS], made.model.state_dict()[POSITIONS]
    assert torch.equal(new, cut_positions(old, classifier.model.config, 24)) and new.shape[1] < old.shape[1]
    others = {name for name, value in made.model.state_dict().items() if "embeddings" in name and name != POSITIONS}
    before = classifier.model.state_dict()
    assert others and all(torch.equal(made.model.state_dict()[name], before[name]) for name in others)


def test_presets_for_gpus_train_the_classifier_in_bf16_and_the_small_ones_in_fp32() -> None:
    assert {
        name: load_preset(name).train_classifier.optim.precision for name in ("smoke", "tiny", "small", "paper")
    } == {"smoke": "fp32", "tiny": "fp32", "small": "bf16", "paper": "bf16"}
