"""ONNX Runtime gives every kind of classifier's probabilities from the waveform."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from common.audio.signal import resample
from common.learners.opened import open_classifier, save_blend, set_threshold
from pipelines.commands import export_onnx as command
from pipelines.commands import main
from tests.kit.encoders import encoder_probe, write_encoder
from tests.kit.learners import CLAP_KINDS, KINDS, member, write_kind
from tests.kit.models import write_other_classifier
from tests.kit.sounds import CLASS_LABELS, class_sound

RATE = 16000


def sounds() -> list[np.ndarray]:
    """Clips of other lengths than those of the export: from one sample to several windows of the AST and the CLAP."""
    rng = np.random.default_rng(9)
    long = np.concatenate([class_sound(label, rng) for label in (0, 1, 2, 0, 1)])
    sizes = (1, 399, 400, 560, 1519, 1520, 5001, 7999, 8001, 15679, 16000, 16001, len(long))
    quiet, loud = long[:9000] * np.float32(1e-3), np.clip(long[5000:16000] * 9, -1, 1)
    padded = np.concatenate([np.zeros(3000, np.float32), long[:4000], np.zeros(5000, np.float32)])
    return [*(long[:size] for size in sizes), quiet, loud, padded, np.zeros(12345, np.float32), long[:8000] + 0.2]


@pytest.mark.parametrize(
    ("kind", "multi_label"),
    # Independent labels of a model alone, and of every other head as a member.
    [*((kind, False) for kind in (*KINDS, *CLAP_KINDS)), *((kind, True) for kind in ("probe", "blend", "clap_blend"))],
)
def test_onnx_runtime_gives_the_probabilities_of_every_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, multi_label: bool
) -> None:
    model = write_kind(kind, tmp_path / "model", multi_label)
    if multi_label:
        set_threshold(model, 0.25)
    assert main(["export-onnx", "--model", str(model), "--out", str(tmp_path / "m.onnx")]) == 0
    assert "probabilities within" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    shortest = 1520 if kind in ("stats", "blend", "clap_blend") else 400
    expected = {"labels": CLASS_LABELS, "sample_rate_hz": RATE, "multi_label": multi_label, "shortest": shortest}
    assert told == expected | ({"threshold": 0.25} if multi_label else {})
    found = np.stack([session.run(["probabilities"], {"waveform": sound})[0] for sound in sounds()])
    np.testing.assert_allclose(found, open_classifier(model).probabilities(sounds(), RATE), atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.1


@pytest.mark.parametrize("kind", ["clap", "whisper"])
def test_onnx_runtime_gives_the_probabilities_of_learners_that_hear_through_other_encoders(
    tmp_path: Path, kind: str
) -> None:
    made = encoder_probe(write_encoder(kind, tmp_path / "ear" / "encoder"), "probe_ear")
    made.save(tmp_path / "ear")
    assert main(["export-onnx", "--model", str(tmp_path / "ear"), "--out", str(tmp_path / "m.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    found = np.stack([session.run(["probabilities"], {"waveform": sound})[0] for sound in sounds()])
    expected = open_classifier(tmp_path / "ear").probabilities(sounds(), made.sample_rate_hz)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.1


@pytest.mark.parametrize("kinds", [("stats", "few_shot_clap"), ("probe", "cnn", "probe_clap")])
def test_a_graph_takes_the_highest_rate_of_a_blends_members(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    rates = {"few_shot_clap": 48000, "probe_clap": 32000}
    made = [
        (member(kind, 1.5, 1.0 + place), write_kind(kind, tmp_path / kind, rate=rates.get(kind, RATE)))
        for place, kind in enumerate(kinds)
    ]
    save_blend(tmp_path / "blend", made)
    assert main(["export-onnx", "--model", str(tmp_path / "blend"), "--out", str(tmp_path / "m.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    rate = json.loads(session.get_modelmeta().custom_metadata_map["sample_rate_hz"])
    assert rate == max(rates[kind] for kind in kinds if kind in rates)
    heard = [resample(sound, RATE, rate) for sound in sounds()] + sounds()
    found = np.stack([session.run(["probabilities"], {"waveform": sound})[0] for sound in heard])
    np.testing.assert_allclose(found, open_classifier(tmp_path / "blend").probabilities(heard, rate), atol=1e-4)


def test_what_a_graph_cannot_hold_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_other_classifier("wav2vec2", tmp_path / "wave")
    slow = write_kind("probe", tmp_path / "slow", rate=12000)
    stats = write_kind("stats", tmp_path / "stats")
    save_blend(tmp_path / "rates", [(member("probe"), slow), (member("stats"), stats)])
    save_blend(tmp_path / "waves", [(member("ast"), tmp_path / "wave")])
    shutil.rmtree(write_kind("few_shot_clap", tmp_path / "deaf") / "clap")
    encoder_probe(write_encoder("pe_audio", tmp_path / "ear" / "encoder"), "probe_ear").save(tmp_path / "ear")
    for name, message in (
        ("ear", "the learner probe_ear hears through PeAudio, which takes clips through transformers' own extractor"),
        ("wave", "holds a Wav2Vec2ForSequenceClassification, which takes waveforms"),
        ("waves", "holds a Wav2Vec2ForSequenceClassification, which takes waveforms"),
        ("deaf", "the learner few_shot_clap hears through a pretrained model, and none was given"),
        ("rates", "members hear clips at 12000 and 16000 Hz; in a graph each rate is a whole fraction"),
    ):
        assert main(["export-onnx", "--model", str(tmp_path / name), "--out", str(tmp_path / "m.onnx")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "m.onnx").exists()


def test_a_graph_that_answers_otherwise_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_kind("stats", tmp_path / "model")
    monkeypatch.setattr(command, "TOLERANCE", -1.0)
    assert main(["export-onnx", "--model", str(model), "--out", str(tmp_path / "m.onnx")]) == 2
    assert "the exported graph's probabilities differ by" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_trial_sounds_are_of_many_lengths_and_levels() -> None:
    made = command.trial_sounds(8000, 1.0)
    assert min(map(len, made)) < 400 and len(made[0]) == max(map(len, made)) == 1.5 * 8000
    peaks = [float(np.abs(sound).max()) for sound in made]
    assert min(peaks) == 0 and max(peaks) == 1 and all(sound.dtype == np.float32 for sound in made)
