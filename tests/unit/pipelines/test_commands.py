"""What every command has in common: mistakes in one line, any terminal, `~`, places that cannot be written."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from common.errors import ConfigError
from pipelines.commands import main
from pipelines.commands.arguments import check_parameter
from pipelines.commands.options import place
from pipelines.commands.printing import print_json

ADDRESSES = ["--corpus=s3://bucket/corpus", "--clap=s3://bucket/clap"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["classify"], "required: MODEL, AUDIO"),
        (["export-onnx", "--model=x"], "required: OUT"),
        (["remake"], "required: CLIP"),
        (["estimate", "--gpus=many"], "GPUS=many: expected a whole number of at least 1"),
        (["estimate", "--gpus=0", "--preset=paper"], "GPUS=0: expected a whole number of at least 1"),
        (["train-job", "build/job.yaml", *ADDRESSES, "--nodes=-2"], "NODES=-2: expected a whole number of at least 1"),
        (["trend", "--store=/tmp", "--history=../x"], "history '../x': expected letters, digits, dots"),
        (["run-pipeline", "--runner=ssh"], "argument RUNNER: invalid choice: 'ssh'"),
        (["run-pipeline", "--colour=red"], "unrecognized arguments: COLOUR=red"),
        (["clasify"], "unknown command 'clasify'"),
        (["run-pipeline", "--dataset= "], "no dataset is named"),
        (["run-pipeline", f"--n={10**20}"], f"N={10**20}: expected a whole number of at least 0, of nine digits"),
        (["run-pipeline", "--seeds=0"], "SEEDS=0: expected a whole number of at least 1"),
        (["run-pipeline", "--store=s3//bucket"], "'s3//bucket': an address is s3://bucket/prefix; a new folder is wri"),
        (["benchmark", "--store=S3:/bucket"], "'S3:/bucket': an address is s3://bucket/prefix"),
        (["run-pipeline", "--store=gs://bucket"], "expected a folder, file:///folder or s3://"),
        (["benchmark", "--profile=one-gpus"], "unknown profile 'one-gpus': did you mean one-gpu"),
        (["run-pipeline", "--reuse-t2a-from=/proc"], "/proc holds no finished text-to-audio model"),
        (["run-pipeline", "--overrides=prepare_corpus.source=folder"], "captioned audio of your own: name it with"),
        (
            ["benchmark", "--overrides=prepare_corpus.source=none", "--methods=retrieval"],
            "takes clips from the pretrain",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_by_the_names_of_the_variables(
    command: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


def test_a_terminal_without_a_character_still_shows_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert main(["Größe…\udcff"]) == 2
    sys.stderr.flush()
    assert b"unknown command 'Gr\xf6\xdfe\\u2026\\udcff'" in sys.stderr.buffer.getvalue()


@pytest.mark.parametrize("text", ["caf\u00e9", "\u2026", "\U0001f600", "caf\udce9.wav", "\ud83d"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_json_stays_json_whatever_the_terminal_lacks(monkeypatch: pytest.MonkeyPatch, text: str, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    print_json({text: [text]})
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode(encoding)) == {text: [text]}


@pytest.mark.parametrize(
    ("command", "taken"),
    [(["compile"], "file"), (["train-job", *ADDRESSES, "--profile=one-gpu"], "folder.yaml")],
    ids=["compile", "train-job"],
)
@pytest.mark.parametrize("name", ["taken", "file/x.yaml", "x" * 300 + ".yaml", "/proc/x.yaml"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(
    command: list[str], taken: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "file").touch()
    name = taken if name == "taken" else name
    assert main([command[0], str(tmp_path / name), *command[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.yaml"]


@pytest.mark.parametrize("command", ["run-pipeline", "benchmark"])
def test_a_folder_of_temporary_files_that_is_not_there_is_told_before_a_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    assert main([command, f"--runs={tmp_path}/runs", "--preset=smoke"]) == 2
    assert f"error: TMPDIR={tmp_path}/gone is no folder that can be written" in capsys.readouterr().err


def test_a_clip_to_make_again_may_be_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def remake_clip(_: Path, clip_id: str, target: Path) -> bool:
        asked.append(clip_id)
        target.write_bytes(b"")
        return True

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.commands.remake.remake_clip", remake_clip)
    for named in (
        "vanilla.s0.13f9.0.r0",
        "vanilla.s0.13f9.0.r0.flac",
        "runs/latest/synthetic/vanilla.s0.13f9.0.r0.flac",
    ):
        assert main(["remake", f"--clip={named}"]) == 0
    assert set(asked) == {"vanilla.s0.13f9.0.r0"} and [path.name for path in tmp_path.iterdir()] == [f"{asked[0]}.flac"]


def test_no_command_but_a_download_shows_the_bars_of_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "")
    for command, value in (("fetch-models", None), ("classify", "1")):
        monkeypatch.delenv("TQDM_DISABLE", raising=False)
        assert main([command, "--nothing"]) == 2
        assert os.environ.get("TQDM_DISABLE") == value


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert place("~/runs") == Path("/home/anna/runs") and place("a~b") == Path("a~b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * 20000, "20000 bytes"),
        ("é" * 9000, "18000 bytes"),
        ("a={{workflow.name}}", "'{{'"),
        ("{{$.pipeline_job_uuid}}", "'{{'"),
        ("[[RunUUID]]", r"'\[\[RunUUID'"),
        ("x=[[Index]]", r"'\[\[Index'"),
        ("[[CurrentTime.2006]]", r"'\[\[CurrentTime'"),
        ("[[ScheduledTime]]", r"'\[\[ScheduledTime'"),
    ],
)
def test_a_parameter_that_a_cluster_would_change_or_not_carry_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"OVERRIDES.*{told}"):
        check_parameter("OVERRIDES", text)


@pytest.mark.parametrize(
    "text", ["", "a=[[1,2],[3,4]]", "train_classifier.optim.steps=5 rounds=1", "{a: 1}", "[[Indexes]]"]
)
def test_a_parameter_of_another_kind_passes(text: str) -> None:
    check_parameter("OVERRIDES", text)
