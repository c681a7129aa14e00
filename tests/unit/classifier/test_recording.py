"""Recording conditions on log-mel features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from common.audio.signal import resample
from common.classifier.augmentation import DRAWS, draw_conditions, vary_recording
from common.classifier.features import LogMel
from common.classifier.model import Classifier, with_fresh_head
from common.config.base import OptimConfig
from common.config.classifier import RecordingConfig
from common.config.train_classifier import TrainClassifierConfig
from common.storage.items import ItemStore
from components.train_classifier.budget import make_budget
from components.train_classifier.clips import ClipSet
from components.train_classifier.job import AstJob, Pretrained
from components.train_classifier.training import Examples, train
from tests.kit.predictions import predict_logits

RATE = 16000
ON = dict(gain_db=40.0, floor_db=20.0, silence_db=30.0, lead_s=0.3, band_hz=4000.0)
"""Everything that can vary."""


@pytest.fixture
def front_end(classifier: Classifier) -> LogMel:
    assert isinstance(classifier.front_end, LogMel)
    return classifier.front_end


@pytest.fixture
def clip() -> np.ndarray:
    """A loud half, a quiet half, and sound at all frequencies."""
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    return noise * np.repeat(np.float32([0.1, 1e-4]), RATE // 2)


def varied(front_end: LogMel, clip: np.ndarray, far: float, *used: str, **settings: float) -> Tensor:
    """Features under the conditions `settings`, those `used` chosen, each drawn at `far` of its range."""
    draws = torch.full((DRAWS,), far)
    draws[:4] = torch.tensor([0.0 if name in used else 0.9 for name in ("floor", "silence", "lead", "band")])
    return vary_recording(front_end([clip])[0], RecordingConfig(**settings), front_end, draws)


def test_a_quieter_clip_has_the_features_of_the_scaled_waveform(front_end: LogMel, clip: np.ndarray) -> None:
    for gain in (6.0, 30.0, 60.0):
        expected = front_end([clip * np.float32(10 ** (-gain / 20))])[0]
        found = varied(front_end, clip, 0.5, gain_db=min(60.0, 2 * gain)) if gain < 60 else None
        if found is not None:
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert varied(front_end, clip, 0.999, gain_db=60.0).min() >= front_end.silence - 1e-6


def test_a_front_end_with_a_level_hears_no_gain(levelled: Classifier, clip: np.ndarray) -> None:
    assert isinstance(levelled.front_end, LogMel)
    torch.testing.assert_close(varied(levelled.front_end, clip, 0.5, gain_db=60.0), levelled.front_end([clip])[0])


def test_silence_is_that_of_a_waveform_without_its_quiet_frames(front_end: LogMel, clip: np.ndarray) -> None:
    silent = clip.copy()
    silent[RATE // 2 :] = 0
    found = varied(front_end, clip, 0.0, "silence", silence_db=40.0)
    torch.testing.assert_close(found[:48], front_end([silent])[0][:48])
    torch.testing.assert_close(found[52:], front_end([silent])[0][52:])
    assert (found[52:] == front_end.silence).all()


def test_leading_silence_is_that_of_a_waveform(front_end: LogMel, clip: np.ndarray) -> None:
    found = varied(front_end, clip, 0.5, "lead", lead_s=0.2)
    expected = front_end([np.concatenate([np.zeros(RATE // 10, np.float32), clip])])[0]
    assert found.shape == expected.shape
    torch.testing.assert_close(found[10:], expected[10:])
    torch.testing.assert_close(found[:7], expected[:7])


def test_a_band_ends_where_a_resampled_waveform_ends(front_end: LogMel, clip: np.ndarray) -> None:
    narrow = resample(resample(clip, RATE, 8000), 8000, RATE)[: len(clip)].astype(np.float32)
    found = varied(front_end, clip, 0.0, "band", band_hz=4000.0)
    lost = (found == front_end.silence).all(dim=0)
    heard = front_end([narrow])[0][:48].mean(dim=0) - front_end([clip])[0][:48].mean(dim=0)
    assert lost.any() and not lost.all()
    # Bins around the limit hear a part of what is left.
    far = torch.arange(len(lost)).sub(int((~lost).sum())).abs() > 2
    assert ((heard < -10 * front_end.decibel) == lost)[far].all()


def test_a_floor_hides_what_is_quieter(front_end: LogMel, clip: np.ndarray) -> None:
    features = front_end([clip])[0]
    found = varied(front_end, clip, 0.2, "floor", floor_db=20.0)
    level = features.max() - 30 * front_end.decibel
    torch.testing.assert_close(found, features.clamp_min(float(level)))


def test_nothing_varies_when_it_is_off(front_end: LogMel, clip: np.ndarray) -> None:
    features = front_end([clip])[0]
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    (change,) = draw_conditions(RecordingConfig(), 1, front_end, generator)
    assert change(features) is features
    assert torch.equal(before, generator.get_state())
    changes = draw_conditions(RecordingConfig(**ON), 40, front_end, generator)
    kept = features.clone()
    assert len({tuple(change(features).shape) for change in changes}) > 5
    assert torch.equal(features, kept)


def test_a_silent_clip_stays_silent(front_end: LogMel) -> None:
    features = front_end([np.zeros(RATE, np.float32)])[0]
    for change in draw_conditions(RecordingConfig(**ON), 40, front_end, torch.Generator().manual_seed(1)):
        assert (change(features) - front_end.silence).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gain_db", -1.0),
        ("gain_db", 61.0),
        ("floor_db", 91.0),
        ("silence_db", -3.0),
        ("lead_s", 6.0),
        ("band_hz", -1.0),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValidationError, match=field):
        RecordingConfig(**{field: value})
    assert not TrainClassifierConfig().recording.on


def hums(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Tones of three pitches in noise, and their label ids."""
    rng, labels = np.random.default_rng(seed), np.arange(count) % 3
    time = np.arange(7000) / RATE
    noise = 0.01 * rng.standard_normal((count, len(time)))
    return [
        (0.5 * np.sin(2 * np.pi * (300, 900, 2700)[i] * time) + n).astype(np.float32)
        for i, n in zip(labels, noise, strict=True)
    ], labels


