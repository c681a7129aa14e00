from __future__ import annotations

import numpy as np
import pytest
import torch

from common.clap.figures import TOP, matched_auc, rank_figures
from common.clap.scorer import ClapScorer
from tests.kit.sounds import CLAP_RATE


def test_auc_is_the_share_of_ordered_pairs() -> None:
    similarity = np.array([[0.9, 0.1], [0.5, 0.5]])
    pairs = [(p > n) + 0.5 * (p == n) for p in (0.9, 0.5) for n in (0.1, 0.5)]
    assert matched_auc(similarity, [0, 1]) == pytest.approx(np.mean(pairs))
    assert matched_auc(np.array([[1.0, 0.0], [0.0, 1.0]]), [0, 1]) == 1.0


def test_embeddings_of_stored_features_are_those_of_the_audio(small_clap: ClapScorer) -> None:
    """More windows than one batch holds, and clips of several windows across the border."""
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.standard_normal(int(CLAP_RATE * s))).astype(np.float32) for s in (0.5, 2.3, 1.0, 3.1, 0.9, 2.5)]
    small_clap.batch_size = 4
    features = [small_clap.features(torch.from_numpy(small_clap.features.windows(clip))) for clip in clips]
    expected = small_clap.embed_audio(clips, CLAP_RATE)
    np.testing.assert_array_equal(small_clap.embed_features(features), expected)
    assert small_clap.embed_features([]).shape == (0, small_clap.dim)


def test_ranks_are_those_of_a_sorted_list() -> None:
    rng = np.random.default_rng(3)
    similarity = rng.standard_normal((30, 12))
    own = [*range(12), *rng.integers(0, 12, 18).tolist()]
    figures = rank_figures(similarity, own)
    by_clip = [1 + sorted(row, reverse=True).index(row[text]) for row, text in zip(similarity, own, strict=True)]
    by_text = []
    for text in range(12):
        order = np.argsort(-similarity[:, text])
        first = next(place for place, clip in enumerate(order) if own[clip] == text)
        by_text.append(first + 1)
    for name, ranks in (("audio_to_text", by_clip), ("text_to_audio", by_text)):
        assert figures[f"{name}_median_rank"] == np.median(ranks)
        for top in TOP:
            assert figures[f"{name}_r{top}"] == pytest.approx(np.mean(np.array(ranks) <= top))


def test_a_model_that_finds_everything_alike_finds_nothing() -> None:
    figures = rank_figures(np.ones((20, 20)), list(range(20)))
    assert figures["audio_to_text_r10"] == figures["text_to_audio_r10"] == 0
    assert figures["audio_to_text_median_rank"] == 20
    assert rank_figures(np.eye(20), list(range(20)))["text_to_audio_r1"] == 1


def test_another_clip_with_the_same_caption_is_no_miss() -> None:
    similarity = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]])
    assert rank_figures(similarity, [0, 0, 1])["text_to_audio_median_rank"] == 1
