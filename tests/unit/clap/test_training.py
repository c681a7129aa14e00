from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common.clap.figures import retrieval_figures
from common.clap.scorer import ClapScorer, tokenize
from common.clap.training import (
    build_clap,
    contrastive_loss,
    equalizer_gains,
    freeze_batch_norm,
    set_input_statistics,
    soft_targets,
    train_contrastive,
    two_way_cross_entropy,
    window_features,
)
from common.config.base import OptimConfig
from common.corpus.vocabulary import Vocabulary
from common.records.text import template_caption
from common.training import Curve, best_by
from tests.kit.models import CLAP_ARCHITECTURE
from tests.kit.sounds import CLAP_RATE, CLAP_SOUNDS

OPTIM = OptimConfig(steps=40, batch_size=12, learning_rate=3e-3, warmup_steps=5)


def train(
    scorer: ClapScorer,
    sounds: tuple[list[np.ndarray], list[str]],
    optim: OptimConfig = OPTIM,
    equalizer_db: float = 0.0,
) -> Curve:
    clips, labels = sounds
    features, _ = window_features(scorer, clips, CLAP_RATE)
    set_input_statistics(scorer.model, features)
    told = [([template_caption(label), f"a {label}"], label) for label in labels]
    where: dict[str, Any] = {"seed": 4, "name": "clap", "equalizer_db": equalizer_db}
    return train_contrastive(scorer, len(told), features.__getitem__, told.__getitem__, optim, **where)


def test_soft_targets_share_a_row_among_equal_captions() -> None:
    expected = torch.tensor([[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])
    torch.testing.assert_close(soft_targets(["rain", "wind", "rain"]), expected)


def test_the_loss_of_distinct_captions_is_the_mean_log_share_of_the_diagonal(small_clap: ClapScorer) -> None:
    """The stock model's own loss compares texts with audio twice, never audio with texts."""
    model = small_clap.model
    features = torch.randn(3, 1, 63, 32)
    ids, mask = tokenize(small_clap.tokenizer, ["low", "high", "noise"], model)
    ours, _ = contrastive_loss(model, features, ids, mask, soft_targets(["a", "b", "c"]))
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=mask, input_features=features).logits_per_audio
    expected = -0.5 * (logits.log_softmax(0) + logits.log_softmax(1)).diagonal().mean()
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_a_clip_is_drawn_to_the_equal_caption_of_another_clip() -> None:
    """The plain loss pushes it away."""
    scale = torch.tensor(10.0)
    slopes = []
    for keys in (["rain", "rain", "wind"], ["first", "second", "third"]):
        similarity = torch.zeros(3, 3, requires_grad=True)
        two_way_cross_entropy(similarity, soft_targets(keys), scale, scale).backward()
        assert similarity.grad is not None
        slopes.append(float(similarity.grad[0, 1]))
    assert slopes[0] < 0 < slopes[1]


def test_the_loss_is_least_where_the_shares_equal_the_targets() -> None:
    targets = soft_targets(["rain", "rain", "wind"])
    similarity = targets.clamp_min(1e-9).log().requires_grad_()
    two_way_cross_entropy(similarity, targets, torch.tensor(1.0), torch.tensor(1.0)).backward()
    torch.testing.assert_close(similarity.grad, torch.zeros(3, 3), atol=1e-6, rtol=0)


def test_training_separates_the_labels(small_clap: ClapScorer, sounds: tuple[list[np.ndarray], list[str]]) -> None:
    clips, labels = sounds
    own = [CLAP_SOUNDS.index(label) for label in labels]

    def auc() -> float:
        prompts = small_clap.embed_text([template_caption(label) for label in CLAP_SOUNDS])
        return retrieval_figures(small_clap.embed_audio(clips, CLAP_RATE) @ prompts.T, own)["auc"]

    before = auc()
    train(small_clap, sounds)
    assert auc() > max(0.95, before)


@pytest.mark.e2e
def test_a_training_repeats_bit_for_bit(vocabulary: Vocabulary, sounds: tuple[list[np.ndarray], list[str]]) -> None:
    embedded = []
    for _ in range(2):
        torch.rand(3)
        scorer = build_clap(CLAP_ARCHITECTURE, vocabulary, seed=1)
        train(scorer, sounds)
        embedded.append(scorer.embed_audio(sounds[0], CLAP_RATE))
    np.testing.assert_array_equal(*embedded)


def test_training_leaves_the_batch_norms_statistics(
    small_clap: ClapScorer, sounds: tuple[list[np.ndarray], list[str]]
) -> None:
    features, _ = window_features(small_clap, sounds[0], CLAP_RATE)
    set_input_statistics(small_clap.model, features)
    norm = small_clap.model.audio_model.audio_encoder.batch_norm
    kept = norm.running_mean.clone(), norm.running_var.clone()
    torch.testing.assert_close(kept[0].double(), features.double().mean((0, 1, 2)), atol=1e-3, rtol=1e-4)
    small_clap.model.train()
    freeze_batch_norm(small_clap.model)
    small_clap.model.get_audio_features(input_features=features)
    torch.testing.assert_close((norm.running_mean, norm.running_var), kept, rtol=0, atol=0)


def test_bf16_learns_and_keeps_weights_in_single_precision(
    small_clap: ClapScorer, sounds: tuple[list[np.ndarray], list[str]], vocabulary: Vocabulary
) -> None:
    curve = train(small_clap, sounds, OPTIM.model_copy(update={"precision": "bf16"}))
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]
    assert {parameter.dtype for parameter in small_clap.model.parameters()} == {torch.float32}
    exact = build_clap(CLAP_ARCHITECTURE, vocabulary, seed=1)
    train(exact, sounds)
    assert not torch.equal(
        exact.model.audio_projection.linear1.weight, small_clap.model.audio_projection.linear1.weight
    )


def test_a_rows_equaliser_does_not_depend_on_how_the_batch_is_split() -> None:
    gains = [equalizer_gains(6, 32, 5.0, torch.Generator().manual_seed(1)) for _ in range(2)]
    assert gains[0].shape == (6, 1, 1, 32) and torch.equal(gains[0][2:4], gains[1][2:4])
    flat = equalizer_gains(4000, 32, 5.0, torch.Generator().manual_seed(1))[:, 0, 0, 0]
    assert float(flat.std()) == pytest.approx(5.0, rel=0.05)


def test_the_first_of_the_best_evaluations_is_kept() -> None:
    rows = [{"step": 5.0}, {"step": 10.0, "auc": 0.7}, {"step": 20.0, "auc": 0.9}, {"step": 30.0, "auc": 0.9}]
    assert best_by("auc")(rows) == 20 and best_by("auc", start=0.9)(rows) == 0
    assert best_by("map")(rows) == 30
