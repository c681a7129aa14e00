"""Formats of caption files, each on a small file in its native form, and the ids of their clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from common.config.corpus import PrepareCorpusConfig
from common.errors import DataError
from components.prepare_corpus import formats as package
from components.prepare_corpus.captions import CaptionRow, clip_key, detect_format, read_captions, youtube_id
from tests.unit.corpus.native_captions import FORMATS, NATIVE, no_bad, write


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'file;caption;label\nx/a.wav;"A bell; rung";bell\nb.wav;Rain, and wind;\n'),
        ("a.tsv", "\ufefffile\tcaption\tlabel\r\nx/a.wav\tA bell; rung\tbell\r\nb.wav\tRain, and wind\r\n"),
        ("a.csv", 'file, caption, label\nx/a.wav, "A bell; rung", bell,,\nb.wav, "Rain, and wind",, ,\n'),
        (
            "a.jsonl",
            '{"File":"x/a.wav","Caption":"A bell; rung","label ":"bell"}\n{"file":"b.wav","caption":"Rain, and wind"}',
        ),
        (
            "metadata.jsonl",
            '{"file_name":"x/a.wav","caption":"A bell; rung","label":"bell"}\n{"file_name":"b.wav","caption":"Rain, and wind"}',
        ),
        (
            "a.ndjson",
            '{"file":"x/a.wav","caption":"A bell; rung","label":"bell"}\n{"file":"b.wav","caption":"Rain, and wind"}',
        ),
    ],
    ids=["semicolons", "tabs", "spaces and empty cells", "names in upper case", "an AudioFolder", "another suffix"],
)
def test_tables_are_read_in_the_forms_that_tools_write(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(read_captions(tmp_path / name, detect_format(tmp_path / name), no_bad)) == [
        CaptionRow("a", "x/a.wav", "a bell; rung", "bell"),
        CaptionRow("b", "b.wav", "rain, and wind", None),
    ]


@pytest.mark.parametrize("name", ["caption", "label"])
def test_a_column_that_occurs_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"file,caption,label,{name}\na.wav,A bell,bell,rain\n")
    with pytest.raises(DataError, match=f"the column {name} occurs twice"):
        list(read_captions(path, "plain", no_bad))


@pytest.mark.parametrize("field", ["file", "caption", "label"])
def test_a_list_in_json_is_no_text(tmp_path: Path, field: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"file": "a.wav", "caption": "A bell", "label": "bell", field: ["x", "y"]}) + "\n")
    bad: list[str] = []
    assert not list(read_captions(path, "plain", lambda where, reason: bad.append(reason)))
    assert len(bad) == 1 and bad[0].startswith("columns: expected one text each") and "['x', 'y']" in bad[0]


def test_a_file_of_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("file,caption\na.wav,A bell\n".encode("utf-16"))
    with pytest.raises(DataError, match="no text in UTF-8; the simplest"):
        detect_format(path)


def test_a_format_is_one_module(tmp_path: Path) -> None:
    module, path = tmp_path / "toy_format.py", tmp_path / "x.csv"
    module.write_text(
        "from components.prepare_corpus.captions import table_format\n"
        "FORMAT = table_format(('clip', 'said'), 'clip and said', lambda cells: (cells['clip'], cells['said']))\n"
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
    with pytest.raises(ValidationError, match="Input should be 'auto', 'audio_folder', 'audiocaps'"):
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
