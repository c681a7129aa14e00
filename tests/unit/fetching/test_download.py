"""A file comes whole and right from a server that misbehaves, or not at all."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.config.dataset import Archive
from common.errors import DataError, StorageError
from pipelines.local import download as module
from pipelines.local.download import Patience
from tests.unit.fetching.server import Server

DATA = random.Random(0).randbytes(50_000)
NOTHING = Archive(url="http://nowhere/")
EXPECTED = NOTHING.model_copy(
    update={"bytes": len(DATA), "md5": hashlib.md5(DATA).hexdigest(), "sha256": hashlib.sha256(DATA).hexdigest()}
)
PATH = "/files/clips.zip"


def download(url: str, target: Path, expected: Archive, patience: Patience) -> str:
    return module.download(expected.model_copy(update={"url": url}), target, patience)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("fault", ["cut", "reset", "stall", "500", "503", "429"])
def test_after_a_fault_the_rest_is_asked_for_and_the_bytes_are_the_same(
    server: Server, patience: Patience, tmp_path: Path, fault: str
) -> None:
    target = tmp_path / "clips.zip"
    assert download(server.add(PATH, DATA, fault, fault), target, EXPECTED, patience) == EXPECTED.sha256
    assert target.read_bytes() == DATA and names(tmp_path) == ["clips.zip"]
    offsets = [asked for _, asked in server.asked]
    came = [None, "bytes=1000-", "bytes=2000-"] if not fault.isdecimal() else [None, None, None]
    assert offsets == came


def test_a_server_that_always_cuts_is_followed_as_long_as_bytes_come(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    url = server.add(PATH, DATA, *["cut"] * 49)
    download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert (tmp_path / "clips.zip").read_bytes() == DATA and len(server.asked) == 50


def test_a_server_that_never_gives_a_byte_is_left_after_so_many_tries_and_a_later_call_goes_on(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    url = server.add(PATH, DATA, "cut", *["500"] * 20)
    with pytest.raises(StorageError, match=r"500 .*1000 bytes are kept in .*it goes on from there"):
        download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert len(server.asked) == 1 + patience.tries and names(tmp_path) == ["clips.zip.part", "clips.zip.part.json"]
    server.pages[PATH].faults.clear()
    download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert server.asked[-1] == (PATH, "bytes=1000-") and (tmp_path / "clips.zip").read_bytes() == DATA


def test_no_server_at_all_is_a_storage_error(patience: Patience, server: Server, tmp_path: Path) -> None:
    url = server.url(PATH)
    server.server_close()
    with pytest.raises(StorageError, match="Check the network and run the same command again"):
        download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert names(tmp_path) == []


def test_a_server_without_ranges_is_read_from_the_start(server: Server, patience: Patience, tmp_path: Path) -> None:
    url = server.add(PATH, DATA, "cut", ranges=False)
    download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert (tmp_path / "clips.zip").read_bytes() == DATA and len(server.asked) == 2


def test_a_server_without_ranges_that_always_cuts_at_one_place_is_left(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    with pytest.raises(StorageError, match="3 tries without a new byte"):
        download(server.add(PATH, DATA, *["cut"] * 20, ranges=False), tmp_path / "clips.zip", EXPECTED, patience)
    assert len(server.asked) == 4


def test_a_range_that_was_not_asked_for_is_thrown_away(server: Server, patience: Patience, tmp_path: Path) -> None:
    download(server.add(PATH, DATA, "cut", "shifted"), tmp_path / "clips.zip", EXPECTED, patience)
    assert (tmp_path / "clips.zip").read_bytes() == DATA
    assert [asked for _, asked in server.asked] == [None, "bytes=1000-", None]


def test_a_file_that_changed_meanwhile_is_begun_anew(server: Server, patience: Patience, tmp_path: Path) -> None:
    old = server.add(PATH, bytes(len(DATA)), "cut", *["500"] * 3)
    with pytest.raises(StorageError):
        download(old, tmp_path / "clips.zip", EXPECTED, patience)
    server.add(PATH, DATA, tag='"two"')
    download(old, tmp_path / "clips.zip", EXPECTED, patience)
    assert (tmp_path / "clips.zip").read_bytes() == DATA and server.asked[-1] == (PATH, "bytes=1000-")


def test_two_versions_joined_unnoticed_are_fetched_once_more(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    url = server.add(PATH, bytes(len(DATA)), "cut", *["500"] * 3, tag="")
    with pytest.raises(StorageError):
        download(url, tmp_path / "clips.zip", EXPECTED, patience)
    server.add(PATH, DATA, tag="")
    download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert (tmp_path / "clips.zip").read_bytes() == DATA
    assert [asked for _, asked in server.asked[-2:]] == ["bytes=1000-", None]


def test_a_part_of_another_address_is_not_used(server: Server, patience: Patience, tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        download(server.add("/old", bytes(99), "cut", *["500"] * 9, after_cut=9), tmp_path / "c", NOTHING, patience)
    download(server.add(PATH, DATA), tmp_path / "c", EXPECTED, patience)
    assert server.asked[-1] == (PATH, None) and (tmp_path / "c").read_bytes() == DATA


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (DATA[:-1] + b"x", "its sha256 is .*, expected"),
        (DATA[:-9], "has 49991 bytes; expected 50000"),
        (DATA + b"more", "has 50004 bytes; expected 50000"),
        (b"<html>Sign in</html>", "has 20 bytes; expected 50000"),
    ],
    ids=["content", "shorter", "longer", "page"],
)
def test_a_wrong_file_is_refused_and_not_kept(
    server: Server, patience: Patience, tmp_path: Path, wrong: bytes, found: str
) -> None:
    with pytest.raises(DataError, match=found):
        download(server.add(PATH, wrong), tmp_path / "clips.zip", EXPECTED, patience)
    assert names(tmp_path) == [] and len(server.asked) == 1


@pytest.mark.parametrize("length", [True, False])
def test_md5_alone_tells_a_wrong_file(server: Server, patience: Patience, tmp_path: Path, length: bool) -> None:
    url = server.add(PATH, DATA[::-1], length=length)
    with pytest.raises(DataError, match=f"its md5 is .*, expected {EXPECTED.md5}"):
        download(url, tmp_path / "clips.zip", NOTHING.model_copy(update={"md5": EXPECTED.md5}), patience)
    assert names(tmp_path) == []


def test_more_bytes_than_expected_are_cut_off_where_no_length_is_told(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    url = server.add(PATH, DATA * 100, length=False)
    with pytest.raises(DataError, match="sends more than the 50000 bytes expected"):
        download(url, tmp_path / "clips.zip", EXPECTED, patience)
    assert names(tmp_path) == []


@pytest.mark.parametrize(("status", "message"), [("404", "may have moved"), ("410", "moved"), ("403", "login")])
def test_a_file_that_is_not_given_is_not_asked_for_again(
    server: Server, patience: Patience, tmp_path: Path, status: str, message: str
) -> None:
    with pytest.raises(DataError, match=f"answers {status}.*{message}"):
        download(server.add(PATH, DATA, status), tmp_path / "clips.zip", EXPECTED, patience)
    assert len(server.asked) == 1 and names(tmp_path) == []


def test_a_file_that_is_there_is_not_asked_for(server: Server, patience: Patience, tmp_path: Path) -> None:
    (tmp_path / "clips.zip").write_bytes(DATA)
    assert download(server.url(PATH), tmp_path / "clips.zip", EXPECTED, patience) == EXPECTED.sha256
    assert not server.asked


def test_a_file_cut_after_its_last_byte_is_complete_without_known_size(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    url = server.add(PATH, DATA)
    (tmp_path / "c.part").write_bytes(DATA)
    (tmp_path / "c.part.json").write_text(f'{{"url": "{url}", "validator": ""}}')
    download(url, tmp_path / "c", NOTHING.model_copy(update={"sha256": EXPECTED.sha256}), patience)
    assert server.asked == [(PATH, "bytes=50000-")] and (tmp_path / "c").read_bytes() == DATA


def test_a_full_disk_is_told_before_anything_is_written(
    server: Server, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=40_000))
    with pytest.raises(StorageError, match="40000 bytes free; 50000 more are needed for clips"):
        download(server.add(PATH, DATA), tmp_path / "clips.zip", EXPECTED, patience)
    assert names(tmp_path) == []
