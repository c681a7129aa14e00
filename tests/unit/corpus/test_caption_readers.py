"""Readers of caption files, each on a small file in its native format."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from common.config.corpus import PrepareCorpusConfig
from common.errors import DataError
from components.prepare_corpus import formats as package
from components.prepare_corpus.captions import CaptionRow, clip_key, detect_format, formats, read_captions, youtube_id

FORMATS = tuple(formats())

NATIVE: dict[str, tuple[str, str, list[CaptionRow]]] = {
    "plain": (
        "captions.csv",
        'file,caption,label\nbells/a.wav,"A Bell,  rung",bell\nY2ceUOv8A3FE.flac,Rain.,\n',
        [
            CaptionRow("a", "bells/a.wav", "a bell, rung", "bell"),
            CaptionRow("Y2ceUOv8A3FE", "Y2ceUOv8A3FE.flac", "rain.", None),
        ],
    ),
    "sound_vecaps": (
        "Sound-VECaps_audio.csv",
        'id,caption\nY--PJHxphWEs,"Water gushes, and a man speaks."\nYYUDGBjjwyaq,"He says ""hello""."\n',
        [
            CaptionRow("--PJHxphWEs", None, "water gushes, and a man speaks.", None),
            CaptionRow("YUDGBjjwyaq", None, 'he says "hello".', None),
        ],
    ),
    "audiocaps": (
        "train.csv",
        "audiocap_id,youtube_id,start_time,caption\r\n"
        "91139,r1nicOVtvkQ,130,A woman talks nearby as water pours\r\n"
        '11542,3eJ9RynJzP8,80,"The wind is blowing, insects are singing, and rustling occurs"\r\n',
        [
            CaptionRow("r1nicOVtvkQ_130000", None, "a woman talks nearby as water pours", None),
            CaptionRow(
                "3eJ9RynJzP8_80000", None, "the wind is blowing, insects are singing, and rustling occurs", None
            ),
        ],
    ),
    "wavcaps": (
        "as_final.json",
        json.dumps(
            {
                "num_captions_per_audio": 1,
                "data": [
                    {"id": "Yb0RFKhbpFJA.wav", "caption": "Wind blows.", "audio": "/mnt/b.wav", "duration": 10.0},
                    {"id": "2219", "caption": "An airplane\tis landing.", "audio": "wav_path", "duration": 14.1},
                    {"id": "Y7fmOlUlwoNg.wav", "caption_1": "Rattling", "caption_2": "Vibrations", "duration": 10},
                ],
            }
        ),
        [
            CaptionRow("b0RFKhbpFJA", None, "wind blows.", None),
            CaptionRow("2219", None, "an airplane is landing.", None),
            CaptionRow("7fmOlUlwoNg", None, "rattling", None),
            CaptionRow("7fmOlUlwoNg", None, "vibrations", None),
        ],
    ),
    "auto_acd": (
        "train.csv",
        'youtube_id,caption\n-0DLPzsiXXE,"Music plays, in a hall."\nY-0DdlOuIFUI,Water runs.\n',
        [
            CaptionRow("-0DLPzsiXXE", None, "music plays, in a hall.", None),
            CaptionRow("-0DdlOuIFUI", None, "water runs.", None),
        ],
    ),
    "ontology": (
        "balanced_train_segments.csv",
        "# Segments csv created Sun Mar  5 10:54:25 2017\n# num_ytids=2, num_segs=2\n"
        "# YTID, start_seconds, end_seconds, positive_labels\n"
        '--PJHxphWEs, 30.000, 40.000, "/m/dog,/m/bark"\n-0FHUc78Gqo, 0.000, 10.000, "/m/rain"\n',
        [],
    ),
}

ONTOLOGY = [
    {"id": "/m/animal", "name": "Animal", "child_ids": ["/m/dog"], "restrictions": []},
    {"id": "/m/dog", "name": "Dog", "child_ids": ["/m/bark"], "restrictions": []},
    {"id": "/m/bark", "name": "Bark", "child_ids": [], "restrictions": []},
    {"id": "/m/sounds", "name": "Natural sounds", "child_ids": ["/m/rain"], "restrictions": ["abstract"]},
    {"id": "/m/rain", "name": "Rain", "child_ids": [], "restrictions": []},
    {"id": "/m/dub", "name": "Dub", "child_ids": [], "restrictions": ["blacklist"]},
]


def write(folder: Path, format: str, text: str | None = None) -> Path:
    name, native, _ = NATIVE[format]
    (folder / "ontology.json").write_text(json.dumps(ONTOLOGY))
    rows = "".join(f'{n},{node["id"]},"{node["name"]}"\n' for n, node in enumerate(ONTOLOGY))
    (folder / "class_labels_indices.csv").write_text("index,mid,display_name\n" + rows)
    path = folder / name
    path.write_bytes((native if text is None else text).encode("utf-8", "surrogatepass"))
    return path


def no_bad(where: str, reason: str) -> None:
    pytest.fail(f"{where}: {reason}")


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "ontology"])
def test_each_native_file_gives_its_rows(tmp_path: Path, format: str) -> None:
    assert list(read_captions(write(tmp_path, format), format, no_bad)) == NATIVE[format][2]


@pytest.mark.parametrize("format", FORMATS)
def test_the_format_of_each_native_file_is_found(tmp_path: Path, format: str) -> None:
    assert detect_format(write(tmp_path, format)) == format


def test_other_spellings_of_the_formats_are_found_and_read(tmp_path: Path) -> None:
    lines = tmp_path / "captions.jsonl"
    lines.write_text(
        '{"file": "x/a.wav", "caption": "A bell", "label": "bell"}\n\n{"file": "b.wav", "caption": "Rain"}\n'
    )
    acd = write(tmp_path, "auto_acd", "# YouTube ID, caption\n-0DLPzsiXXE,Music\n")
    wavcaps = tmp_path / "audioset_eval.csv"
    wavcaps.write_text("file_name,description,caption\ns9d-2nhuJCQ_30000,\"['Music', 'Crowd']\",Music is played\n")
    bare = tmp_path / "sb_final.json"
    bare.write_text('\ufeff [ {"id": "2219", "caption": "Landing"} ] ')
    found = {
        path.name: (detect_format(path), list(read_captions(path, detect_format(path), no_bad)))
        for path in (lines, acd, wavcaps, bare)
    }
    assert found == {
        "captions.jsonl": (
            "plain",
            [CaptionRow("a", "x/a.wav", "a bell", "bell"), CaptionRow("b", "b.wav", "rain", None)],
        ),
        "train.csv": ("auto_acd", [CaptionRow("-0DLPzsiXXE", None, "music", None)]),
        "audioset_eval.csv": ("wavcaps", [CaptionRow("s9d-2nhuJCQ_30000", None, "music is played", None)]),
        "sb_final.json": ("wavcaps", [CaptionRow("2219", None, "landing", None)]),
    }


def test_a_format_is_one_module(tmp_path: Path) -> None:
    module, path = tmp_path / "toy_format.py", tmp_path / "x.csv"
    module.write_text(
        "from components.prepare_corpus.captions.records import CaptionRow, clean_caption\n"
        "from components.prepare_corpus.captions.tables import table_format\n"
        "def rows(cells):\n"
        "    return [CaptionRow(cells['clip'], None, clean_caption(cells['said']), None)]\n"
        "FORMAT = table_format(('clip', 'said'), 'clip and said', rows)\n"
    )
    path.write_text("clip,said\na,Rain\n")
    package.__path__.append(str(tmp_path))
    try:
        assert PrepareCorpusConfig(captions_format="toy_format").captions_format == detect_format(path) == "toy_format"
        assert list(read_captions(path, "toy_format", no_bad)) == [CaptionRow("a", None, "rain", None)]
    finally:
        package.__path__.remove(str(tmp_path))
        sys.modules.pop(f"{package.__name__}.toy_format", None)


def test_an_unknown_format_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="Input should be 'auto', 'audiocaps', 'auto_acd'"):
        PrepareCorpusConfig(captions_format="clotho")
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="fits none of the formats"):
        detect_format(path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("--PJHxphWEs", "--PJHxphWEs"),
        ("Y--PJHxphWEs.wav", "--PJHxphWEs"),
        ("audio/train/Y--PJHxphWEs.FLAC", "--PJHxphWEs"),
        ("--PJHxphWEs_30000", "--PJHxphWEs"),
        ("-JMT0mK0Dbg_30.000_40.000.wav", "-JMT0mK0Dbg"),
        ("Y-JMT0mK0Dbg_30.000_40.000", "-JMT0mK0Dbg"),
        ("YUDGBjjwyaq", "YUDGBjjwyaq"),
        ("YYUDGBjjwyaq", "YUDGBjjwyaq"),
        ("Yabcdefghi__30000", "Yabcdefghi_"),
        ("Yabcdefghi_9_30", "abcdefghi_9"),
        ("2219", None),
        ("my recording.wav", None),
        ("--PJHxphWEs_left", None),
    ],
)
def test_the_youtube_id_is_found_in_every_spelling_of_a_clip(name: str, found: str | None) -> None:
    assert youtube_id(name) == found


def test_captions_and_audio_meet_by_one_key() -> None:
    assert (
        len({clip_key(name) for name in ("-JMT0mK0Dbg_30000", "Y-JMT0mK0Dbg.wav", "a/-JMT0mK0Dbg_30.000_40.000.wav")})
        == 1
    )
    assert clip_key("bells/big.bell.wav") == clip_key("big.bell.flac") == "big.bell"


def synthetic(format: str, rows: int) -> Iterator[str]:
    ids = (f"{number:011d}" for number in range(rows))
    if format == "wavcaps":
        yield '{"num_captions_per_audio": 1, "data": ['
        yield ",".join(f'{{"id": "Y{one}.wav", "caption": "wind number {one}", "duration": 10.0}}' for one in ids)
        yield "]}"
        return
    head, row = {
        "plain": ("file,caption,label", "{}.wav,wind {},wind"),
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


def read_all(path: Path, format: str) -> tuple[list[CaptionRow], list[str]]:
    bad: list[str] = []
    return list(read_captions(path, format, lambda where, reason: bad.append(f"{where}: {reason}"))), bad


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
        ('{"data": 5}', r"where \[ is due"),
        ('{"items": []}', "no list 'data'"),
        ('{"data": [{"id": "1", "caption": "a"}', "ends where , or ] is due"),
        ('{"data": [{"id": "1", "caption": "a', "item 1: the file is cut"),
        ('{"data": [{"id": "1" "caption": "a dog that goes on"}]}', "item 1: Expecting ',' delimiter"),
        ('{"data": [{"id": "1", "caption": "' + "a" * 400_000, "item 1: the file is cut"),
        ("[" * 100_000, "nested too deeply|item 1"),
        ('{"data": ' + "[" * 100_000, "nested too deeply|item 1"),
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
        monkeypatch.setattr("components.prepare_corpus.captions.json_items._CHUNK", size)
        assert read_all(path, "wavcaps") == whole
    skipped: Callable[[int], None] = lambda size: monkeypatch.setattr(  # noqa: E731
        "components.prepare_corpus.captions.json_items.MAX_ITEM_CHARACTERS", size
    )
    skipped(200)
    rows, bad = read_all(path, "wavcaps")
    assert [row.caption for row in rows] == captions[:-1] and len(bad) == 1 and "item 6: too_long" in bad[0]