def test_a_model_that_heard_other_levels_agrees_with_itself(classifier: Classifier) -> None:
    clips, labels = hums(18, 0)
    data = Examples([[clip] for clip in classifier.front_end(clips)], labels)
    optim = OptimConfig(steps=200, batch_size=9, learning_rate=5e-3)
    budget = make_budget(
        labels, np.zeros(0, np.int64), steps=200, batch_size=9, synthetic_fraction=0.5, 
        seed=0,
    )  # fmt: skip
    unseen, truth = hums(30, 1)
    changed = [np.round(10**-1.5 * clip * 32767).astype(np.float32) / 32767 for clip in unseen]
    for recording, agrees in ((RecordingConfig(), False), (RecordingConfig(gain_db=40.0), True)):
        made = with_fresh_head(classifier, ["a", "b", "c"], seed=1)
        train(
            made, data, None, budget, optim, select_by="accuracy", specaugment=None,
            recording=recording, seed=2,
        )  # fmt: skip
        before, after = (predict_logits(made, of, RATE).argmax(axis=1) for of in (unseen, changed))
        assert (before == truth).mean() > 0.8
        assert ((before == after).mean() >= 0.95) == agrees


def test_a_training_under_other_conditions_has_another_key(tmp_path: Path) -> None:
    clips = ClipSet((("a", "hash", 0),), tmp_path, ())
    optim = OptimConfig(steps=2, batch_size=4, learning_rate=1e-3)
    keys = []
    for recording in (RecordingConfig(), RecordingConfig(), RecordingConfig(floor_db=20.0)):
        job = AstJob(
            pretrained=Pretrained(tmp_path, "base", None), labels=("a", "b"), multi_label=False, gold=clips,
            validation=None, synthetic=clips, classic="none", settings=TrainClassifierConfig(recording=recording),
            store=ItemStore("train_classifier", "v1", tmp_path), name="gold/0", seed=0, strength=None, optim=optim,
        )  # fmt: skip
        keys.append(job.key())
    assert keys[0] == keys[1] != keys[2]
