"""What a walk takes, and the reasons of what it does not take."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from common.audio.walk import Found, walk, walk_audio


def put(root: Path, *names: str | bytes) -> None:
    for name in names:
        path = Path(os.fsdecode(os.path.join(os.fsencode(root), os.fsencode(name))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def reasons(root: Path) -> dict[str, str]:
    return {found.source: found.reason for found in walk_audio(root)}


def detail(root: Path, source: str) -> str:
    return next(found.detail for found in walk_audio(root) if found.source == source)


def test_audio_comes_in_the_order_of_sorted_paths(tmp_path: Path) -> None:
    put(tmp_path, "b/2.wav", "b.wav", "b-c/1.FLAC", "a/z/9.mp3", "a/10.ogg", "B/0.aiff", "é/1.wav", "a b/1.wav")
    expected = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    assert list(walk_audio(tmp_path)) == [Found(name) for name in expected]


def test_without_an_order_the_same_is_found_and_no_list_of_files_is_held(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{number:04d}.wav" for number in range(3000)), "b/1.wav", "b/c/.git/x", "b/e/n.txt", "1.m4a")
    (tmp_path / "b" / "link").symlink_to(tmp_path / "b")
    assert sorted(walk_audio(tmp_path, ordered=False)) == sorted(walk_audio(tmp_path))
    peaks = []
    for ordered in (True, False):
        tracemalloc.start()
        assert sum(1 for _ in walk_audio(tmp_path, ordered)) == 3005
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] / 10


def test_hidden_parts_and_what_systems_leave_behind_are_left_out_at_every_level(tmp_path: Path) -> None:
    put(tmp_path, "a/1.wav", ".git/1.wav", "a/.cache/1.wav", "a/b/.ipynb_checkpoints/x/1.wav", "__MACOSX/a/1.wav")
    put(tmp_path, "a/@eaDir/1.wav", "lost+found/1.wav", "a/.2.wav", "a/._1.wav", "a/.DS_Store", "a/Thumbs.db")
    assert reasons(tmp_path) == {
        "a/.2.wav": "hidden",
        "a/._1.wav": "other",
        "a/.DS_Store": "other",
        "a/1.wav": "",
        "a/Thumbs.db": "other",
        "a/b": "empty_folder",
    }


@pytest.mark.parametrize("suffix", ["m4a", "AAC", "wma", "webm", "mp4", "amr", "3gp", "mov", "ape", "wv", "m4b"])
def test_sound_in_other_formats_is_named_with_a_way_to_convert_it(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"a/1.{suffix}", "a/notes.txt", "a/no suffix")
    assert reasons(tmp_path) == {f"a/1.{suffix}": "foreign_format", "a/no suffix": "other", "a/notes.txt": "other"}
    assert f"ffmpeg -i clip.{suffix.lower()}" in detail(tmp_path, f"a/1.{suffix}")


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    put(tmp_path, "disk2/more/1.wav", "disk2/one.wav", "root/a/0.wav", "root/b/1.wav")
    for link, target in (
        ("a/session2", tmp_path / "disk2" / "more"),
        ("a/one.wav", tmp_path / "disk2" / "one.wav"),
        ("a/top", tmp_path / "root"),
        ("b/here", "."),
        ("c", "b"),
    ):
        (tmp_path / "root" / link).symlink_to(target)
    assert reasons(tmp_path / "root") == {
        "a/0.wav": "",
        "a/one.wav": "",
        "a/session2/1.wav": "",
        "a/top": "same_folder",
        "b/1.wav": "",
        "b/here": "same_folder",
        "c": "same_folder",
    }
    assert "same folder as b," in detail(tmp_path / "root", "c")


def test_broken_links_are_named_with_their_target_and_remedy(tmp_path: Path) -> None:
    targets = {
        "annex.wav": "../.git/annex/objects/x",
        "gone.WAV": "gone",
        "self.flac": "self.flac",
        "gone.m4a": "none",
        "session": "/media/card/session",
        "README.md": "none",
    }
    for name, target in targets.items():
        (tmp_path / name).symlink_to(target)
    found = reasons(tmp_path)
    assert found.pop("README.md") == "other"
    assert found == dict.fromkeys(sorted(targets.keys() - {"README.md"}), "broken_link")
    assert "git annex get" in detail(tmp_path, "annex.wav")
    assert "leads to /media/card/session: No such file" in detail(tmp_path, "session")


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    os.mkfifo(tmp_path / "control")
    (tmp_path / "null.wav").symlink_to("/dev/null")
    assert reasons(tmp_path) == {"control": "other", "null.wav": "no_file", "pipe.wav": "no_file"}


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.wav", "b/deep/2.wav")
    scandir = os.scandir

    # A user with all rights, as in containers, is never refused by the system.
    def refuse(path: Path) -> object:
        if Path(path).name in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    refused = {"deep"}
    assert reasons(tmp_path) == {"a/1.wav": "", "b/deep": "unreadable_folder"}
    assert detail(tmp_path, "b/deep").startswith("Permission denied; allow")
    refused = {tmp_path.name}
    assert reasons(tmp_path) == {".": "unreadable_folder"}


def test_empty_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c" / ".git").mkdir(parents=True)
    assert reasons(tmp_path) == {"a/b": "empty_folder", "c": "empty_folder"}
    assert reasons(tmp_path / "c") == {".": "empty_folder"}


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    assert reasons(tmp_path / "none") == {".": "unreadable_folder"}


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"gr\xfcn/1.wav", b"\x83h.flac", b"a\xff/b\xfe/1.mp3", b"\xe9.m4a"])
def test_names_that_are_no_unicode_are_told_in_ascii(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, name, b"\xe9.txt")
    found = {source: reason for source, reason in reasons(tmp_path).items() if reason != "other"}
    assert found == {name.decode("utf-8", "backslashreplace"): "bad_name"}
    assert next(iter(found)).isascii()


def test_every_regular_file_counts_where_audio_is_not_asked_for(tmp_path: Path) -> None:
    put(tmp_path, "a.tar", "b/c.tar.gz", ".d.tar")
    assert [found.source for found in walk(tmp_path) if not found.reason] == ["a.tar", "b/c.tar.gz"]
