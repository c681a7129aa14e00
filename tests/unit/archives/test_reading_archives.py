"""What the hardened reader gives of honest archives: the same as the standard library."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from common.archives import ArchiveLimits, read_members
from common.corpus.shards import read_shard
from common.errors import DataError
from tests.kit.corpus import write_shard
from tests.unit.archives.hostile import FORMATS, SUFFIXES, extract, header, member, pax

FILES = {
    "-5QrBL6MzLg_60.000_70.000.flac": b"x" * 1000,
    "a/b/c.json": b"{}",
    "empty.flac": b"",
    "exact.flac": b"y" * 512,
    "naïve – clip.FLAC": b"z" * 70_000,
    "train-" + "long-" * 12 + "/" + "long-" * 15 + "name.flac": b"w",
}


def tar_of(files: dict[str, bytes], format: int = tarfile.PAX_FORMAT, prefix: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        root = tarfile.TarInfo(prefix or "train")
        root.type = tarfile.DIRTYPE
        archive.addfile(root)
        for name, data in files.items():
            info = tarfile.TarInfo(prefix + name)
            info.size, info.mtime, info.uname = len(data), 1.5, "ünser"  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress], ids=["", "gz", "bz2"])
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_tar_of_any_format_gives_the_files_that_the_standard_library_wrote(
    format: int, compress: Callable[[bytes], bytes], prefix: str
) -> None:
    data = compress(tar_of(FILES, format, prefix))
    found = {name: file.read() for name, file in read_members(io.BytesIO(data), SUFFIXES)}
    assert found == FILES and list(found) == list(FILES)


def test_a_zip_gives_the_files_that_the_standard_library_wrote(tmp_path: Path) -> None:
    path = tmp_path / "clips.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("train")
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert {name: file.read() for name, file in read_members(path, SUFFIXES)} == FILES


def test_a_zip_is_refused_as_a_stream_that_cannot_seek() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.flac", b"x")
    with pytest.raises(DataError, match="copy it to a file"):
        next(read_members(Pipe(buffer.getvalue()), SUFFIXES))


@pytest.mark.parametrize("read", [lambda file: file.read(3), lambda file: file.read(0), lambda file: file.readline()])
def test_a_member_that_was_read_in_part_does_not_move_the_next_one(read: Callable[[io.BytesIO], bytes]) -> None:
    names = []
    for name, file in read_members(io.BytesIO(tar_of(FILES)), SUFFIXES):
        read(file)  # type: ignore[arg-type]
        names.append(name)
    assert names == list(FILES)


def test_the_padding_after_the_end_mark_and_comments_for_all_members_are_no_harm() -> None:
    data = pax((b"comment", b"made by git"), kind=b"g") + member(b"a.flac", b"abc") + bytes(10240)
    assert [(name, file.read()) for name, file in read_members(io.BytesIO(data), SUFFIXES)] == [("a.flac", b"abc")]


def test_a_pax_size_counts_above_the_size_in_the_header() -> None:
    content = b"s" * 600
    data = pax((b"size", b"600")) + header(b"a.flac", 0) + content.ljust(1024, b"\0") + bytes(1024)
    assert [file.read() for _, file in read_members(io.BytesIO(data), SUFFIXES)] == [content]


def test_a_shard_of_the_corpus_reads_the_same_through_it(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    write_shard(path, ((f"{key:09d}", {"flac": b"a" * key, "json": b"{}"}) for key in range(50)))
    samples = {(key, suffix): data for key, parts in read_shard(path) for suffix, data in parts.items()}
    found = {tuple(name.split(".", 1)): file.read() for name, file in read_members(path, SUFFIXES)}
    assert found == samples


def test_memory_does_not_grow_with_the_number_or_the_size_of_members(tmp_path: Path) -> None:
    peaks = []
    for members, size in ((200, 2**10), (2000, 2**10), (20, 2**20)):
        path = tmp_path / f"{members}.tar"
        path.write_bytes(tar_of({f"clip-{n}.flac": bytes(size) for n in range(members)}))
        tracemalloc.start()
        for _, file in read_members(path, SUFFIXES):
            while file.read(4096):
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    names = 2000 * 200
    assert peaks[1] < peaks[0] + names and peaks[2] < peaks[0] + 2**20


def test_unpacking_gives_all_files_without_links_or_modes(tmp_path: Path) -> None:
    (tmp_path / "clips.tar.gz").write_bytes(gzip.compress(tar_of(FILES)))
    extract(tmp_path / "clips.tar.gz", tmp_path / "out", SUFFIXES)
    found = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert {name: path.read_bytes() for name, path in found.items()} == FILES
    assert all(path.stat().st_mode & 0o7111 == 0 for path in found.values())


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (ArchiveLimits(members=6), "more than 6 members"),
        (ArchiveLimits(member_bytes=69_999), "at most 69999"),
        (ArchiveLimits(total_bytes=71_000), "more than 71000 bytes"),
        (ArchiveLimits(path_bytes=100), "at most 100"),
        (ArchiveLimits(depth=2), "at most 2"),
    ],
)
def test_each_cap_refuses_what_is_one_above_it(limits: ArchiveLimits, refusal: str) -> None:
    with pytest.raises(DataError, match=refusal):
        for _ in read_members(io.BytesIO(tar_of(FILES)), SUFFIXES, limits):
            pass


OTHERS = {
    "LICENSE": b"text",
    ".DS_Store": b"\0" * 600,
    ".git/config": b"x",
    "__MACOSX/._a.flac": b"x",
    "a/._b.flac": b"x",
    "Icon\r": b"",
}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_hidden_files_and_other_suffixes_are_passed_over_on_request_only(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"clips.{kind}"
    if kind == "tar":
        path.write_bytes(tar_of({**OTHERS, **FILES}))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**OTHERS, **FILES}.items():
                archive.writestr(name, data)
            archive.mkdir(".git/objects")
    assert {name: file.read() for name, file in read_members(path, SUFFIXES, skip_others=True)} == FILES
    extract(path, tmp_path / "out", SUFFIXES, skip_others=True)
    unpacked = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert unpacked == FILES.keys()
    with pytest.raises(DataError, match="nothing of it was kept"):
        list(read_members(path, SUFFIXES))


@pytest.mark.parametrize(
    "name",
    ["../x.flac", "../x.sh", "a/../../.x", "/etc/x.sh", "a\\..\\..\\x.sh", "．．/x.sh", "a/./b.flac", "nul.flac"],
)
def test_names_that_leave_the_folder_are_refused_also_where_others_are_passed_over(name: str) -> None:
    data = tar_of({"a.flac": b"x", name: b"x"})
    with pytest.raises(DataError, match="nothing of it was kept"):
        list(read_members(io.BytesIO(data), SUFFIXES, skip_others=True))
