from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.corpus.shards import read_shard
from common.errors import DataError
from tests.kit.corpus import write_shard

SAMPLES = [("000", {"json": b"{}", "flac": b"aa"}), ("001", {"json": b"{}", "flac": b"bb"})]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    assert write_shard(tmp_path / "a.tar", iter(SAMPLES)) == 2
    assert list(read_shard(tmp_path / "a.tar")) == SAMPLES


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, iter(SAMPLES))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_the_webdataset_library_opens_a_shard(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    write_shard(tmp_path / "a.tar", iter(SAMPLES))
    found = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [(row["__key__"], row["flac"]) for row in found] == [("000", b"aa"), ("001", b"bb")]


def hostile() -> Iterator[tuple[str, tarfile.TarInfo]]:
    for name in ("../up.json", "/abs.json", "a/b.json", "x.exe", "000.flac.json", "x.py", "nosuffix", "..json/../x"):
        yield name, tarfile.TarInfo(name)
    for label, kind in (
        ("link", tarfile.SYMTYPE),
        ("hard", tarfile.LNKTYPE),
        ("fifo", tarfile.FIFOTYPE),
        ("device", tarfile.CHRTYPE),
    ):
        info = tarfile.TarInfo("000.json")
        info.type, info.linkname = kind, "/etc/passwd"
        yield label, info


@pytest.mark.parametrize(("name", "info"), list(hostile()), ids=lambda value: value if isinstance(value, str) else "")
def test_a_hostile_member_is_refused(tmp_path: Path, name: str, info: tarfile.TarInfo) -> None:
    with tarfile.open(tmp_path / "h.tar", "w") as archive:
        archive.addfile(info, io.BytesIO(b""))
    with pytest.raises(DataError, match=r"shard .*h\.tar is damaged or no shard"):
        list(read_shard(tmp_path / "h.tar"))


def test_a_shard_cut_in_the_middle_is_named(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", iter([("000", {"flac": bytes(4000), "json": b"{}"})]))
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:2000])
    with pytest.raises(DataError, match=r"cut\.tar is damaged"):
        list(read_shard(tmp_path / "cut.tar"))
