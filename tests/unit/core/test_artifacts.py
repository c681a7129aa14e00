"""A stage's outputs carry their hashes, and the next stage starts with checking them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from common.errors import StorageError
from common.runtime.stage import stage
from common.storage import read_json
from common.storage.artifacts import verify_artifact, write_sums
from common.storage.hashing import hash_dir


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "weights").write_bytes(b"w" * 1000)
    (folder / "config.json").write_text("{}")
    write_sums(folder)
    return folder


def test_whole_artifacts_pass_and_sha256sum_agrees(artifact: Path) -> None:
    verify_artifact("align_t2a", "t2a", artifact)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=artifact, check=True)


def test_the_hashes_do_not_change_the_artifacts_own(artifact: Path) -> None:
    before = hash_dir(artifact)
    (artifact / "SHA256SUMS").unlink()
    assert hash_dir(artifact) == before


@pytest.mark.parametrize("damage", ["removed", "changed", "cut", "all gone", "empty", "sums damaged"])
def test_an_input_that_is_gone_or_damaged_is_named_in_one_line_with_the_command_that_recovers(
    artifact: Path, damage: str
) -> None:
    weights = artifact / "unet" / "weights"
    if damage == "removed":
        weights.unlink()
    elif damage == "changed":
        weights.write_bytes(b"w" * 999 + b"v")
    elif damage == "cut":
        weights.write_bytes(b"w" * 10)
    elif damage == "sums damaged":
        (artifact / "SHA256SUMS").write_bytes(b"\xff\n")
    else:
        shutil.rmtree(artifact)
        if damage == "empty":
            artifact.mkdir()
    with pytest.raises(StorageError, match=f"input t2a of stage align_t2a is gone.*rm -rf '{artifact}'") as caught:
        verify_artifact("align_t2a", "t2a", artifact)
    assert "\n" not in str(caught.value)
    assert damage not in ("removed", "changed", "cut") or str(weights) in str(caught.value)


def test_on_a_cluster_a_run_without_cached_results_recovers() -> None:
    with pytest.raises(StorageError, match="FRESH=1"):
        verify_artifact("align_t2a", "t2a", Path("/s3/bucket/v2/artifacts/t2a"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_a_figure_that_is_not_finite_is_text_and_fails_no_stage(tmp_path: Path, number: float) -> None:
    with stage("align_t2a", {}, str(tmp_path / "metrics.json"), {"out": str(tmp_path / "out")}) as running:
        (tmp_path / "out" / "x").write_text("x")
        running.record({"auc": number, "steps": 3, "loss": 0.5})
    told = json.dumps(running.figures, allow_nan=False)
    assert json.loads(told) == {"auc": str(number), "steps": 3, "loss": 0.5}
    assert read_json(tmp_path / "metrics.json") == json.loads(told)


def test_a_stage_does_not_begin_with_a_damaged_input_and_seals_what_it_made(artifact: Path, tmp_path: Path) -> None:
    outputs, metrics = {"out": str(tmp_path / "out")}, str(tmp_path / "metrics.json")
    with stage("align_t2a", {}, metrics, outputs, {"t2a": str(artifact), "previous": None}):
        (tmp_path / "out" / "x").write_text("x")
    verify_artifact("next", "out", tmp_path / "out")
    (artifact / "config.json").write_text("{ }")
    with (
        pytest.raises(StorageError, match="input t2a"),
        stage("align_t2a", {}, metrics, {"out": str(tmp_path / "never")}, {"t2a": str(artifact)}),
    ):
        raise AssertionError("it began")
    assert not (tmp_path / "never").exists()


def test_folders_without_a_file_which_no_upload_keeps_are_not_there_for_the_next_stage_either(tmp_path: Path) -> None:
    for name in ("kept", "kept/empty", "empty", "nested/deeper/empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "kept" / "empty-file").touch()
    write_sums(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["SHA256SUMS", "empty-file", "kept"]
    verify_artifact("reader", "made", tmp_path)


@pytest.mark.parametrize(("target", "kind"), [("folder", "a folder"), (".", "a folder"), ("gone", "nothing")])
def test_a_link_that_no_upload_follows_is_refused(target: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(StorageError, match=f"link is a link to {kind}, which cannot be stored"):
        write_sums(tmp_path)


def test_a_link_to_a_file_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    write_sums(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text().count(
        "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    ) == 2
