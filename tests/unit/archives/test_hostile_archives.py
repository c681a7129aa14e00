"""No archive from outside writes anything outside, makes a link, or passes with something wrong in it."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from common.archives import ArchiveLimits, read_members
from common.errors import DataError
from tests.unit.archives.hostile import ALL, AUDIO, END, LIMITS, SUFFIXES, Hostile, extract, header, member, pax, zip_of

IDS = [archive.name for archive in ALL]


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file below `folder`: kind and mode, size, time; links are not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            status = os.lstat(os.path.join(root, name))
            found[os.path.join(root, name)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def test_there_are_at_least_thirty_hostile_archives_of_different_names() -> None:
    assert len(ALL) >= 30 and len(set(IDS)) == len(ALL)


@pytest.mark.parametrize("archive", ALL, ids=IDS)
def test_a_hostile_archive_is_refused_and_leaves_nothing(tmp_path: Path, archive: Hostile) -> None:
    (tmp_path / "victim.flac").write_bytes(b"untouched")
    path = tmp_path / "outside-archive"
    path.write_bytes(archive.data)
    (tmp_path / "run").mkdir()
    before = tree(tmp_path / "run")
    outside = {name: status for name, status in tree(tmp_path).items() if not name.endswith("run")}
    tracemalloc.start()
    with pytest.raises(DataError, match="outside-archive") as refusal:
        extract(path, tmp_path / "run" / "unpacked", SUFFIXES, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert archive.refusal in str(refusal.value)
    assert tree(tmp_path / "run") == before
    assert {name: status for name, status in tree(tmp_path).items() if not name.endswith("run")} == outside
    assert peak < LIMITS.total_bytes
    with pytest.raises(DataError):
        for _, file in read_members(path, SUFFIXES, LIMITS):
            file.read()


@pytest.mark.parametrize("archive", [one for one in ALL if not one.name.startswith("zip")], ids=lambda one: one.name)
def test_a_hostile_tar_is_refused_as_a_stream_that_nobody_reads(archive: Hostile) -> None:
    class Pipe:
        def __init__(self) -> None:
            self.data = memoryview(archive.data)

        def read(self, size: int) -> bytes:
            size = min(size, 777)
            data, self.data = self.data[:size], self.data[size:]
            return bytes(data)

    with pytest.raises(DataError, match="archive stream"):
        for _ in read_members(Pipe(), SUFFIXES, LIMITS):  # type: ignore[arg-type]
            pass


def test_reading_stops_within_the_cap_whatever_size_is_claimed(tmp_path: Path) -> None:
    path = tmp_path / "large.tar"
    with path.open("wb") as file:
        for number in range(4):
            file.write(header(b"%d.flac" % number, 2**30))
            file.seek(2**30, os.SEEK_CUR)
        file.write(END)
    limits = ArchiveLimits(member_bytes=2**31, total_bytes=2**20)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 1048576 bytes"):
        next(read_members(path, SUFFIXES, limits))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_the_directory_of_a_zip_with_more_members_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(zip_of(*((f"{number}.flac", b"") for number in range(66_000))))
    tracemalloc.start()
    with pytest.raises(DataError, match="more than 65535 members"):
        next(read_members(path, SUFFIXES, ArchiveLimits(members=65_535)))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert sum(1 for _ in read_members(path, SUFFIXES, ArchiveLimits(members=66_000))) == 66_000


@pytest.mark.parametrize("kind", ["folder", "missing", "pipe"])
def test_only_a_regular_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive.tar"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DataError, match="no regular file"):
        next(read_members(path, SUFFIXES))


def test_a_thousand_damaged_archives_give_their_files_or_a_data_error() -> None:
    rng = random.Random(0)
    tar = b"".join(member(b"%d.flac" % number, AUDIO * number) for number in range(4)) + END
    honest = [tar, pax((b"path", b"a.json")) + tar, gzip.compress(tar), bz2.compress(tar)]
    honest += [zip_of(("a.flac", AUDIO), ("b/c.json", b"{}"), method=method) for method in (0, 8)]
    refused = 0
    for _ in range(1000):
        data = bytearray(rng.choice(honest))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 8, 600))] = rng.choice((b"", b"\0", b"\xff" * 8, rng.randbytes(5)))
        try:
            names = [name for name, file in read_members(io.BytesIO(bytes(data)), SUFFIXES, LIMITS) if file.read(9)]
            assert all(name.endswith(SUFFIXES) and ".." not in name for name in names)
        except DataError:
            refused += 1
    assert refused > 800
