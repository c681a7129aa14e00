"""Streaming reader of a list in a JSON file of any size, one item at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from common.errors import DataError
from components.prepare_corpus.captions.records import OnBad
from components.prepare_corpus.captions.tables import open_text, unreadable

MAX_ITEM_CHARACTERS = 1 << 18
"""Limit per item; leaves room for several captions and a description in escapes."""

_CHUNK = 1 << 16
_DECODER = json.JSONDecoder()
_AFTER = frozenset(" \t\r\n,:]}")
_SPACE = re.compile(r"[ \t\r\n]*")
_MARKS = re.compile(r'["\\{}\[\]]')


class _TooLong(Exception):
    """The current value is longer than `MAX_ITEM_CHARACTERS`."""


class _Window:
    """Window over a JSON text; consumed text is dropped."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.item = 0
        self._file = file
        self._path = path
        self._text = ""
        self._at = 0

    def broken(self, why: str) -> DataError:
        """Error for text that is not valid JSON."""
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
        """Consume and return the next value.

        Raises:
            DataError: the value is broken or truncated.
            _TooLong: the value has more than `MAX_ITEM_CHARACTERS`.
        """
        if not self.peek():
            raise self.broken("the file ends where a value is due")
        while True:
            value, used = self._decode()
            if used and self._settled(self._at + used):
                break
            if len(self._text) - self._at > MAX_ITEM_CHARACTERS:
                raise _TooLong
            if not self._fill():
                if not used:
                    raise self.broken("the file is cut")
                break
        self._at += used
        return value

    def skip(self) -> None:
        """Skip the current value without holding it in memory."""
        depth, quoted = 0, False
        while True:
            mark = _MARKS.search(self._text, self._at)
            if mark is None:
                self._at = len(self._text)
                if not self._fill():
                    raise self.broken("the file is cut")
                continue
            self._at = mark.end()
            if mark[0] == "\\":
                if self._at == len(self._text):
                    self._fill()
                self._at += 1
            elif mark[0] == '"':
                quoted = not quoted
            elif not quoted:
                depth += 1 if mark[0] in "{[" else -1
            if depth <= 0 and not quoted:
                return

    def _decode(self) -> tuple[Any, int]:
        """Current value and its length; the length is 0 if the window truncates the value."""
        try:
            value, end = _DECODER.raw_decode(self._text, self._at)
        except RecursionError as error:
            raise self.broken("nested too deeply") from error
        except json.JSONDecodeError as error:
            # An error near the end of the window, or an unterminated string, means that the window truncates the value.
            if not error.msg.startswith("Unterminated") and error.pos < len(self._text) - len("-Infinity"):
                raise self.broken(f"{error.msg}, near {self._text[error.pos : error.pos + 20]!r}") from error
            return None, 0
        except ValueError as error:
            raise self.broken(str(error)) from error
        return value, end - self._at

    def _settled(self, end: int) -> bool:
        # A number may continue beyond the window: `-12.` reads as -12 there.
        return end < len(self._text) and (self._text[end] in _AFTER or len(self._text) - end > len("e+999"))

    def _fill(self) -> bool:
        chunk = self._file.read(_CHUNK)
        self._text, self._at = self._text[self._at :] + chunk, 0
        return bool(chunk)


def read_items(path: Path, key: str, on_bad: OnBad) -> Iterator[tuple[str, Any]]:
    """`(place, item)` of each item of a JSON list: the whole file, or the list under `key` of its object.

    Memory holds one item and one chunk of the file. An item that is too long goes to `on_bad`.

    Raises DataError: the file is no such JSON, or is truncated.
    """
    with open_text(path) as file:
        window = _Window(file, path)
        if window.take("{[") == "{":
            _go_to(window, key)
        if window.peek() == "]":
            return
        while True:
            window.item += 1
            where = f"{path}, item {window.item}"
            try:
                item = window.value()
            except _TooLong:
                on_bad(where, f"too_long: the item has more than {MAX_ITEM_CHARACTERS} characters")
                window.skip()
            else:
                yield where, item
            if window.take(",]") == "]":
                return


def _go_to(window: _Window, key: str) -> None:
    while True:
        try:
            name = window.value()
        except _TooLong as error:
            raise window.broken("a key is too long") from error
        window.take(":")
        if name == key:
            window.take("[")
            return
        try:
            window.value()
        except _TooLong:
            window.skip()
        if window.take(",}") == "}":
            raise window.broken(f"there is no list {key!r}")
