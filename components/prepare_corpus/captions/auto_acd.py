"""Auto-ACD (arXiv 2309.11500): captions of AudioSet and VGGSound clips from several models and a language model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.prepare_corpus.captions.records import CaptionRow, OnBad, clean_caption, clean_youtube_id, convert
from components.prepare_corpus.captions.tables import read_table

COLUMNS = ("youtube_id", "caption")


def read(path: Path, on_bad: OnBad) -> Iterator[CaptionRow]:
    """Captions of Auto-ACD's `train.csv`: columns `youtube_id` and `caption`; the id may carry a `Y` or a start.

    The start is left out of the clip id, since its unit is not stated.

    Source: columns as github.com/KarthikKolluriKB/CARD, `scripts/data/prepare_autoacd.py` at
    3fadbcb4824c6ab0dad6fa1bef4cea8e89a6e405 reads them, and as the README of huggingface.co/datasets/Loie/Auto-ACD
    names them (`# YouTube ID, caption`); not verified against the file itself.
    """
    return convert(read_table(path, on_bad, COLUMNS, "youtube_id and caption"), _rows, on_bad)


def _rows(cells: dict[str, str]) -> list[CaptionRow]:
    return [CaptionRow(clean_youtube_id(cells["youtube_id"]), None, clean_caption(cells["caption"]), None)]
