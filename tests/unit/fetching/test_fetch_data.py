"""`make fetch-data`: a dataset appears whole, verified and in its layout, or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from common.config.dataset import Archive, DatasetSpec
from common.errors import ConfigError, DataError, StorageError
from common.storage import read_json
from pipelines.commands import fetch_data, main
from pipelines.commands.fetch_data import RECORD, fetch
from pipelines.local.download import Patience
from tests.unit.fetching.server import Server

PATH = "/archive/master.zip"
CLIPS = [(f"{fold}-10{target}-A-{target}.wav", fold, target) for fold in range(1, 6) for target in (0, 1)]


def wav(seed: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, 0.1 * np.random.default_rng(seed).standard_normal(800), 8000, format="WAV")
    return buffer.getvalue()


def esc50_files() -> dict[str, bytes]:
    """The layout of ESC-50's archive, with what else a repository holds."""
    table = "filename,fold,target,category,esc10,src_file,take\n" + "".join(
        f"{name},{fold},{target},{('dog', 'rain')[target]},True,10{target},A\n" for name, fold, target in CLIPS
    )
    files = {f"ESC-50-master/audio/{name}": wav(index) for index, (name, _, _) in enumerate(CLIPS)}
    return {
        **files,
        "ESC-50-master/meta/esc50.csv": table.encode(),
        "ESC-50-master/.gitignore": b"*.pyc",
        "ESC-50-master/.github/workflows/test.yml": b"on: push",
        "ESC-50-master/esc50.gif": b"GIF89a",
        "ESC-50-master/LICENSE": b"CC BY-NC",
        "__MACOSX/ESC-50-master/audio/._1-100-A-0.wav": b"\0\5\26\7",
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def spec_of(root: Path, *archives: Archive, **fields: Any) -> DatasetSpec:
    values = {"name": "mini", "reader": "esc50", "root": root / "mini", "archives": archives, "test_folds": (2,)}
    return DatasetSpec.model_validate({**values, "access": "download", "licence": "CC BY-NC 3.0", **fields})


def archive_of(server: Server, data: bytes, path: str = PATH, *faults: str, **fields: Any) -> Archive:
    known = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return Archive.model_validate({"url": server.add(path, data, *faults), **known, **fields})


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_dataset_is_fetched_once_and_holds_its_clips_and_tables_only(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, archive_of(server, zipped(esc50_files()), PATH, "cut", "stall", "500"))
    found = fetch(spec, patience)
    assert (found.clips, found.new, visible(tmp_path)) == (10, True, ["mini"]) and not list(tmp_path.glob(".*"))
    names = {path.name for path in (tmp_path / "mini").rglob("*") if path.is_file()}
    assert names == {name for name, _, _ in CLIPS} | {"esc50.csv", RECORD}
    assert read_json(tmp_path / "mini" / RECORD)["files"][0]["sha256"] == spec.archives[0].sha256
    asked = len(server.asked)
    assert fetch(spec, patience) == fetch_data.Fetched(found.root, 10, new=False) and len(server.asked) == asked


def test_several_archives_make_one_folder_and_a_file_stays_as_it_is(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    files = esc50_files()
    table = files.pop("ESC-50-master/meta/esc50.csv")
    first = {name: data for name, data in files.items() if "/1-" in name}
    second = {name: data for name, data in files.items() if "/1-" not in name}
    spec = spec_of(
        tmp_path,
        archive_of(server, zipped(first), "/a.zip"),
        archive_of(server, zipped(second), "/b.zip"),
        archive_of(server, table, "/esc50.csv", unpack=False, folder="ESC-50-master/meta"),
    )
    assert fetch(spec, patience).clips == 10
    twice = spec_of(tmp_path / "twice", spec.archives[0], *spec.archives)
    with pytest.raises(DataError, match="is in another archive of this dataset as well"):
        fetch(twice, patience)
    assert visible(tmp_path / "twice") == []


def link(name: str, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        archive.addfile(info)
    return buffer.getvalue()


def damaged() -> bytes:
    """A zip with a byte of one clip changed, so that its directory is whole and the clip's checksum is wrong."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in esc50_files().items():
            archive.writestr(name, data)
    data = bytearray(buffer.getvalue())
    data[data.index(b"RIFF") + 60] ^= 255
    return bytes(data)


WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "no archive": (lambda: b"<html>Sign in to download</html>" * 30, "it is no tar or zip"),
    "cut": (lambda: zipped(esc50_files())[:-40], "it is cut"),
    "member damaged": (damaged, "is damaged or cut"),
    "leaves the folder": (lambda: zipped({**esc50_files(), "../../evil.wav": b"x"}), "leaves its folder"),
    "leaves, other suffix": (lambda: zipped({**esc50_files(), "../../.bashrc": b"x"}), "leaves its folder"),
    "absolute": (lambda: zipped({**esc50_files(), "/etc/evil.sh": b"x"}), "the name is absolute"),
    "link": (lambda: link("ESC-50-master/audio", "/etc"), "a symbolic link"),
    "another layout": (lambda: zipped({"clips/a.wav": wav(0)}), "is not dataset mini"),
    "nothing of use": (lambda: zipped({"setup.exe": b"MZ"}), "is not dataset mini"),
}


@pytest.mark.parametrize(("make", "message"), WRONG.values(), ids=WRONG.keys())
@pytest.mark.parametrize("verified", [True, False])
def test_what_is_not_the_dataset_is_not_published(
    server: Server, patience: Patience, tmp_path: Path, make: Callable[[], bytes], message: str, verified: bool
) -> None:
    archive = archive_of(server, make())
    spec = spec_of(tmp_path / "data", archive if verified else Archive(url=archive.url))
    with pytest.raises(DataError, match=rf"{message}(.|\n)*[Nn]othing was published"):
        fetch(spec, patience)
    assert visible(tmp_path) == ["data"] and visible(tmp_path / "data") == []
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("evil*"))


def test_an_unverified_archive_that_was_damaged_is_fetched_anew(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, Archive(url=server.add(PATH, zipped(esc50_files())[:-40])))
    with pytest.raises(DataError, match="it is cut"):
        fetch(spec, patience)
    server.add(PATH, zipped(esc50_files()))
    assert fetch(spec, patience).clips == 10


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_wrong_checksum_unpacks_nothing(server: Server, patience: Patience, tmp_path: Path, kind: str) -> None:
    data = zipped(esc50_files())
    wrong = {"md5": "0" * 32, "sha256": "0" * 64}[kind]
    spec = spec_of(tmp_path, Archive.model_validate({"url": server.add(PATH, data), kind: wrong}))
    with pytest.raises(DataError, match=f"its {kind} is [0-9a-f]*, expected {wrong}; nothing was kept"):
        fetch(spec, patience)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"]


def test_a_failed_archive_keeps_the_ones_before_it_for_the_next_call(
    server: Server, patience: Patience, tmp_path: Path
) -> None:
    files = esc50_files()
    table = files.pop("ESC-50-master/meta/esc50.csv")
    clips = archive_of(server, zipped(files), "/clips.zip")
    spec = spec_of(tmp_path, clips, archive_of(server, zipped({"meta/esc50.csv": table}), "/meta.zip", *["500"] * 9))
    with pytest.raises(StorageError, match="answers 500"):
        fetch(spec, patience)
    assert visible(tmp_path) == []
    server.pages["/meta.zip"].faults.clear()
    server.pages["/meta.zip"].data = zipped({"ESC-50-master/meta/esc50.csv": table})
    spec = spec_of(tmp_path, clips, archive_of(server, server.pages["/meta.zip"].data, "/meta.zip"))
    assert fetch(spec, patience).clips == 10
    assert [path for path, _ in server.asked].count("/clips.zip") == 1


def test_a_folder_of_something_else_is_left_alone(server: Server, patience: Patience, tmp_path: Path) -> None:
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"move .*mini away first"):
        fetch(spec_of(tmp_path, archive_of(server, zipped(esc50_files()))), patience)
    assert not server.asked and (tmp_path / "mini" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("access", ["form", "manual"])
def test_what_may_not_be_downloaded_says_where_to_get_it_and_where_to_put_it(
    tmp_path: Path, access: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mini.yaml"
    file.write_text(
        f"name: mini\nreader: esc50\nroot: data/mini\ntest_folds: [2]\naccess: {access}\n"
        "instructions: fill in the form at https://example.org/form\nlicence: research only\n"
    )
    assert main(["fetch-data", "--dataset", str(file)]) == 2
    told = capsys.readouterr().err
    assert "fill in the form at https://example.org/form" in told and str(tmp_path / "data" / "mini") in told
    assert "research only" in told and not (tmp_path / "data").exists()
    put = tmp_path / "data" / "mini"
    for name, data in esc50_files().items():
        (put / name).parent.mkdir(parents=True, exist_ok=True)
        (put / name).write_bytes(data)
    assert main(["fetch-data", "--dataset", str(file)]) == 0
    assert f"mini is there already: {put} (10 clips" in capsys.readouterr().out


def test_the_doctor_recognises_a_dataset_that_was_put_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mini.yaml"
    file.write_text(
        "name: mini\nreader: esc50\nroot: there\ntest_folds: [5]\nuse: non-commercial\nlicence: CC BY-NC 3.0\n"
        "access: form\ninstructions: fill in the form at https://example.org/form\n"
    )

    def doctor(*options: str) -> tuple[int, str]:
        status = main(["doctor", "--dataset", str(file), "--preset", "smoke", *options])
        told = capsys.readouterr()
        return status, told.out + told.err

    status, told = doctor()
    assert status == 1 and "form at https://example.org/form" in told and str(tmp_path / "there") in told
    assert "verdict    not ready" in told and "Traceback" not in told
    for name, data in esc50_files().items():
        (tmp_path / "there" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "there" / name).write_bytes(data)
    status, told = doctor()
    assert status == 0 and "usable 10" in told and f"place      {tmp_path / 'there'}" in told
    status, told = doctor("--overrides", "use=commercial")
    assert status == 1 and "PROBLEM    the run is declared for commercial use" in told and "not ready" in told


def test_the_command_tells_an_error_in_one_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mini.yaml"
    file.write_text(
        "name: mini\nreader: esc50\nroot: mini\ntest_folds: [2]\naccess: download\n"
        f"archives:\n  - url: {server.url('/gone.zip')}\n"
    )
    assert main(["fetch-data", "--dataset", str(file)]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1 and "the server answers 404" in error[0]
    assert main(["fetch-data", "--dataset", "demo"]) == 2 and "nothing to download" in capsys.readouterr().err


def test_a_second_process_waits_its_turn(server: Server, patience: Patience, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, archive_of(server, zipped(esc50_files())))
    with (
        fetch_data.locked(tmp_path / ".mini.downloads" / "lock", ""),
        pytest.raises(StorageError, match="another process"),
    ):
        fetch(spec, patience)
    assert fetch(spec, patience).new


def test_too_little_room_is_told_before_the_first_byte(
    server: Server, patience: Patience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(url=server.add(PATH, b"x"), bytes=2**60)
    with pytest.raises(StorageError, match="GiB free; dataset mini needs at least"):
        fetch(spec_of(tmp_path, archive), patience)
    assert not server.asked


def test_an_address_without_a_file_name_is_refused(patience: Patience, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no usable file"):
        fetch(spec_of(tmp_path, Archive(url="http://127.0.0.1:1/..%2F..%2Fevil.zip")), patience)
