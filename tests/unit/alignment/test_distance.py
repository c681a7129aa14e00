from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import T2ABackend
from components.align_t2a.distance import BANDS, clip_spectrum, latent_frechet, spectrum_distance
from components.align_t2a.encoding import EncodedPairs
from components.align_t2a.pairs import Group
from components.align_t2a.probes import Probes, choose_probes, encode_held_out
from tests.kit.sounds import RATE, tone


def test_spectrum_does_not_know_the_level() -> None:
    audio = tone("jazz", 0)
    assert np.allclose(clip_spectrum(audio, RATE), clip_spectrum(0.05 * audio, RATE), atol=1e-4)


def test_a_filter_of_6_db_moves_the_distance_by_its_shape() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(RATE * 4).astype(np.float32) * 0.1
    spectrum = np.fft.rfft(noise)
    spectrum[: len(spectrum) // 2] *= 10 ** (-6 / 20)
    tilted = np.fft.irfft(spectrum).astype(np.float32)
    difference = clip_spectrum(tilted, RATE) - clip_spectrum(noise, RATE)
    assert difference[-4:].mean() - difference[:20].mean() == pytest.approx(6.0, abs=0.2)


def test_distance_is_zero_for_the_same_clips_and_a_mean_over_labels() -> None:
    one, two = np.zeros(BANDS), np.full(BANDS, 3.0)
    assert spectrum_distance({"a": [one, two]}, {"a": [two, one]}) == 0.0
    assert spectrum_distance({"a": [one], "b": [one]}, {"a": [two], "b": [one]}) == pytest.approx(1.5)


def test_latent_distance_is_that_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, 4000)).astype(np.float32)
    assert latent_frechet([frames[:, :2000], frames[:, 2000:]], [frames]) == pytest.approx(0.0, abs=1e-5)
    shifted = 2 * frames + np.array([[1.0], [0.0], [0.0]], np.float32)
    # |shift|² + sum over dimensions of (2 - 1)²
    assert latent_frechet([frames], [shifted]) == pytest.approx(1 + 3, rel=0.05)


def test_probes_cover_every_label_before_any_comes_twice(group: Callable[..., Group]) -> None:
    gold = [group(label, number).winner for label in ("bus", "jazz", "dog_bark") for number in range(3)]
    assert [p.label for p in choose_probes(gold, 2, 4)] == ["bus", "dog_bark", "jazz", "bus"]
    assert len(choose_probes(gold, 2, 100)) == 6
    assert choose_probes(list(reversed(gold)), 2, 4) == choose_probes(gold, 2, 4)


@pytest.fixture
def probes(backend: T2ABackend, pairs: EncodedPairs, group: Callable[..., Group]) -> Probes:
    settings = AlignT2AConfig.model_validate(
        {
            "sampler": {"steps": 2, "guidance_scale": 2.0, "batch_size": 2, "bucket_frames": 4},
            "optim": {"steps": 1, "batch_size": 2, "learning_rate": 1e-3},
        }
    )
    clips = [group(label, 0).winner for label in ("dog_bark", "jazz")]
    held_out = encode_held_out(backend, [(clips[0], tone("dog_bark", 7))], 4, -1.0)
    return Probes(clips, pairs, held_out, settings, 0)


def test_measuring_a_model_twice_gives_the_same_figures(backend: T2ABackend, probes: Probes) -> None:
    first, spectrum = probes.measure(backend)
    assert first == probes.measure(backend)[0]
    assert first.keys() == {"held_out_error", "spectrum_db", "latent_frechet"} and spectrum.shape == (BANDS,)
    assert all(np.isfinite(value) and value > 0 for value in first.values())


def test_without_validation_clips_there_is_no_held_out_error(backend: T2ABackend, probes: Probes) -> None:
    assert replace(probes, held_out=()).measure(backend)[0].keys() == {"spectrum_db", "latent_frechet"}


def test_bf16_measures_nearly_the_same(backend: T2ABackend, probes: Probes) -> None:
    optim = probes.settings.optim.model_copy(update={"precision": "bf16"})
    rough = replace(probes, settings=probes.settings.model_copy(update={"optim": optim})).measure(backend)[0]
    exact = probes.measure(backend)[0]
    assert rough != exact and all(rough[key] == pytest.approx(exact[key], rel=0.1) for key in exact)
