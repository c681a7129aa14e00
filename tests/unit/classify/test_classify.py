from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from transformers import pipeline

from common.classifier.model import build_classifier, load_classifier, save_classifier, with_fresh_head
from common.config.classifier import ASTArchitecture
from common.errors import Interrupted
from pipelines.commands import classify as command
from pipelines.commands import main
from pipelines.commands.classify import audio_files, classify
from tests.kit.broken_audio import encoded, flac_with_total

LABELS = ["Glass / break", "dog bark", "müsic"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    architecture = ASTArchitecture(
        hidden_size=16,
        layers=1,
        heads=2,
        intermediate_size=32,
        patch_size=16,
        frequency_stride=16,
        time_stride=16,
        max_length=48,
        num_mel_bins=32,
    )
    save_classifier(build_classifier(architecture, LABELS, -6.0, 3.0, seed=2), folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "sub").mkdir()
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(7000), 16000)
    soundfile.write(tmp_path / "sub" / "stereo 44k.flac", 0.1 * rng.standard_normal((60000, 2)), 44100)
    (tmp_path / "notes.txt").write_text("no audio")
    return tmp_path


def test_a_file_gets_the_label_and_probability_of_the_stock_pipeline(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", "--model", str(model), "--audio", str(folder / "a.wav"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    samples, _ = soundfile.read(folder / "a.wav", dtype="float32")
    best = pipeline("audio-classification", model=str(model))(samples, top_k=1)[0]
    assert row["label"] == best["label"]
    assert row["probability"] == pytest.approx(best["score"], abs=1e-4)
    assert set(row["probabilities"]) == set(LABELS)
    assert sum(row["probabilities"].values()) == pytest.approx(1.0)


def test_a_folder_gives_a_line_per_audio_file(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--model", str(model), "--audio", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(any(label in line for label in LABELS) for line in lines)
    assert [row["file"] for row in classify(model, audio_files(folder))] == [
        str(folder / "a.wav"),
        str(folder / "sub" / "stereo 44k.flac"),
    ]


def test_a_bad_file_is_named_and_the_others_are_classified(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.wav").write_bytes(b"RIFF")
    assert main(["classify", "--model", str(model), "--audio", str(folder), "--json"]) == 1
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert ["error" in row for row in rows] == [False, True, False]
    assert "bad.wav" in printed.err


def test_names_of_files_command_no_terminal_and_stand_once_in_errors(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.wav").rename(folder / "new\nline \x1b[31m.wav")
    bad = folder / "bad  \x9b.wav"
    bad.write_bytes(b"RIFF")
    assert main(["classify", "--model", str(model), "--audio", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "new\\nline \\x1b[31m.wav  0." in printed.out and len(printed.out.splitlines()) == 2
    assert printed.err.startswith(f"error: {folder}/bad  \\x9b.wav: ") and printed.err.count("bad") == 1


def test_a_run_named_in_place_of_its_classifier_is_told(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "classifier").symlink_to(model)
    assert main(["classify", "--model", str(tmp_path / "run"), "--audio", str(folder)]) == 2
    assert f"; name {tmp_path}/run/classifier\n" in capsys.readouterr().err


def test_a_silent_file_is_told_beside_its_answer(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, peak in (("digital.wav", 0.0), ("quiet.wav", 9e-4), ("soft.wav", 2e-3)):
        soundfile.write(tmp_path / name, peak * np.sin(np.arange(8000) / 5), 16000, subtype="FLOAT")
    assert main(["classify", "--model", str(model), "--audio", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    assert [row.get("silent", False) for row in json.loads(printed.out)] == [True, True, False]
    assert printed.err.count("silent, so that the answer says nothing") == 2 and "soft.wav" not in printed.err


def test_answers_and_errors_come_one_by_one_and_json_stays_whole(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = audio_files(folder)
    rows = classify(model, [files[0], (folder / "gone.wav", ""), files[1]])
    assert "label" in next(rows) and "no such file" in next(rows)["error"] and "label" in next(rows)

    def broken(classifier: object, file: Path) -> dict[str, object]:
        printed.append(capsys.readouterr().out)
        if file.name != "a.wav":
            raise stop
        return {"label": "dog", "probability": 1.0, "probabilities": {"dog": 1.0}}

    monkeypatch.setattr(command, "_classified", broken)
    for arguments in ([], ["--json"]):
        printed: list[str] = []
        stop: Exception = ValueError("something\nodd")
        assert main(["classify", "--model", str(model), "--audio", str(folder), *arguments]) == 1
        rest = capsys.readouterr()
        assert "a.wav" in printed[1] and "stereo 44k.flac: something odd" in rest.err
        printed, stop = [], Interrupted("SIGTERM came")
        assert main(["classify", "--model", str(model), "--audio", str(folder), *arguments]) == 2
        rest = capsys.readouterr()
        assert "a.wav" in printed[1] and "SIGTERM came" in rest.err
    assert [row["label"] for row in json.loads(printed[1] + rest.out)] == ["dog"]


def test_json_is_printed_as_one_array(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.wav").write_bytes(b"RIFF")
    assert main(["classify", "--model", str(model), "--audio", str(folder), "--json"]) == 1
    printed = capsys.readouterr().out
    assert printed == json.dumps(json.loads(printed), indent=2, ensure_ascii=False) + "\n"


def test_files_that_other_readers_choke_on_are_classified_or_named(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = 0.1 * np.random.default_rng(3).standard_normal(9000)
    (folder / "call.wav").write_bytes(encoded(sound, "WAV", "GSM610", 8000))
    (folder / "open.flac").write_bytes(flac_with_total(encoded(sound, "FLAC"), 0))
    os.mkfifo(folder / "sub" / "pipe.wav")
    assert main(["classify", "--model", str(model), "--audio", str(folder), "--json"]) == 1
    rows = {Path(row["file"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert {name for name, row in rows.items() if "error" in row} == {"pipe.wav"}
    assert set(rows) == {"a.wav", "call.wav", "open.flac", "stereo 44k.flac", "pipe.wav"}
    for place in (folder / "sub" / "pipe.wav", folder / ("long " * 80)):
        assert main(["classify", "--model", str(model), "--audio", str(place)]) == 2
        assert "set AUDIO to an audio file" in capsys.readouterr().err


def test_what_a_folder_holds_beside_readable_audio_is_told(
    model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "gone.wav").symlink_to("nowhere.wav")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(b"x")
    card = tmp_path_factory.mktemp("card")
    shutil.copy(folder / "a.wav", card / "b.wav")
    (folder / "card").symlink_to(card)
    assert main(["classify", "--model", str(model), "--audio", str(folder)]) == 1
    printed = capsys.readouterr()
    assert [line.split("  ")[0] for line in printed.out.splitlines()] == [
        str(folder / "a.wav"),
        str(folder / "card" / "b.wav"),
        str(folder / "sub" / "stereo 44k.flac"),
    ]
    for told in (
        "gone.wav: broken_link: the link leads to nowhere.wav",
        "phone.m4a: foreign_format: M4A",
        "caf\\xe9.wav: bad",
    ):
        assert told in printed.err


def test_a_model_of_several_labels_gives_the_probability_of_each_and_names_those_from_its_threshold_on(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = tmp_path / "several"
    save_classifier(with_fresh_head(load_classifier(model), LABELS, seed=4, multi_label=True), several)
    samples, _ = soundfile.read(folder / "a.wav", dtype="float32")
    expected = {row["label"]: row["score"] for row in pipeline("audio-classification", model=str(several))(samples)}
    ranked = sorted(expected, key=lambda label: -expected[label])
    config = json.loads((several / "config.json").read_text())
    middle = (expected[ranked[1]] + expected[ranked[2]]) / 2
    for threshold, heard in ((middle, ranked[:2]), (0.999, [])):
        (several / "config.json").write_text(json.dumps({**config, "threshold": threshold}))
        assert main(["classify", "--model", str(several), "--audio", str(folder / "a.wav"), "--json"]) == 0
        row = json.loads(capsys.readouterr().out)[0]
        assert row["probabilities"] == pytest.approx(expected, abs=1e-4)
        assert row["labels"] == heard and row["label"] == ranked[0]
        assert main(["classify", "--model", str(several), "--audio", str(folder / "a.wav")]) == 0
        line = capsys.readouterr().out
        assert [label in line for label in ranked] == [label in (heard or ranked[:1]) for label in ranked]
        assert line.endswith("no label was heard)\n") != bool(heard)


@pytest.mark.parametrize(
    ("model_name", "audio_name", "message"),
    [
        ("absent", "a.wav", "no classifier at"),
        (".", "a.wav", "no classifier at"),
        (None, "absent.wav", "no such file or folder"),
        (None, "empty", "holds no audio"),
    ],
)
def test_wrong_arguments_have_clear_errors(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str], model_name: str | None, audio_name: str, message: str
) -> None:
    (folder / "empty").mkdir()
    place = model if model_name is None else folder / model_name
    assert main(["classify", "--model", str(place), "--audio", str(folder / audio_name)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert "Traceback" not in printed.err


def test_onnx_runtime_answers_as_the_stock_pipeline(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.onnx"
    assert main(["export-onnx", "--model", str(model), "--out", str(target)]) == 0
    session = onnxruntime.InferenceSession(str(target))
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert labels == LABELS
    samples, _ = soundfile.read(folder / "a.wav", dtype="float32")
    shares = session.run(None, {"waveform": samples})[0]
    expected = pipeline("audio-classification", model=str(model))(samples, top_k=3)
    assert dict(zip(labels, shares, strict=True)) == pytest.approx(
        {row["label"]: row["score"] for row in expected}, abs=1e-4
    )
    assert main(["export-onnx", "--model", str(tmp_path), "--out", str(target)]) == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "file/m.onnx", "x" * 300 + ".onnx", "/proc/m.onnx"])
def test_a_place_that_cannot_be_written_is_told_in_one_line_and_nothing_is_left(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert main(["export-onnx", "--model", str(model), "--out", str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_failed_export_leaves_nothing_and_keeps_the_old_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_text("old")

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onnx.save", full)
    with pytest.raises(MemoryError):
        main(["export-onnx", "--model", str(model), "--out", str(tmp_path / "m.onnx")])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("m.onnx", "old")]


def test_a_missing_folder_of_the_target_is_made(model: Path, tmp_path: Path) -> None:
    assert main(["export-onnx", "--model", str(model), "--out", str(tmp_path / "new" / "m.onnx")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.onnx"]
