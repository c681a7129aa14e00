"""A tiny folder of collections."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contrib.nano.recordings import COLUMNS

RATE = 16000


def tone(seconds: float, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def write_collection(folder: Path, rows: list[dict[str, str]], seconds: float = 0.4) -> Path:
    """Write tones of rising pitch and their list; `rows` say what differs from a plain row."""
    folder.mkdir(parents=True)
    columns = (*COLUMNS, "foley8_fold")
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for place, row in enumerate(rows):
            plain = {"path": f"{place}.flac", "label": "door", "group": f"g{place}", "caption": "a door closing, wood"}
            named = {"source": f"https://example.org/{place}", "licence": "CC0 1.0", "attribution": "Ann"}
            writer.writerow({**plain, **named, **row})
            soundfile.write(folder / f"{place}.flac", tone(seconds, 200 + 10 * place), RATE)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Doors in twelve recordings, two takes each, of which folds 1 and 2 mark the first four; and ten words."""
    doors = [{"group": f"g{place // 2}"} for place in range(24)]
    for place, fold in enumerate("1122"):
        doors[place]["foley8_fold"] = fold
    write_collection(tmp_path / "data" / "corpus_16k", doors)
    words = [{"label": word, "licence": "generated with a program"} for word in ("seven", "dog") * 5]
    write_collection(tmp_path / "data" / "words_16k", words)
    return tmp_path / "data"
