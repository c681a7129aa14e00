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
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from common.errors import DataError
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
_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'["\\{}\[\]]')
_PLAIN = re.compile(r'[^\s,:"{}\[\]]*')
_CAPTIONS = ("caption", *(f"caption_{number}" for number in range(1, 6)))


class _TooLong(Exception):
    pass


class _Window:
    """Window over a JSON text; consumed text is dropped."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.item = 0
        self._file, self._path = file, path
        self._text, self._at = "", 0

    def broken(self, why: str) -> DataError:
        place = f"item {self.item}: " if self.item else ""
        return unreadable(self._path, f"{place}{why}; expected a JSON list of captions, or an object with one")

    def peek(self) -> str:
        """Next character that is no space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]  # matches empty text too
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def take(self, expected: str) -> str:
        """Consume and return the next character, which must be one of `expected`."""
        found = self.peek()
        if not found or found not in expected:
            shown = " or ".join(expected)
            raise self.broken(
                f"found {found!r} where {shown} is due" if found else f"the file ends where {shown} is due"
            )
        self._at += 1
        return found

    def value(self) -> Any:
        """Consume and return the next value; one that is too long is consumed without holding it, for `_TooLong`."""
        first = self.peek()
        if not first:
            raise self.broken("the file ends where a value is due")
        text = self._nested() if first in '"{[' else self._plain()
        try:
            return json.loads(text)
        except RecursionError as error:
            raise self.broken("nested too deeply") from error
        except ValueError as error:
            raise self.broken(str(error)) from error

    def _nested(self) -> str:
        """Text of a string, an object or a list, to the mark that ends it."""
        parts, size, depth, quoted = list[str](), 0, 0, False
        while True:
            mark = _MARK.search(self._text, self._at)
            end = mark.end() if mark else len(self._text)
            size += end - self._at
            if size <= MAX_ITEM_CHARACTERS:
                parts.append(self._text[self._at : end])
            self._at = end
            if mark is None:
                if not self._fill():
                    raise self.broken("the file is cut")
                continue
            if mark[0] == '"':
                quoted = not quoted
            elif mark[0] == "\\":
                if self._at == len(self._text):
                    self._fill()
                parts.append(self._text[self._at : self._at + 1])
                self._at += 1
            elif not quoted:
                depth += 1 if mark[0] in "{[" else -1
            if depth == 0 and not quoted:
                break
        if size > MAX_ITEM_CHARACTERS:
            raise _TooLong
        return "".join(parts)

    def _plain(self) -> str:
        """Text of a number, or of what else is neither quoted nor in brackets."""
        while True:
            end = _PLAIN.match(self._text, self._at).end()  # type: ignore[union-attr]  # matches empty text too
            if end < len(self._text) or end - self._at > MAX_ITEM_CHARACTERS or not self._fill():
                break
        text, self._at = self._text[self._at : end], end
        return text

    def _fill(self) -> bool:
        chunk = self._file.read(_CHUNK)
        if chunk:
            self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)

    def go_to(self, key: str) -> None:
        """Consume an object up to the list under `key`."""
        while True:
            try:
                name = self.value()
            except _TooLong as error:
                raise self.broken("a key is too long") from error
            self.take(":")
            if name == key:
                self.take("[")
                return
            with suppress(_TooLong):
                self.value()
            if self.take(",}") == "}":
                raise self.broken(f"there is no list {key!r}")


def _items(path: Path, on_bad: OnBad) -> Iterator[tuple[str, Any]]:
    """`(place, item)` of each item; memory holds one item and one chunk of the file."""
    with open_text(path) as file:
        window = _Window(file, path)
        if window.take("{[") == "{":
            window.go_to("data")
        if window.peek() == "]":
            return
        while True:
            window.item += 1
            where = f"{path}, item {window.item}"
            try:
                item = window.value()
            except _TooLong:
                on_bad(where, f"too_long: the item has more than {MAX_ITEM_CHARACTERS} characters")
            else:
                yield where, item
            if window.take(",]") == "]":
                return


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
