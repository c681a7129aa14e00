"""Sound-VECaps (arXiv 2407.04416): captions of AudioSet clips, written by a language model from audio and video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.prepare_corpus.captions.records import CaptionRow, OnBad, clean_caption, clean_youtube_id, convert
from components.prepare_corpus.captions.tables import read_table

COLUMNS = ("id", "caption")


def read(path: Path, on_bad: OnBad) -> Iterator[CaptionRow]:
    """Captions of `Sound-VECaps_audio.csv`: columns `id` (`Y` and the YouTube id) and `caption`; others are ignored.

    Source: columns as github.com/mnuhurr/text-sed, `prepare_captions.py` at 7327fa771520d734d684d01a90db0e6c7063f059
    reads them; not verified against the file itself, nor whether the full variant (which also describes what is only
    seen) has the same columns.
    """
    return convert(read_table(path, on_bad, COLUMNS, "id and caption"), _rows, on_bad)


def _rows(cells: dict[str, str]) -> list[CaptionRow]:
    return [CaptionRow(clean_youtube_id(cells["id"]), None, clean_caption(cells["caption"]), None)]
