"""A stage's outputs carry their hashes, and the next stage starts with checking them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

from common.errors import StorageError
from common.runtime.stage import stage
from common.storage import read_json
from common.storage.artifacts import (
    PACK,
    artifact_hash,
    file_hash,
    forget_verified,
    pack,
    unpack,
    verify_artifact,
    write_sums,
)
from tests.kit.hashing import hash_dir


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


def test_a_verified_input_is_not_read_again_while_the_stage_runs(artifact: Path, tmp_path: Path) -> None:
    expected, copy = artifact_hash(artifact), Path(shutil.copytree(artifact, tmp_path / "copy"))
    (copy / "SHA256SUMS").unlink()
    assert artifact_hash(copy) == expected
    with stage("align_t2a", {}, str(tmp_path / "m"), {"out": str(copy)}, {"t2a": str(artifact)}):
        (artifact / "unet" / "weights").write_bytes(b"v")
        assert artifact_hash(artifact) == expected
        assert artifact_hash(artifact / "unet") == artifact_hash(copy / "unet")
        assert file_hash(artifact / "unet" / "weights") == file_hash(copy / "unet" / "weights")
    assert artifact_hash(artifact) != expected


def test_a_changed_file_is_hashed_anew_whatever_an_old_list_says(artifact: Path) -> None:
    verify_artifact("align_t2a", "t2a", artifact)
    forget_verified()
    before = artifact_hash(artifact)
    (artifact / "config.json").write_text("[]")
    assert artifact_hash(artifact) != before


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


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """An artifact with three clips."""
    folder = tmp_path / "gold"
    (folder / "clips").mkdir(parents=True)
    for name in ("b.flac", "a.flac", "Überflug 2.flac"):
        (folder / "clips" / name).write_bytes(name.encode() * 300)
    (folder / "clips" / "metadata.jsonl").write_text("{}\n")
    (folder / "labels.json").write_text("[]")
    return folder


def test_clips_travel_as_one_shard_and_are_an_audio_folder_inside_the_stages(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PACK, "1")
    before = hash_dir(clips)
    with stage("prepare_dataset", {}, str(tmp_path / "metrics.json"), {"gold": str(clips)}):
        pass
    assert sorted(path.name for path in clips.iterdir()) == ["SHA256SUMS", "clips.tar", "labels.json"]
    with tarfile.open(clips / "clips.tar") as shard:
        names = [member.name for member in shard]
    assert names == ["clips/metadata.jsonl", "clips/a.flac", "clips/b.flac", "clips/Überflug 2.flac"]
    for _ in range(2):
        with stage("finetune_clap", {}, str(tmp_path / "m"), {"out": str(clips)}, {"gold": str(clips)}):
            assert hash_dir(clips) == before and not (clips / "clips.tar").exists()
            monkeypatch.delenv(PACK, raising=False)


def test_the_same_clips_give_the_same_shard_and_tar_unpacks_it(clips: Path, tmp_path: Path) -> None:
    shutil.copytree(clips, tmp_path / "later")
    (tmp_path / "later" / "clips" / "a.flac").touch()
    before = hash_dir(clips)
    for folder in (clips, tmp_path / "later"):
        pack(folder)
    assert (clips / "clips.tar").read_bytes() == (tmp_path / "later" / "clips.tar").read_bytes()
    subprocess.run(["tar", "-xf", "clips.tar"], cwd=clips, check=True)
    (clips / "clips.tar").unlink()
    assert hash_dir(clips) == before


def test_an_artifact_without_clips_stays_as_it_is(artifact: Path) -> None:
    before = hash_dir(artifact)
    pack(artifact)
    unpack(artifact)
    assert hash_dir(artifact) == before


def test_an_unpacking_that_was_cut_is_done_again(clips: Path) -> None:
    before = hash_dir(clips)
    write_sums(clips)
    pack(clips)
    shard = (clips / "clips.tar").read_bytes()
    unpack(clips)
    (clips / "clips.tar").write_bytes(shard)
    verify_artifact("finetune_clap", "gold", clips)
    assert hash_dir(clips) == before


@pytest.mark.parametrize("kept", [0, 700, 1500, -10240])
def test_a_cut_shard_is_told_and_never_read_as_fewer_clips(clips: Path, kept: int) -> None:
    write_sums(clips)
    pack(clips)
    shard = clips / "clips.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(StorageError, match="damaged"):
        verify_artifact("finetune_clap", "gold", clips)


@pytest.mark.parametrize("name", ["../evil", "clips/../evil", "/etc/evil", "clips/a/b", "clips", "other/a"])
def test_a_shard_with_other_members_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "gold"
    folder.mkdir()
    with tarfile.open(folder / "clips.tar", "w") as shard:
        shard.addfile(tarfile.TarInfo(name))
    with pytest.raises(StorageError, match="unexpected member"):
        unpack(folder)
    assert [path.name for path in folder.iterdir()] == ["clips.tar"]


def test_links_in_a_shard_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gold"
    folder.mkdir()
    with tarfile.open(folder / "clips.tar", "w") as shard:
        link = tarfile.TarInfo("clips/a.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        shard.addfile(link)
    with pytest.raises(StorageError, match="unexpected member"):
        unpack(folder)
