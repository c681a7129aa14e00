"""Reading of caption files: bounded memory, broken files, and rows that are skipped with their reason."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.errors import DataError
from components.prepare_corpus.captions import read_captions
from tests.unit.corpus.native_captions import FORMATS, NATIVE, no_bad, read_all, write


def synthetic(format: str, rows: int) -> Iterator[str]:
    ids = (f"{number:011d}" for number in range(rows))
    if format == "wavcaps":
        yield '{"num_captions_per_audio": 1, "data": ['
        yield ",".join(f'{{"id": "Y{one}.wav", "caption": "wind number {one}", "duration": 10.0}}' for one in ids)
        yield "]}"
        return
    head, row = {
        "plain": ("file,caption,label", "{}.wav,wind {},wind"),
        "audio_folder": ("file_name,caption", "{}.wav,wind {}"),
        "sound_vecaps": ("id,caption", 'Y{},"wind, {}"'),
        "audiocaps": ("audiocap_id,youtube_id,start_time,caption", "1,{},30,wind {}"),
        "auto_acd": ("youtube_id,caption", "{},wind {}"),
        "ontology": ("# YTID, start_seconds, end_seconds, positive_labels", '{}, 0.0, 10.0, "/m/rain,/m/dog" '),
    }[format]
    yield head + "\n"
    for one in ids:
        yield row.format(one, one).rstrip() + "\n"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("many", [10_000, pytest.param(50_000, marks=pytest.mark.e2e)])
def test_memory_is_flat_from_one_thousand_rows_to_many(tmp_path: Path, format: str, many: int) -> None:
    peaks = []
    for rows in (1_000, many):
        path = write(tmp_path, format)
        with path.open("w") as file:
            file.writelines(synthetic(format, rows))
        tracemalloc.start()
        assert sum(1 for _ in read_captions(path, format, no_bad)) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 2**18


BAD_CAPTIONS = {
    "empty": "",
    "blank": " \t ",
    "empty (nan)": "nan",
    "empty (None)": "None",
    "empty (formula)": "#N/A",
    "empty (sign)": " - ",
    "multi_line": "a dog\na cat",
    "multi_line (CR)": "a dog\ra cat",
    "multi_line (Unicode)": "a dog\u2028a cat",
    "control_characters": "a \x07 bell",
    "control_characters (NUL)": "a \0 bell",
    "control_characters (direction)": "a \u202ebell",
    "too_long": "a" * 501,
    "too_long (10 MB)": "a bell " * 1_500_000,
    "not_utf8": "a \udcff bell",
}


def encoded(format: str, captions: list[str]) -> str:
    """A native file with these captions, and the id of each made from its number."""
    ids = [f"{number:011d}" for number in range(len(captions))]
    if format == "wavcaps":
        return json.dumps(
            {"data": [{"id": one, "caption": caption} for one, caption in zip(ids, captions, strict=True)]}
        )
    if format == "plain (lines)":
        return "".join(
            json.dumps({"file": f"{one}.wav", "caption": caption}) + "\n"
            for one, caption in zip(ids, captions, strict=True)
        )
    head, row = {
        "plain": ("file,caption", '{}.wav,"{}"'),
        "sound_vecaps": ("id,caption", '{},"{}"'),
        "audiocaps": ("audiocap_id,youtube_id,start_time,caption", '1,{},30,"{}"'),
        "auto_acd": ("youtube_id,caption", '{},"{}"'),
    }[format]
    return "\n".join([head, *(row.format(one, caption) for one, caption in zip(ids, captions, strict=True))]) + "\n"


@pytest.mark.parametrize("format", ["plain", "plain (lines)", "sound_vecaps", "audiocaps", "auto_acd", "wavcaps"])
@pytest.mark.parametrize("reason", BAD_CAPTIONS)
def test_a_bad_caption_is_skipped_with_its_place_and_reason_and_the_others_are_read(
    tmp_path: Path, format: str, reason: str
) -> None:
    text = encoded(format, ["a dog", BAD_CAPTIONS[reason], "a cat"])
    path = write(tmp_path, format.split()[0], text)
    if format == "plain (lines)":
        path = path.rename(tmp_path / "captions.jsonl")
    rows, bad = read_all(path, format.split()[0])
    assert [row.caption for row in rows] == ["a dog", "a cat"]
    assert len(bad) == 1 and str(path) in bad[0]
    assert (reason.split()[0] if reason != "blank" else "empty") in bad[0]
    assert "item 2" in bad[0] if format == "wavcaps" else "line" in bad[0]


@pytest.mark.parametrize("format", ["plain", "sound_vecaps", "wavcaps"])
def test_a_caption_of_ten_megabytes_is_never_held(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, encoded(format, ["a dog", BAD_CAPTIONS["too_long (10 MB)"], "a cat"]))
    tracemalloc.start()
    rows, bad = read_all(path, format)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(rows), len(bad)) == (2, 1) and peak < 3 * 2**20


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,caption\n00000000001,a dog\n00000000002,"a cat\n00000000003,a cow\n', 3),
        ('id,caption\n00000000001,"a dog"x\n', 2),
        ('id,caption\n00000000001,"a dog\n' + "00000000002,a cat\n" * 9000, 2),
        ('id,caption\n00000000001,"a dog\n' + "x" * 200_000 + '"\n', 2),
    ],
    ids=["not closed", "text after it", "not closed in a large file", "not closed before a long line"],
)
def test_broken_quoting_is_an_error_with_the_line_where_it_starts(tmp_path: Path, text: str, line: int) -> None:
    path = write(tmp_path, "sound_vecaps", text)
    with pytest.raises(
        DataError, match=f"cannot read captions from .*, *line {line}: broken quoting|line {line}: broken"
    ):
        read_all(path, "sound_vecaps")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n" * 99, b"hello", b"\xff\xfe" + "file,caption\n".encode("utf-16-le")]
)
def test_a_file_of_something_else_is_a_data_error(tmp_path: Path, format: str, content: bytes) -> None:
    path = write(tmp_path, format)
    path.write_bytes(content)
    with pytest.raises(DataError, match=path.name):
        read_all(path, format)


@pytest.mark.parametrize("format", FORMATS)
def test_an_absent_file_and_one_without_rows_are_data_errors(tmp_path: Path, format: str) -> None:
    path = write(tmp_path, format, "[]" if format == "wavcaps" else NATIVE[format][1].splitlines()[0] + "\n")
    with pytest.raises(DataError, match="holds no captions"):
        read_all(path, format)
    path.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_all(path, format)


@pytest.mark.parametrize(
    ("format", "row", "reason"),
    [
        ("plain", ",a dog", "file: "),
        ("plain", "a\0.wav,a dog", "control_characters: "),
        ("plain", "a" * 2000 + ".wav,a dog", "file: "),
        ("plain", "a.wav,a dog, barking", "columns: 3 cells for 2"),
        ("plain", "a.wav", "columns: 1 cells"),
        ("sound_vecaps", "#NAME?,a dog", "id: "),
        ("sound_vecaps", "short,a dog", "id: "),
        ("audiocaps", "1,00000000001,later,a dog", "start_time: "),
        ("audiocaps", "1,00000000001,-3,a dog", "start_time: "),
        ("audiocaps", "1,00000000001,nan,a dog", "start_time: "),
        ("auto_acd", "http://x/../../etc,a dog", "id: "),
        ("ontology", "#NAME?, 0, 10, /m/dog", "id: "),
        ("ontology", "00000000001, 0, 10, /m/dog,/m/bark", "columns: "),
        ("ontology", "00000000001, x, 10, /m/dog", "start_time: "),
        ("ontology", "00000000001, 0, 10, /m/none", "no_label: "),
        ("ontology", '00000000001, 0, 10, "/m/sounds,/m/dub"', "no_label: "),
    ],
)
def test_a_row_that_names_no_clip_is_skipped_with_its_reason(
    tmp_path: Path, format: str, row: str, reason: str
) -> None:
    head = {
        "plain": "file,caption",
        "sound_vecaps": "id,caption",
        "audiocaps": "audiocap_id,youtube_id,start_time,caption",
        "auto_acd": "youtube_id,caption",
        "ontology": "# YTID, start_seconds, end_seconds, positive_labels",
    }[format]
    rows, bad = read_all(write(tmp_path, format, f"{head}\n{row}\n"), format)
    assert not rows and len(bad) == 1 and reason in bad[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": 5}', "no list, alone or under `data`"),
        ('{"items": [{"id": "1", "caption": "a"}]}', "no list, alone or under `data`"),
        ('{"data": [{"id": "1", "caption": "a"}', "item 1: the file is cut"),
        ('{"data": [{"id": "1", "caption": "a"},', "item 2: the file is cut"),
        ('{"data": [{"id": "1", "caption": "a"},]}', "item 2: Expecting value"),
        ('{"data": [{"id": "1", "caption": "a', "item 1: the file is cut"),
        ('{"data": [{"id": "1" "caption": "a dog that goes on"}]}', "item 1: Expecting ',' delimiter"),
        ('{"data": [{"id": "1", "caption": "' + "a" * 400_000, "item 1: the file is cut"),
        ("[" * 100_000, "nested too deeply|item 1"),
        ('{"data": ' + "[" * 100_000, "nested too deeply|item 1"),
        ('{"data": [' + "[" * 100_000 + "]" * 100_000 + "]}", "item 1: nested too deeply"),
    ],
)
def test_broken_json_is_an_error_with_its_item(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_all(write(tmp_path, "wavcaps", text), "wavcaps")


def test_json_is_read_the_same_however_the_chunks_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = ['a "quoted" \\ bell', "naïve \U0001f514 bell", "{[]}", "a\\", "-1e5, null", "x" * 490]
    path = write(
        tmp_path,
        "wavcaps",
        json.dumps(
            {
                "info": {"n": [1, 2]},
                "rate": -12.5e3,
                "data": [{"id": str(n), "caption": c} for n, c in enumerate(captions)],
            }
        ),
    )
    whole = read_all(path, "wavcaps")
    assert [row.caption for row in whole[0]] == captions
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr("components.prepare_corpus.formats.wavcaps._CHUNK", size)
        assert read_all(path, "wavcaps") == whole
    skipped: Callable[[int], None] = lambda size: monkeypatch.setattr(  # noqa: E731
        "components.prepare_corpus.formats.wavcaps.MAX_ITEM_CHARACTERS", size
    )
    skipped(200)
    rows, bad = read_all(path, "wavcaps")
    assert [row.caption for row in rows] == captions[:-1] and len(bad) == 1 and "item 6: too_long" in bad[0]
