"""Folders of class folders: every one gives clips or is named, and splits are told from classes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec, PrepareDatasetConfig
from common.datasets.listing import list_clips
from common.datasets.registry import fingerprint, resolve_dataset
from common.datasets.rows import Listing
from common.errors import ConfigError, DataError
from components.prepare_dataset.doctor import examine


def put(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(root: Path) -> Listing:
    return list_clips(DatasetSpec(name="own", audio=root))


def splits(listing: Listing) -> list[tuple[str, str, str | None]]:
    return sorted({(row.source.split("/")[0], row.label, row.split) for row in listing.rows}, key=str)


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *(("Train", "train"), ("training", "train"), ("valid", "val"), ("val", "val"), ("VALIDATION", "val")),
        *(("dev", "val"), ("Test", "test"), ("testing", "test"), ("eval", "test"), ("evaluation", "test")),
    ],
)
def test_every_word_for_a_split_is_known_as_a_folder_and_in_a_column(tmp_path: Path, word: str, split: str) -> None:
    put(tmp_path / "f", f"{word}/cat/1.wav", f"{word}/dog/1.wav")
    assert splits(listed(tmp_path / "f")) == [(word, "cat", split), (word, "dog", split)]
    (tmp_path / "labels.csv").write_text(f"path,label,split\na.wav,cat,{word}\nb.wav,dog,{word}\n")
    rows = list_clips(DatasetSpec(name="own", labels=tmp_path / "labels.csv")).rows
    assert [row.split for row in rows] == [split, split]


@pytest.mark.parametrize(
    "beside", ["docs/readme.txt", "README.md", "licences/a/b.pdf", "metadata/x.csv", "empty/.keep"]
)
def test_what_is_no_audio_may_lie_beside_the_splits(tmp_path: Path, beside: str) -> None:
    put(tmp_path, *(f"{split}/{label}/1.wav" for split in ("train", "valid", "test") for label in ("a", "b")), beside)
    listing = listed(tmp_path)
    assert {(row.split, row.label) for row in listing.rows} == {
        (split, label) for split in ("train", "val", "test") for label in ("a", "b")
    }
    assert listing.ignored_files == [beside]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/1.wav", "valid/2.wav", "test/3.wav"], "test/ is named as a split, but holds no class folders"),
        (
            ["train/a/1.wav", "train/b/1.wav", "test/3.wav"],
            r"test/ is named .* \(1 audio file\(s\), such as test/3.wav",
        ),
        (["train/a/1.wav", "train/b/1.wav", "test/x.m4a"], "test/ is named as a split, but holds no class folders"),
        (["train/a/1.wav", "train/b/1.wav", "valid/list.txt"], r"valid/ is named .*none of them audio"),
        (["bell/1.wav", "rain/1.wav", "test/1.wav"], "test/ would be a split, but bell/, rain/ beside it holds audio"),
        (["bus/1.wav", "car/1.wav", "Train/1.wav"], "Train/ would be a split, but bus/, car/"),
        (["train/a/1.wav", "test/a/1.wav", "extra/b/1.flac"], "train/, test/ would be a split|test/, train/ would be"),
        (["train/a/1.wav", "test/a/1.wav", "phone/1.m4a"], "phone/ beside it"),
        (["train/a/1.wav", "eval/a/1.wav", "test/b/1.wav"], "both eval and test are given"),
        (["dog/train/1.wav", "dog/test/2.wav", "cat/train/1.wav"], "cat/train/ is named as a split below a class"),
    ],
)
def test_splits_and_classes_are_not_mixed_up(tmp_path: Path, names: list[str], message: str) -> None:
    put(tmp_path, *names)
    with pytest.raises(DataError, match=message):
        listed(tmp_path)


def test_eval_beside_test_in_a_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path,label,split\na.wav,x,eval\nb.wav,y,test\n")
    with pytest.raises(DataError, match="both eval and test are given"):
        list_clips(DatasetSpec(name="own", labels=tmp_path / "l.csv"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dog/1.m4a", r"class folder dog gives no clip \(foreign_format: 1, dog/1.m4a: M4A cannot be read; convert"),
        ("dog/deep/1.webm", r"class folder dog gives no clip \(foreign_format"),
        ("dog/clip without suffix", r"1 file\(s\), none of them audio, such as dog/clip without suffix"),
        ("dog/.1.wav", r"none of them audio, such as dog/\.1\.wav"),
        (b"gr\xfcn/1.wav", r"class folder gr\\xfcn gives no clip \(bad_name: 1, .*convmv"),
        (b"dog/caf\xe9.wav", r"class folder dog gives no clip \(bad_name"),
        (
            "docs/readme.txt",
            r"none of them audio, such as docs/readme.txt\). Mend it, or, if it is no class, move it out",
        ),
    ],
)
def test_a_class_folder_without_a_clip_is_an_error_with_its_reason(
    tmp_path: Path, name: str | bytes, message: str
) -> None:
    put(tmp_path, "bell/1.wav", "rain/1.wav", name)
    with pytest.raises(DataError, match=message):
        listed(tmp_path)


def test_class_folders_that_are_empty_gone_twice_or_shut_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "bell/1.wav", "rain/1.wav")
    (tmp_path / "thunder" / ".git").mkdir(parents=True)
    (tmp_path / "wind").symlink_to("/media/card/wind")
    (tmp_path / "xylophone").symlink_to("bell")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "rain":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    # A user with all rights, as in containers, is never refused by the system.
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as refusal:
        listed(tmp_path)
    for told in (
        "class folder rain gives no clip (unreadable_folder: 1, rain: Permission denied",
        "class folder thunder gives no clip (it is empty)",
        "class folder wind gives no clip (broken_link: 1, wind: the link leads to /media/card/wind",
        "class folder xylophone gives no clip (same_folder: 1, xylophone: the same folder as bell",
    ):
        assert told in str(refusal.value)


def test_what_is_lost_counts_as_bad_clips(tmp_path: Path) -> None:
    put(tmp_path / "disk2", "1.wav", "deep/2.wav")
    put(tmp_path / "set", "bell/1.wav", "rain/1.wav", "bell/2.m4a", "loose.wav", "notes.txt", b"rain/caf\xe9.wav")
    (tmp_path / "set" / "bell" / "session2").symlink_to(tmp_path / "disk2")
    (tmp_path / "set" / "rain" / "annex.wav").symlink_to("../.git/annex/objects/x")
    listing = listed(tmp_path / "set")
    assert [row.source for row in listing.rows] == [
        *("bell/1.wav", "bell/session2/1.wav", "bell/session2/deep/2.wav", "rain/1.wav")
    ]
    assert {(drop.source, drop.reason) for drop in listing.dropped} == {
        ("bell/2.m4a", "foreign_format"),
        ("loose.wav", "no_label"),
        ("rain/annex.wav", "broken_link"),
        ("rain/caf\\xe9.wav", "bad_name"),
    }
    assert listing.ignored_files == ["notes.txt"]


def test_loose_audio_beside_splits_counts_as_bad_clips_too(tmp_path: Path) -> None:
    put(tmp_path, *(f"{split}/{label}/1.wav" for split in ("train", "test") for label in ("a", "b")))
    put(tmp_path, "loose.wav", "phone.m4a", "readme.txt", "train/loose.wav", b"caf\xe9.wav")
    (tmp_path / "annex.wav").symlink_to("gone")
    listing = listed(tmp_path)
    assert {(drop.source, drop.reason, drop.split) for drop in listing.dropped} == {
        ("annex.wav", "broken_link", None),
        ("caf\\xe9.wav", "bad_name", None),
        ("loose.wav", "no_label", None),
        ("phone.m4a", "foreign_format", None),
        ("train/loose.wav", "no_label", "train"),
    }
    assert len(listing.rows) == 4 and listing.ignored_files == ["readme.txt"]


LONG = "bells " * 60


@pytest.mark.parametrize(
    "text", [f"audio: {LONG}", f"labels: {LONG}.csv", f"labels: l.csv\naudio: {LONG}", f"reader: esc50\nroot: {LONG}"]
)
def test_a_place_that_cannot_be_looked_for_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "l.csv").write_text("path,label\na.wav,x\nb.wav,y\n")
    (tmp_path / "set.yaml").write_text(f"name: own\n{text}\n")
    with pytest.raises(DataError, match="File name too long"):
        list_clips(resolve_dataset(str(tmp_path / "set.yaml")))
    with pytest.raises(DataError, match=r"cannot look for .*File name too long"):
        resolve_dataset(LONG)


def test_a_folder_of_loose_files_says_what_is_expected(tmp_path: Path) -> None:
    put(tmp_path, "1.wav", "2.wav")
    with pytest.raises(DataError, match=r"no audio in sub-folders.*1\.wav: it lies beside the class folders"):
        listed(tmp_path)


def test_the_fingerprint_changes_when_what_is_left_out_changes(tmp_path: Path) -> None:
    put(tmp_path, "a/1.wav", "b/1.wav")
    spec = DatasetSpec(name="own", audio=tmp_path)
    clean = fingerprint(spec)
    (tmp_path / "a" / "2.wav").symlink_to("gone")
    broken = fingerprint(spec)
    (tmp_path / "a" / "2.wav").unlink()
    put(tmp_path, b"a/\xe9.wav")
    assert len({clean, broken, fingerprint(spec)}) == 3


def test_the_doctor_tells_what_cannot_be_listed_as_a_problem(tmp_path: Path) -> None:
    put(tmp_path, "bell/1.wav", "dog/1.m4a")
    found = examine(DatasetSpec(name="own", audio=tmp_path), PrepareDatasetConfig(), None)
    assert not found.ok
    assert found.to_text().splitlines()[0] == "own: no clip can be listed"
    assert "PROBLEM    audio folder" in found.to_text() and "class folder dog gives no clip" in found.problems[0]


def test_the_doctor_tells_names_without_control_characters(tmp_path: Path) -> None:
    put(tmp_path, "bell/1.wav", "dog/1.wav", "dog/2\n\x1b[31m.wav")
    text = examine(DatasetSpec(name="own", audio=tmp_path), PrepareDatasetConfig(), None).to_text()
    assert all(line.isprintable() for line in text.splitlines()) and "dog/2\\n\\x1b[31m.wav: " in text


@pytest.mark.parametrize("name", [b"gr\xfcn", b"\xff", b"a\xe9b c"])
def test_a_dataset_whose_own_name_is_no_unicode_is_refused(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, name + b"/a/1.wav", name + b"/b/1.wav")
    folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    with pytest.raises(ConfigError, match="no Unicode text") as refusal:
        resolve_dataset(folder)
    assert str(refusal.value).isascii()
    labels = Path(folder) / "set.yaml"
    labels.write_text("name: own\naudio: a\n")
    with pytest.raises(ConfigError, match="no Unicode text"):
        resolve_dataset(str(labels))
