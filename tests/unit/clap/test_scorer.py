from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ClapModel, ClapProcessor

from common.clap.scorer import ClapScorer
from common.errors import DataError
from common.records.text import template_caption
from tests.kit.sounds import CLAP_RATE


@pytest.fixture()
def clips() -> list[np.ndarray]:
    """33 clips of 0.2 to 2.5 s: some fill the window several times over."""
    rng = np.random.default_rng(3)
    return [(0.2 * rng.standard_normal(int(CLAP_RATE * rng.uniform(0.2, 2.5)))).astype(np.float32) for _ in range(33)]


def test_embeddings_have_unit_norm(small_clap: ClapScorer, clips: list[np.ndarray]) -> None:
    audio, text = small_clap.embed_audio(clips, CLAP_RATE), small_clap.embed_text(["sound of a dog", "räuberhöhle"])
    assert audio.shape == (33, 32) and text.shape == (2, 32) and audio.dtype == text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(audio, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-5)


def test_scores_do_not_depend_on_batch_size_order_or_run(small_clap: ClapScorer, clips: list[np.ndarray]) -> None:
    prompts = small_clap.embed_text(["sound of a low tone", "sound of a noise"])
    reference = small_clap.embed_audio(clips, CLAP_RATE) @ prompts.T
    np.testing.assert_array_equal(reference, small_clap.embed_audio(clips, CLAP_RATE) @ prompts.T)
    for batch_size in (1, 7, 32):
        other = ClapScorer(small_clap.model, small_clap.tokenizer, small_clap.extractor, batch_size)
        np.testing.assert_allclose(other.embed_audio(clips, CLAP_RATE) @ prompts.T, reference, atol=1e-4)
    order = np.random.default_rng(0).permutation(len(clips))
    shuffled = small_clap.embed_audio([clips[i] for i in order], CLAP_RATE) @ prompts.T
    np.testing.assert_allclose(shuffled, reference[order], atol=1e-4)


def test_spectrograms_are_handed_on_with_the_embeddings(small_clap: ClapScorer, clips: list[np.ndarray]) -> None:
    heard: dict[int, np.ndarray] = {}
    embedded = small_clap.embed_audio(iter(clips), CLAP_RATE, heard.__setitem__)
    np.testing.assert_array_equal(embedded, small_clap.embed_audio(clips, CLAP_RATE))
    assert list(heard) == list(range(len(clips)))
    for index, clip in enumerate(clips):
        np.testing.assert_allclose(heard[index], small_clap.features.spectrogram(clip), atol=1e-4)


def test_a_checkpoint_of_half_precision_is_heard_in_single_precision(
    small_clap: ClapScorer, clips: list[np.ndarray], tmp_path: Path
) -> None:
    expected = small_clap.embed_audio(clips[:3], CLAP_RATE)
    small_clap.model.half()
    small_clap.save(tmp_path)
    loaded = ClapScorer.load(tmp_path)
    np.testing.assert_allclose(loaded.embed_audio(clips[:3], CLAP_RATE), expected, atol=1e-2)
    assert loaded.model.dtype == torch.float32


def test_a_checkpoint_that_lacks_weights_is_refused(small_clap: ClapScorer, tmp_path: Path) -> None:
    small_clap.save(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if "position_ids" not in name}
    save_file(weights, file)
    assert ClapScorer.load(tmp_path).dim == small_clap.dim
    save_file({name: value for name, value in weights.items() if "audio_projection.linear1" not in name}, file)
    with pytest.raises(DataError, match=r"lacks weights: audio_projection\.linear1"):
        ClapScorer.load(tmp_path)


def test_a_long_clip_is_the_mean_of_its_windows_whatever_the_batches(small_clap: ClapScorer) -> None:
    long = (0.2 * np.random.default_rng(0).standard_normal(int(7.3 * CLAP_RATE))).astype(np.float32)
    windows = small_clap.embed_audio(list(small_clap.features.windows(long)), CLAP_RATE)
    mean = windows.astype(np.float64).mean(axis=0)
    for batch_size in (1, 3, 7, 32):
        other = ClapScorer(small_clap.model, small_clap.tokenizer, small_clap.extractor, batch_size)
        [embedded] = other.embed_audio([long], CLAP_RATE)
        np.testing.assert_allclose(embedded, mean / np.linalg.norm(mean), atol=1e-4)


def test_a_clip_scores_as_through_the_stock_processor(small_clap: ClapScorer, tmp_path: Path) -> None:
    small_clap.save(tmp_path)
    model, processor = ClapModel.from_pretrained(tmp_path), ClapProcessor.from_pretrained(tmp_path)
    clip = (0.3 * np.random.default_rng(0).standard_normal(CLAP_RATE // 2)).astype(np.float32)
    text = template_caption("Low_Tone")
    inputs = processor(text=[text], audio=[clip], sampling_rate=CLAP_RATE, return_tensors="pt", padding=True)
    with torch.no_grad():
        output = model.eval()(**inputs)
    expected = float(output.audio_embeds[0] @ output.text_embeds[0])
    scorer = ClapScorer.load(tmp_path)
    got = float(scorer.embed_audio([clip], CLAP_RATE)[0] @ scorer.embed_text([text])[0])
    assert got == pytest.approx(expected, abs=1e-4)


def test_a_saved_clap_embeds_the_same(small_clap: ClapScorer, clips: list[np.ndarray], tmp_path: Path) -> None:
    small_clap.save(tmp_path)
    loaded = ClapScorer.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed_audio(clips, CLAP_RATE), small_clap.embed_audio(clips, CLAP_RATE))
    texts = ["a bell", "überraschung 7"]
    np.testing.assert_array_equal(loaded.embed_text(texts), small_clap.embed_text(texts))


def test_audio_at_another_rate_is_resampled(small_clap: ClapScorer) -> None:
    def tone(rate: int) -> np.ndarray:
        return (0.5 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate)).astype(np.float32)

    own, other = small_clap.embed_audio([tone(CLAP_RATE)], CLAP_RATE), small_clap.embed_audio([tone(44_100)], 44_100)
    assert float(own[0] @ other[0]) > 0.99


def test_no_text_is_cut_or_unknown(small_clap: ClapScorer) -> None:
    tokenizer = small_clap.tokenizer
    for text in ("sound of a pneumatischer bohrhammer", "sound of a 拍手", "b e e p", "x" * 55):
        ids = tokenizer(text).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) <= tokenizer.model_max_length
    with pytest.raises(DataError, match="CLAP reads 64"):
        small_clap.embed_text(["x" * 100])


def test_two_unseen_labels_have_different_embeddings(small_clap: ClapScorer) -> None:
    rows = small_clap.embed_text([template_caption("zither"), template_caption("oboe")])
    assert float(np.abs(rows[0] - rows[1]).max()) > 1e-3


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no CLAP in"):
        ClapScorer.load(tmp_path)
