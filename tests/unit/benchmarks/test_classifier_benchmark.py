from __future__ import annotations

from common.config.classifier import ASTArchitecture
from tests.benchmarks.classifier import real_training_s


def test_the_training_measured_on_a_gpu_runs_at_toy_size() -> None:
    toy = ASTArchitecture(
        hidden_size=16, layers=1, heads=2, intermediate_size=32, patch_size=8, frequency_stride=8, time_stride=8,
        max_length=24, num_mel_bins=16,
    )  # fmt: skip
    assert real_training_s(toy, clips=6, epochs=2, steps=3, device="cpu") > 0
