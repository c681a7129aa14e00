from __future__ import annotations

import pytest

from common.config.t2a import SamplerConfig, SynthesizeAudioConfig
from common.diffusion.backend import T2ABackend
from tests.benchmarks.synthesis import compare, gpu_figures
from tests.benchmarks.synthesis_models import full_size_model
from tests.unit.diffusion.conftest import tiny_config

OOBLECK = {
    "encoder_hidden_size": 8,
    "downsampling_ratios": [4, 4, 4],
    "channel_multiples": [1, 2, 2],
    "decoder_channels": 4,
    "decoder_input_channels": 4,
    "audio_channels": 2,
    "sampling_rate": 8000,
}


def toy() -> T2ABackend:
    return full_size_model(tiny_config(), OOBLECK)


@pytest.mark.e2e
def test_what_is_measured_on_a_gpu_runs_at_toy_size() -> None:
    figures = gpu_figures(toy, "cpu", steps=2, compiler="eager")
    assert [figure.unit for figure in figures] == ["x", "clips/s"] * 2
    assert all(figure.value and figure.value > 0 for figure in figures)
    assert ["compiled" in figure.ours for figure in figures] == [False, False, True, True]


def test_without_a_gpu_its_figures_stay_empty_with_the_reason() -> None:
    assert [(figure.value, "no GPU" in figure.reason) for figure in gpu_figures()] == [(None, True)] * 2


def test_both_sides_are_timed_over_clips_of_several_lengths() -> None:
    backend = toy()
    settings = SynthesizeAudioConfig(sampler=SamplerConfig(steps=2, batch_size=2))
    result = compare(backend, [1.0, 0.5, 0.3], settings, backend.pipeline, rounds=1, stock_calls=2)
    assert result.ours_s > 0 and result.stock_s > 0
