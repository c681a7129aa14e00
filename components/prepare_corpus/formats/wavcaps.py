"""WavCaps (arXiv 2303.17395): captions rewritten by a language model, for AudioSet, BBC, FreeSound and SoundBible.

The JSON is `{"num_captions_per_audio": …, "data": [{"id": "Yb0RFKhbpFJA.wav", "caption": …, "audio": …, "duration":
…}, …]}`, or that list alone; an item with several captions has `caption_1` to `caption_5`. `audio`, a path on the
authors' machine, is ignored; `id` names the file. There is also a CSV with `file_name`, `description` and `caption`.

Source: github.com/XinhaoMei/WavCaps: `data/json_files/SoundBible/sb_final.json` at
0894253475a98b2aca9b9011c74da0468c81bfe6 (a list; id `2219`), `retrieval/data/AudioCaps/json_files/test.json`
(several captions; id `Y….wav`), `retrieval/data_handling/pretrain_dataset.py` (keys of the files with `data`),
`data/json_files/blacklist/blacklist_exclude_all_ac.json` (ids of AudioSet clips) and
`data/json_files/AudioSet_SL/audioset_eval.csv` (`file_name,description,caption`, names such as
`s9d-2nhuJCQ_30000`), all at 59694bd1c53b00ad958fc8e3e226039dc5e26404. `AudioSet_SL/as_final.json` itself was not
seen.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from components.prepare_corpus.captions import (
    MAX_FILE_CHARACTERS,
    BadRow,
    CaptionRow,
    Format,
    OnBad,
    check_text,
    clean_caption,
    convert,
    file_stem,
    open_text,
    table_format,
    unreadable,
    youtube_id,
)

MAX_ITEM_CHARACTERS = 1 << 18
"""Limit per item; leaves room for several captions and a description in escapes."""

_CHUNK = 1 << 16
_MARK = re.compile(r'\\.|["{}\[\],]', re.DOTALL)
_BEFORE_LIST = {0: "", 1: '"data":'}
"""What stands before the list, by the brackets that are open: alone in the file, or in an object."""
_CAPTIONS = ("caption", *(f"caption_{number}" for number in range(1, 6)))


def _marked(file: TextIO) -> Iterator[tuple[str, str]]:
    """The file as plain text and the mark after it: a quote, bracket, comma or escaped character; at times none."""
    rest = ""
    while chunk := file.read(_CHUNK):
        text, at = rest + chunk, 0
        for mark in _MARK.finditer(text):
            yield text[at : mark.start()], mark[0]
            at = mark.end()
        # A backslash at the end escapes the first character of the next chunk.
        rest = "\\" if text.endswith("\\", at) else ""
        yield text[at : len(text) - len(rest)], ""


def _texts(file: TextIO) -> Iterator[tuple[str, str]]:
    """Text of each item of the list, and the mark that ends it; of one that is too long, somewhat more than the limit.

    Raises ValueError: there is no list, or it does not end.
    """
    text, depth, inside, quoted, items = "", 0, 0, False, 0
    for plain, mark in _marked(file):
        bracket = "" if quoted else mark
        quoted ^= mark == '"'
        depth -= bracket in ("}", "]")
        if inside and (depth < inside or (bracket == "," and depth == inside)):
            yield text + plain, bracket
            if depth < inside:
                return
            text, items = "", items + 1
            continue
        before, begins = text, not inside and bracket == "," and depth == 1
        if len(text) <= MAX_ITEM_CHARACTERS:
            text += plain + mark
        if bracket in ("{", "["):
            if not inside and bracket == "[" and "".join((before + plain).split()) == _BEFORE_LIST.get(depth):
                inside = depth + 1
            depth += 1
            begins = depth == (inside or 1)
        if begins:
            text = ""
    raise ValueError(f"item {items + 1}: the file is cut" if inside else "there is no list, alone or under `data`")


def _items(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Any]]:
    """`(place, item)` of each item; memory holds one item and one chunk of the file."""
    place = ""
    try:
        with open_text(path) as file:
            for number, (text, mark) in enumerate(_texts(file), start=1):
                place = f"item {number}: "
                if len(text) > MAX_ITEM_CHARACTERS:
                    on_bad(
                        f"{path}, item {number}", f"too_long: the item has more than {MAX_ITEM_CHARACTERS} characters"
                    )
                elif mark == "," or number > 1 or text.strip():
                    yield f"{path}, item {number}", json.loads(text)
                place = ""
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise unreadable(
            path, f"{place}{why}; expected a JSON list of captions, or an object with one under `data`"
        ) from error


def _read(path: Path, on_bad: OnBad, seed: int) -> Iterator[CaptionRow]:
    if path.suffix.lower() == ".csv":
        return _TABLE.read(path, on_bad, seed)
    return convert(_items(path, on_bad), _rows, on_bad)


def _rows(item: Any) -> list[CaptionRow]:
    if not isinstance(item, dict):
        raise BadRow("columns", f"expected an object with id and caption, found {item!r:.60}")
    clip_id = _clip_id(item.get("id"))
    captions = [item[name] for name in _CAPTIONS if name in item]
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


_TABLE = table_format(
    ("file_name", "caption"), "file_name and caption", lambda cells: (_clip_id(cells["file_name"]), cells["caption"])
)
FORMAT = Format(_read, _TABLE.columns | {"description"}, suffixes=(".json",))
