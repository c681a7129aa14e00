"""What the autoencoder and the tokenizer make of clips, one by one and several at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from common.config.corpus import PrepareCorpusConfig
from common.corpus.vocabulary import build_vocabulary
from common.errors import ConfigError, DataError
from components.prepare_corpus.encoding import Encoder, open_published_vae, open_tokenizer, read_ahead

RATE_HZ = 8000


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder with a small random autoencoder of hop 8."""
    folder = tmp_path_factory.mktemp("published")
    vae = AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4],
        channel_multiples=[1, 2],
        decoder_channels=8,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=RATE_HZ,
    )
    vae.save_pretrained(folder / "vae")
    return folder


def settings(**changes: Any) -> PrepareCorpusConfig:
    return PrepareCorpusConfig(source="procedural", sample_rate_hz=RATE_HZ, tokenizer="embedded", **changes)


def clips(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.5, 0.5, (2, length)).astype(np.float32) for length in lengths]


@pytest.fixture()
def encoder(published: Path) -> Encoder:
    config = settings(vae=str(published))
    return Encoder(open_published_vae(config), open_tokenizer(config, build_vocabulary(["a bell rings"])))


def test_several_clips_at_once_give_what_each_gives_alone_in_their_order(encoder: Encoder) -> None:
    batch = clips(800, 400, 800, 403, 800)
    together = encoder.encode(batch)
    assert [latent.shape for latent in together] == [(4, 100), (4, 50), (4, 100), (4, 51), (4, 100)]
    for clip, latent in zip(batch, together, strict=True):
        np.testing.assert_allclose(latent, encoder.encode([clip])[0], atol=1e-5)


def test_a_clip_is_padded_with_silence_to_whole_frames(encoder: Encoder) -> None:
    (clip,) = clips(403)
    padded = np.pad(clip, ((0, 0), (0, 5)))
    np.testing.assert_array_equal(encoder.encode([clip])[0], encoder.encode([padded])[0])


def test_no_scale_lies_outside_the_autoencoder(encoder: Encoder, published: Path) -> None:
    import torch

    (clip,) = clips(800)
    vae = AutoencoderOobleck.from_pretrained(published, subfolder="vae").eval()
    with torch.no_grad():
        expected = vae.encode(torch.from_numpy(clip)[None]).latent_dist.mode()[0].numpy()
    np.testing.assert_array_equal(encoder.encode([clip])[0], expected)


def test_a_caption_that_does_not_fit_is_refused(encoder: Encoder) -> None:
    assert encoder.token_ids("a bell rings")[-1] == 1
    with pytest.raises(DataError, match="at most 128 fit"):
        encoder.token_ids("鐘" * 128)


@pytest.mark.parametrize("changes", [{"sample_rate_hz": 16000}, {"channels": 1}])
def test_an_autoencoder_of_another_rate_or_channels_is_refused(published: Path, changes: dict[str, int]) -> None:
    config = settings(vae=str(published)).model_copy(update=changes)
    with pytest.raises(DataError, match=r"takes 8000 Hz with 2 channels, the corpus has .*make prepare_corpus"):
        open_published_vae(config)


def test_a_folder_without_an_autoencoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder `vae`"):
        open_published_vae(settings(vae=str(tmp_path)))


def test_weights_that_are_no_safetensors_are_not_loaded(published: Path, tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_bytes((published / "vae" / "config.json").read_bytes())
    (tmp_path / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch x'\ntR.")
    with pytest.raises(OSError, match="safetensors"):
        open_published_vae(settings(vae=str(tmp_path)))


def test_reading_ahead_keeps_the_order_and_stays_within_its_bound() -> None:
    taken = threading.Semaphore(0)
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            read.append(number)
            taken.release()
            yield number

    ahead = read_ahead(items(), 4)
    found = []
    for number in ahead:
        found.append(number)
        assert len(read) <= number + 1 + 4 + 1
    assert found == list(range(20))


def test_an_error_while_reading_ahead_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise DataError("damaged")

    ahead = read_ahead(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(DataError, match="damaged"):
        next(ahead)
