"""The join of captions and audio on disk."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from common.audio.walk import Found
from common.errors import DataError
from components.prepare_corpus.captions import CaptionRow, OnBad
from components.prepare_corpus.index import CaptionIndex, build_index, check_clips, listing_digest

ROOT = "/audio"


def make(
    folder: Path,
    rows: Iterable[CaptionRow],
    files: Iterable[str | Found] | None,
    excluded: Iterable[str] = (),
    bad: Iterable[tuple[str, str]] = (),
    seed: int = 1,
    name: str = "index",
) -> CaptionIndex:
    def read(on_bad: OnBad) -> Iterator[CaptionRow]:
        for where, reason in bad:
            on_bad(where, reason)
        yield from rows

    path = folder / f"{name}.sqlite"
    names = None if files is None else (lambda: (Found(file) if isinstance(file, str) else file for file in files))
    out = frozenset(excluded)
    build_index(path, read, lambda clip: clip.partition(".")[0] in out, seed, root=ROOT, files=names)
    return CaptionIndex(path)


def by_id(count: int) -> list[CaptionRow]:
    return [CaptionRow(f"{index:011d}", None, f"sound {index}", None) for index in range(count)]


def audio(count: int) -> list[str]:
    return [f"{index % 7}/Y{index:011d}.wav" for index in range(count)]


def test_captions_meet_audio_by_id_whatever_the_folder_and_spelling(tmp_path: Path) -> None:
    index = make(tmp_path, by_id(50), audio(50))
    rows = index.between(0, 50)
    assert sorted((row.file, row.caption) for row in rows) == sorted(
        (file, f"sound {number}") for number, file in enumerate(audio(50))
    )
    assert [row.clip for row in rows] == list(range(50))


def test_the_order_is_shuffled_depends_on_the_seed_and_not_on_the_order_of_files(tmp_path: Path) -> None:
    first = make(tmp_path, by_id(200), audio(200), name="a").between(0, 200)
    again = make(tmp_path, by_id(200)[::-1], audio(200)[::-1], name="b").between(0, 200)
    other = make(tmp_path, by_id(200), audio(200), seed=2, name="c").between(0, 200)
    assert first == again
    assert [row.caption for row in first] != [row.caption for row in other]
    assert [row.caption for row in first] != [row.caption for row in by_id(200)]


def test_ranges_of_clips_are_disjoint_and_keep_the_captions_of_a_clip_together(tmp_path: Path) -> None:
    rows = [row._replace(caption=f"{row.caption} {again}") for row in by_id(20) for again in range(3)]
    index = make(tmp_path, rows, audio(20))
    assert (index.clips(), index.rows()) == (20, 60)
    parts = [index.between(first, first + 6) for first in range(0, 20, 6)]
    assert [len(part) for part in parts] == [18, 18, 18, 6]
    assert [row for part in parts for row in part] == index.between(0, 20)
    assert sorted(row.caption for row in index.captions()) == sorted(row.caption for row in rows)


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    rows = [
        *by_id(5),
        by_id(1)[0],
        CaptionRow("x", "../../etc/passwd", "a", None),
        CaptionRow("x", "/etc/x", "a", None),
    ]
    index = make(tmp_path, rows, audio(4), excluded=["00000000002"], bad=[("line 3", "empty: no caption")])
    survey = index.survey()
    assert (survey.captions, survey.excluded) == (9, 1)
    assert survey.dropped.counts == {"empty": 1, "outside": 2, "duplicate": 1, "absent_audio": 1}
    assert "line 3: empty: no caption" in survey.dropped.examples
    assert any("no audio for '00000000004'" in text and ROOT in text for text in survey.dropped.examples)
    assert {row.caption for row in index.between(0, 9)} == {"sound 0", "sound 1", "sound 3"}


def test_captions_that_name_files_are_joined_by_the_whole_path(tmp_path: Path) -> None:
    rows = [CaptionRow("a", f"{folder}/a.wav", folder, None) for folder in ("x", "y", "./z")]
    index = make(
        tmp_path, [*rows, CaptionRow("a", f"{ROOT}/w/a.wav", "w", None)], ["x/a.wav", "y/a.wav", "z/a.wav", "w/a.wav"]
    )
    assert sorted((row.file, row.caption) for row in index.between(0, 4)) == [
        ("w/a.wav", "w"),
        ("x/a.wav", "x"),
        ("y/a.wav", "y"),
        ("z/a.wav", "./z"),
    ]


def test_lost_files_give_their_reason_to_the_captions_that_need_them(tmp_path: Path) -> None:
    lost = [
        Found("0/Y00000000001.m4a", "foreign_format", "M4A cannot be read"),
        Found("0/Y00000000002.wav", "broken_link", "leads to nowhere"),
        Found("0/Y00000000003.m4a", "foreign_format", "beside a file that can be read"),
        Found("0/nobody asks.m4a", "foreign_format", "no caption"),
        Found("shut", "unreadable_folder", "Permission denied"),
        Found("v1.0/card", "broken_link", "leads to nowhere"),
    ]
    dropped = make(tmp_path, by_id(5), ["1/Y00000000000.wav", "1/Y00000000003.wav", *lost]).survey().dropped
    assert dropped.counts == {"foreign_format": 1, "broken_link": 2, "unreadable_folder": 1, "absent_audio": 1}
    assert "0/Y00000000001.m4a: M4A cannot be read" in dropped.examples
    assert "shut: Permission denied" in dropped.examples


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("f\u00eate.wav", "fe\u0302te.wav"),
        ("f\u00eate/a.wav", "fe\u0302te/a.wav"),
        ("clips\\a.wav", "clips/a.wav"),
        ("a.wav", "a.WAV"),
        ("x/a.FLAC", "x/a.flac"),
        (".\\x\\a.Wav", "x/a.wav"),
    ],
)
def test_captions_meet_files_whose_names_are_written_otherwise(tmp_path: Path, listed: str, there: str) -> None:
    index = make(tmp_path, [CaptionRow("a", listed, "a sound", None)], [there])
    assert [(row.file, row.caption) for row in index.between(0, 1)] == [(there, "a sound")]


def test_members_of_tars_find_their_captions(tmp_path: Path) -> None:
    index = make(tmp_path, [*by_id(10), CaptionRow("n", "some/bell.flac", "a bell", "bell")], None)
    with index.lookup(seed=1) as captions_of:
        assert [row.caption for row in captions_of("00/Y00000000003_30000.flac")] == ["sound 3"]
        assert [row.label for row in captions_of("other/bell.flac")] == ["bell"]
        assert captions_of("other/bell.wav") == [] and captions_of("00000000099.wav") == []


def test_members_of_one_name_in_several_folders_keep_their_own_captions(tmp_path: Path) -> None:
    rows = [CaptionRow("1", f"{label}/1.wav", label, label) for label in ("cat", "dog")]
    index = make(tmp_path, rows, None)
    with index.lookup(seed=1) as captions_of:
        for name, labels in (("cat/1.wav", ["cat"]), ("train/dog/1.WAV", ["dog"]), ("1.wav", []), ("bird/1.wav", [])):
            assert [row.label for row in captions_of(name)] == labels


def test_an_index_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[CaptionRow]:
        yield from by_id(100)
        raise DataError("the file ends in a quote")

    with pytest.raises(DataError, match="quote"):
        make(tmp_path, broken(), audio(100))
    assert list(tmp_path.iterdir()) == []


def test_an_index_without_clips_tells_what_was_left_out(tmp_path: Path) -> None:
    index = make(tmp_path, by_id(3), [])
    with pytest.raises(DataError, match=r"captions\.csv: none of 3 captions can be used \{'absent_audio': 3"):
        check_clips(index, "captions.csv")


def test_memory_does_not_grow_with_the_number_of_captions(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        rows = (CaptionRow(f"{index:011d}", None, f"sound {index}", None) for index in range(count))
        make(tmp_path, rows, (f"Y{index:011d}.wav" for index in range(count)), name=str(count))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(8_000) < 1.1 * peak(1_000) + 2**16


def test_the_digest_of_a_listing_is_of_its_names_in_any_order() -> None:
    a, b = Found("a"), Found("b")
    assert listing_digest([a, b]) == listing_digest([b, a]) != listing_digest([a, a])
    assert listing_digest([Found("ab")]) != listing_digest([a, b])
    assert listing_digest([a]) != listing_digest([a._replace(reason="broken_link")])
