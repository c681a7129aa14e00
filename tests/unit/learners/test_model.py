from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from common.audio.signal import resample
from common.errors import DataError
from common.learners.calibration import cross_entropy, fit_temperature, tempered
from common.learners.cnn import ConvNet, fit_convnet
from common.learners.front_ends import front_end, recorded_copies
from common.learners.linear import fit_discriminant
from common.learners.model import RECORD, WEIGHTS, LearnerModel, LinearHead, head_logits, load_learner
from common.learners.statistics import SCALES
from tests.kit.sounds import RATE, class_sound

LABELS = ("a", "b", "c")


def sounds(seed: int, each: int = 6) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """Clips of three classes, and their targets."""
    draws, ids = np.random.default_rng(seed), np.arange(3 * each) % 3
    return [class_sound(int(k), draws).astype(np.float32) for k in ids], np.eye(3)[ids]


def fitted_statistics() -> LearnerModel:
    clips, targets = sounds(0)
    hears = front_end("statistics")
    copies = [c for k, clip in enumerate(clips) for c in recorded_copies(clip, RATE, str(k))]
    features = np.stack(hears([*clips, *copies]))
    both = np.concatenate([targets, np.repeat(targets, 3, axis=0)])
    linear = fit_discriminant(features, both, np.ones(len(both)), 0.2 / len(clips), False, SCALES)
    return LearnerModel("stats", "statistics", LinearHead.of(linear), LABELS, False, 4.0)


def untrained(learner: str) -> LearnerModel:
    if learner == "cnn":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LearnerModel("cnn", "log_mel", ConvNet(3, 40).eval(), LABELS, False)
    return fitted_statistics()


def test_the_cnn_learns_from_clips_that_are_shorter_than_its_layers_reach() -> None:
    hears, (sound, targets) = front_end("log_mel"), sounds(0)
    features = hears([clip[: RATE // 20] for clip in sound])
    net = fit_convnet(features, targets, [], targets[:0], 0.0, multi_label=False, steps=2, seed=0)
    assert np.isfinite(head_logits(net, hears([*sound[:3], sound[0][:1]]))).all()


@pytest.mark.parametrize("learner", ["stats", "cnn"])
def test_a_saved_learner_answers_as_before_and_damage_is_named(tmp_path: Path, learner: str) -> None:
    made = untrained(learner)
    made.save(tmp_path)
    clips = [*sounds(1, 1)[0], np.zeros(100, np.float32)]
    assert load_learner(tmp_path).of_waveforms(clips) == pytest.approx(made.of_waveforms(clips), abs=1e-6)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps({**record, "labels": ["a"]}))
    with pytest.raises(DataError, match=r"1 labels.*make it again or copy it whole"):
        load_learner(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps(record))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:40])
    with pytest.raises(DataError, match="make it again or copy it whole"):
        load_learner(tmp_path)


@pytest.mark.parametrize("name", ["statistics", "log_mel"])
def test_features_do_not_hear_the_level_and_are_finite_for_silence(name: str) -> None:
    hears = front_end(name)
    clip = sounds(2, 1)[0][0]
    loud, quiet = hears([clip, 0.03 * clip])
    assert quiet == pytest.approx(loud, abs=2e-3)
    for silent in hears([np.zeros(100, np.float32), np.zeros(8000, np.float32)]):
        assert np.isfinite(silent).all()


def test_statistics_answer_alike_however_a_clip_was_recorded() -> None:
    made = fitted_statistics()
    clips, targets = sounds(3, 20)
    answers = made.of_waveforms(clips).argmax(axis=1)
    assert (answers == targets.argmax(axis=1)).mean() > 0.9
    draws = np.random.default_rng(0)
    changed = {
        "30 dB down, 16 bits": [np.round(clip / np.abs(clip).max() * 0.03 * 32767) / 32767 for clip in clips],
        "digital silence below -40 dB": [np.where(np.abs(clip) < 0.01 * np.abs(clip).max(), 0, clip) for clip in clips],
        "8 kHz": [resample(resample(clip, RATE, 8000), 8000, RATE) for clip in clips],
        "silence before it": [np.concatenate([np.zeros(int(draws.integers(800, 4800))), clip]) for clip in clips],
    }
    for name, waveforms in changed.items():
        same = made.of_waveforms([w.astype(np.float32) for w in waveforms]).argmax(axis=1) == answers
        assert same.mean() >= 0.95, name


def test_the_network_learns_from_gold_and_from_further_clips() -> None:
    hears = front_end("log_mel")
    clips, targets = sounds(4)
    unseen, truth = sounds(5)
    features = hears(clips)
    options = {"multi_label": False, "steps": 40, "seed": 0}

    def right(net: nn.Module) -> float:
        return float((head_logits(net, hears(unseen)).argmax(axis=1) == truth.argmax(axis=1)).mean())

    learned = fit_convnet(features, targets, [], targets[:0], 0.0, **options)
    assert right(learned) > 0.8
    # Half of each batch says the contrary for two of the classes.
    confused = fit_convnet(features, targets, features, targets[:, [1, 0, 2]], 0.5, **options)
    assert right(confused) < right(learned)
    corrected = fit_convnet(features, targets, features, targets[:, [1, 0, 2]], 0.5, real_last=0.5, **options)
    assert right(corrected) > right(confused)
    again = fit_convnet(features, targets, [], targets[:0], 0.0, **options)
    assert head_logits(again, features) == pytest.approx(head_logits(learned, features), abs=1e-5)


def test_a_temperature_makes_overconfident_answers_honest() -> None:
    draws = np.random.default_rng(0)
    honest = draws.dirichlet([1, 1, 1], size=4000)
    targets = np.eye(3)[[draws.choice(3, p=row) for row in honest]]
    bold = tempered(honest, 1 / 3, False)
    temperature = fit_temperature(bold, targets, False)
    assert temperature == pytest.approx(3, rel=0.2)
    assert cross_entropy(tempered(bold, temperature, False), targets, False) < cross_entropy(bold, targets, False)
