from __future__ import annotations

import numpy as np
import pytest
import torch

from common.diffusion.backend import T2ABackend, error
from common.records.clips import GoldClip
from components.align_t2a.probes import HeldOut, encode_held_out, held_out_error
from tests.kit.clips import gold_clip
from tests.kit.sounds import TONES, tone


def record(label: str, number: int, duration_s: float) -> GoldClip:
    return gold_clip(f"{label}-{number}", label, TONES.index(label), duration_s=duration_s)


def encoded(backend: T2ABackend, durations: tuple[float, ...] = (0.3, 0.5, 0.5)) -> HeldOut:
    clips = [(record(label, 0, s), tone(label, 0, s)) for label, s in zip(TONES, durations, strict=True)]
    return encode_held_out(backend, clips, 4, -1.0)


def test_error_is_the_mean_over_clips_and_draws_whatever_the_batch_size(backend: T2ABackend) -> None:
    held_out = encoded(backend)
    assert [len(batch.clip_ids) for batch in held_out] == [1, 2]
    whole = held_out_error(backend, held_out, 4, 100, 0)
    assert held_out_error(backend, held_out, 4, 100, 0) == whole
    assert held_out_error(backend, held_out, 4, 3, 0) == pytest.approx(whole, rel=1e-5)
    one, two = (held_out_error(backend, (batch,), 4, 100, 0) for batch in held_out)
    assert whole == pytest.approx((one + 2 * two) / 3, rel=1e-6)


def test_noise_belongs_to_the_clip_not_to_its_place(backend: T2ABackend) -> None:
    clips = [(record(label, 0, 0.5), tone(label, 0)) for label in TONES]
    forth, back = (encode_held_out(backend, order, 4, -1.0) for order in (clips, clips[::-1]))
    assert held_out_error(backend, forth, 2, 100, 0) == pytest.approx(
        held_out_error(backend, back, 2, 100, 0), rel=1e-6
    )
    assert held_out_error(backend, forth, 2, 100, 0) != held_out_error(backend, forth, 2, 100, 1)


def test_noise_levels_are_spread_evenly(backend: T2ABackend, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("components.align_t2a.probes.error", lambda *args: (seen.append(args[3]), error(*args))[1])
    held_out_error(backend, encoded(backend, (0.5, 0.5, 0.5)), 8, 100, 0)
    (levels,) = seen
    assert torch.equal((levels.reshape(3, 8) * 8).floor(), torch.arange(8.0).expand(3, 8))


def test_gain_and_silence_do_not_count(backend: T2ABackend) -> None:
    clip = record("bus", 0, 0.5)
    clipped = encode_held_out(backend, [(clip, 100 * tone("bus", 0))], 4, -1.0)
    limited = encode_held_out(backend, [(clip, 50 * tone("bus", 0))], 4, -1.0)
    assert torch.allclose(clipped[0].latents, limited[0].latents, atol=1e-4)
    assert encode_held_out(backend, [(clip, np.zeros(8000, np.float32))], 4, -1.0) == ()


def test_a_model_that_predicts_better_has_a_smaller_error(backend: T2ABackend) -> None:
    held_out = encoded(backend)
    before = held_out_error(backend, held_out, 4, 100, 0)
    optimizer = torch.optim.Adam(backend.transformer.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        batch = held_out[1]
        eps, t = torch.randn(batch.latents.shape, generator=generator), torch.rand(2, generator=generator)
        optimizer.zero_grad()
        error(backend, batch.latents, eps, t, batch.condition).mean().backward()
        optimizer.step()
    assert held_out_error(backend, held_out, 4, 100, 0) < before
