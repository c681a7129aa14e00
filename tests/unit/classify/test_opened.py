"""Every kind of classifier opens from its directory and answers as its parts do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.special import expit, logit, softmax

from common.audio.signal import fixed_windows, resample
from common.errors import ConfigError, DataError
from common.learners import opened as module
from common.learners.front_ends import Traced
from common.learners.model import load_learner
from common.learners.opened import open_classifier, save_blend, set_threshold
from pipelines.commands import main
from tests.kit.learners import BLENDED, KINDS, member, write_kind
from tests.kit.predictions import predict_logits
from tests.kit.sounds import CLASS_LABELS, class_sound

RATE = 16000
WEIGHTS = [each.weight for each in BLENDED]
CLIPS = [class_sound(label, np.random.default_rng(label + 50)) for label in (0, 1, 2)]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    return {kind: write_kind(kind, root / kind) for kind in KINDS}


@pytest.fixture
def blend(kinds: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(kinds["blend"], tmp_path / "blend"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "learner.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_each_kind_gives_the_probabilities_of_its_model(kinds: dict[str, Path]) -> None:
    expected = {name: load_learner(kinds[name]).of_waveforms(CLIPS) for name in ("stats", "cnn")}
    for name in ("probe", "levelled_probe"):
        expected[name] = softmax(predict_logits(kinds[name], CLIPS, RATE).astype(float), axis=1)
    rows = [softmax(np.log(expected[each.learner]) / each.temperature, axis=1) for each in BLENDED]
    expected["blend"] = np.average(rows, axis=0, weights=WEIGHTS)
    for kind, folder in kinds.items():
        made = open_classifier(folder)
        assert (made.labels, made.multi_label, made.sample_rates_hz) == (tuple(CLASS_LABELS), False, (RATE,))
        np.testing.assert_allclose(made.probabilities(CLIPS, RATE), expected[kind], atol=1e-5, err_msg=kind)
        assert made.probabilities([], RATE).shape == (0, 3)
    assert np.ptp(expected["blend"], axis=0).min() > 0.1


def test_independent_labels_of_a_blend_are_tempered_each(tmp_path: Path) -> None:
    made = open_classifier(write_kind("blend", tmp_path, multi_label=True))
    assert made.multi_label
    parts = [open_classifier(tmp_path / "sources" / each.learner).probabilities(CLIPS, RATE) for each in BLENDED]
    rows = [expit(logit(part) / each.temperature) for part, each in zip(parts, BLENDED, strict=True)]
    expected = np.average(rows, axis=0, weights=WEIGHTS)
    np.testing.assert_allclose(made.probabilities(CLIPS, RATE), expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_at_any_rate_is_heard_as_its_resampled_samples(
    kinds: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    made = open_classifier(kinds[kind])
    soundfile.write(tmp_path / "a.wav", resample(CLIPS[2], RATE, 22050), 22050, subtype="FLOAT")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    row = made.probabilities([samples], rate)[0]
    np.testing.assert_allclose(made.of_file(tmp_path / "a.wav"), row, atol=1e-4)
    np.testing.assert_allclose(row, made.probabilities([resample(samples, rate, RATE)], RATE)[0], atol=1e-6)
    for bad, message in ((np.zeros((2, 900), np.float32), "expected mono"), (np.full(900, np.nan, np.float32), "NaN")):
        with pytest.raises(DataError, match=message):
            made.probabilities([bad], RATE)


@pytest.mark.parametrize("loud_first", [False, True])
def test_a_long_recording_is_heard_at_the_level_of_its_loudest_part(
    kinds: dict[str, Path], tmp_path: Path, loud_first: bool
) -> None:
    made = open_classifier(kinds["levelled_probe"])
    parts = [CLIPS[2], 0.01 * CLIPS[1], 0.02 * CLIPS[0]]
    samples = np.concatenate(parts if loud_first else parts[::-1])
    expected = softmax(predict_logits(kinds["levelled_probe"], [samples], RATE)[0].astype(float))
    for gain in (1.0, 0.03):
        soundfile.write(tmp_path / "a.wav", gain * samples, RATE, subtype="FLOAT")
        np.testing.assert_allclose(made.of_file(tmp_path / "a.wav"), expected, atol=1e-4)


def test_a_long_recording_is_the_mean_of_windows_and_memory_holds_one(
    kinds: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_S", 1)
    heard: list[int] = []
    original = Traced.__call__
    monkeypatch.setattr(Traced, "__call__", lambda self, clips: heard.extend(map(len, clips)) or original(self, clips))
    made = open_classifier(kinds["stats"])
    for seconds, windows in ((0.7, 1), (1.0, 1), (2.5, 3)):
        samples = np.concatenate(CLIPS * 2)[: int(seconds * RATE)]
        soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
        heard.clear()
        row = made.of_file(tmp_path / "a.wav")
        assert heard == [min(RATE, len(samples))] * windows
        expected = load_learner(kinds["stats"]).of_waveforms(fixed_windows(samples, min(RATE, len(samples))))
        np.testing.assert_allclose(row, expected.mean(axis=0), atol=1e-6)


def test_a_saved_blend_is_whole_and_a_second_attempt_replaces_the_first(kinds: dict[str, Path], blend: Path) -> None:
    record = json.loads((blend / "learner.json").read_text())
    assert record["members"] == [{**dict(each), "folder": f"members/{place}"} for place, each in enumerate(BLENDED)]
    assert (record["learner"], record["labels"], record["sample_rate_hz"]) == ("blend", CLASS_LABELS, RATE)
    save_blend(blend, [(member("stats"), kinds["stats"])])
    assert [path.name for path in (blend / "members").iterdir()] == ["0"]
    found = open_classifier(blend).probabilities(CLIPS, RATE)
    np.testing.assert_allclose(found, open_classifier(kinds["stats"]).probabilities(CLIPS, RATE), atol=1e-5)


def test_a_blend_of_several_rates_hears_each_member_at_its_own(kinds: dict[str, Path], tmp_path: Path) -> None:
    slow = write_kind("probe", tmp_path / "slow", rate=8000)
    save_blend(tmp_path / "blend", [(member("probe"), slow), (member("stats"), kinds["stats"])])
    made = open_classifier(tmp_path / "blend")
    assert made.sample_rates_hz == (8000, RATE)
    parts = [open_classifier(folder).probabilities(CLIPS, RATE) for folder in (slow, kinds["stats"])]
    np.testing.assert_allclose(made.probabilities(CLIPS, RATE), np.mean(parts, axis=0), atol=1e-5)


def test_what_is_no_blend_is_not_saved(kinds: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(kinds["stats"], other)
    edit(other, labels=["x", "y", "z"])
    for members, error, message in (
        ([], DataError, "without members"),
        ([(member("guess"), kinds["stats"])], ConfigError, "unknown member of a blend 'guess'"),
        ([(member("blend"), kinds["blend"])], ConfigError, "unknown member of a blend 'blend'"),
        ([(member("stats"), kinds["blend"])], DataError, "cannot load the classifier"),
        ([(member("stats"), tmp_path / "absent")], DataError, "no classifier at"),
        ([(member("stats", 0.0), kinds["stats"])], DataError, "temperature of member 0 is 0"),
        ([(member("stats", weight=-2.0), kinds["stats"])], DataError, "weight of member 0 is -2"),
        ([(member("stats"), kinds["stats"]), (member("stats"), other)], DataError, "member 1 gives one of x, y, z"),
    ):
        with pytest.raises(error, match=message):
            save_blend(tmp_path / "made", members)
        assert not (tmp_path / "made").exists()


def test_damaged_blends_are_told(blend: Path, kinds: dict[str, Path]) -> None:
    whole = json.loads((blend / "learner.json").read_text())
    first = whole["members"][0]
    for changes, message in (
        (
            {"members": [{**first, "learner": "guess"}]},
            "member 0 is 'guess' in 'members/0'; expected one of ast, ast_probe_first, cnn",
        ),
        ({"members": [{**first, "folder": "../elsewhere"}]}, "in '../elsewhere'; expected one of"),
        ({"members": [{**first, "temperature": -1}]}, "temperature of member 0 is -1; expected a number above 0"),
        ({"members": [{"learner": "cnn"}]}, "describes no blend"),
        ({"members": []}, "without members"),
        ({"labels": ["x"]}, "expected one of x"),
        ({"multi_label": True}, "expected several of"),
    ):
        (blend / "learner.json").write_text(json.dumps({**whole, **changes}))
        with pytest.raises(DataError, match=message):
            open_classifier(blend)
    for text in ("[]", "{", ""):
        (blend / "learner.json").write_text(text)
        with pytest.raises(DataError, match=r"cannot load the classifier at .*learner.json"):
            open_classifier(blend)
    (blend / "learner.json").write_text(json.dumps(whole))
    weights = blend / "members" / "2" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(DataError, match=r"cannot load the classifier at .*members/2"):
        open_classifier(blend)
    shutil.rmtree(weights.parent)
    shutil.copytree(kinds["blend"], weights.parent)
    with pytest.raises(DataError, match=r"cannot load the classifier at .*members/2"):
        open_classifier(blend)


@pytest.mark.parametrize("kind", KINDS)
def test_classify_answers_with_every_kind_and_names_labels_from_the_threshold_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    model = write_kind(kind, tmp_path / "model", multi_label=True)
    soundfile.write(tmp_path / "a.wav", CLIPS[2], RATE)
    row = open_classifier(model).of_file(tmp_path / "a.wav")
    expected = dict(zip(CLASS_LABELS, row.tolist(), strict=True))
    ranked = sorted(expected, key=lambda label: -expected[label])
    assert open_classifier(model).threshold is None
    for threshold, heard in (
        (None, [label for label in ranked if expected[label] >= 0.5]),
        (expected[ranked[1]], ranked[:2]),
    ):
        if threshold is not None:
            set_threshold(model, threshold)
            assert open_classifier(model).threshold == threshold
        assert main(["classify", "--model", str(model), "--audio", str(tmp_path / "a.wav"), "--json"]) == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found["probabilities"] == pytest.approx(expected, abs=1e-9)
        assert (found["label"], found["labels"]) == (ranked[0], heard)
