"""WavCaps (arXiv 2303.17395): captions rewritten by a language model, for AudioSet, BBC, FreeSound and SoundBible."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.prepare_corpus.captions.json_items import read_items
from components.prepare_corpus.captions.records import (
    MAX_FILE_CHARACTERS,
    BadRow,
    CaptionRow,
    Format,
    OnBad,
    check_text,
    clean_caption,
    convert,
    file_stem,
    youtube_id,
)
from components.prepare_corpus.captions.tables import read_table

_MOST_CAPTIONS = 5


def _read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
    """Captions of a WavCaps JSON, or of its CSV with `file_name` and `caption`.

    The JSON is `{"num_captions_per_audio": …, "data": [{"id": "Yb0RFKhbpFJA.wav", "caption": …, "audio": …, "duration":
    …}, …]}`, or that list alone; an item with several captions has `caption_1` to `caption_5`. `audio`, a path on the
    authors' machine, is ignored; `id` names the file.

    Source: github.com/XinhaoMei/WavCaps: `data/json_files/SoundBible/sb_final.json` at
    0894253475a98b2aca9b9011c74da0468c81bfe6 (a list; id `2219`), `retrieval/data/AudioCaps/json_files/test.json`
    (several captions; id `Y….wav`), `retrieval/data_handling/pretrain_dataset.py` (keys of the files with `data`),
    `data/json_files/blacklist/blacklist_exclude_all_ac.json` (ids of AudioSet clips) and
    `data/json_files/AudioSet_SL/audioset_eval.csv` (`file_name,description,caption`, names such as
    `s9d-2nhuJCQ_30000`), all at 59694bd1c53b00ad958fc8e3e226039dc5e26404. `AudioSet_SL/as_final.json` itself was not
    seen.
    """
    if path.suffix.lower() == ".csv":
        return convert(read_table(path, on_bad, ("file_name", "caption"), "file_name and caption"), _table_rows, on_bad)
    return convert(read_items(path, "data", on_bad), _rows, on_bad)


def _table_rows(cells: dict[str, str]) -> list[CaptionRow]:
    return [CaptionRow(_clip_id(cells["file_name"]), None, clean_caption(cells["caption"]), None)]


def _rows(item: Any) -> list[CaptionRow]:
    if not isinstance(item, dict):
        raise BadRow("columns", f"expected an object with id and caption, found {item!r:.60}")
    clip_id = _clip_id(item.get("id"))
    names = ["caption", *(f"caption_{number}" for number in range(1, _MOST_CAPTIONS + 1))]
    captions = [item[name] for name in names if name in item]
    if not captions or not all(isinstance(caption, str) for caption in captions):
        raise BadRow("columns", f"expected an object with id and caption, found the keys {sorted(item)!r:.100}")
    return [CaptionRow(clip_id, None, clean_caption(caption), None) for caption in captions]


def _clip_id(name: Any) -> str:
    text = str(name).strip() if isinstance(name, str | int) else ""
    if not text or len(text) > MAX_FILE_CHARACTERS:
        raise BadRow("id", f"expected the name of a clip, found {name!r:.60}")
    check_text(text)
    stem = file_stem(text)
    found = youtube_id(stem)
    return stem[1:] if found and stem.startswith("Y" + found) else stem


FORMAT = Format(_read, frozenset({"file_name", "caption"}), suffix=".json")
