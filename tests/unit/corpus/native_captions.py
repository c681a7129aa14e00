"""A small file of every caption format in its native form, and readers of such files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.prepare_corpus.captions import CaptionRow, formats, read_captions

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
    "audio_folder": (
        "metadata.csv",
        "file_name,caption,label\ncat/1.wav,A cat,cat\ndog/1.wav,Barks,\n",
        [CaptionRow("1", "cat/1.wav", "a cat", "cat"), CaptionRow("1", "dog/1.wav", "barks", None)],
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


def read_all(path: Path, format: str) -> tuple[list[CaptionRow], list[str]]:
    bad: list[str] = []
    return list(read_captions(path, format, lambda where, reason: bad.append(f"{where}: {reason}"))), bad
