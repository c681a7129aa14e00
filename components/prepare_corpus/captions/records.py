"""Rows of caption files, ids of AudioSet clips, and the checks of every caption."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.audio import AUDIO_SUFFIXES
from common.datasets.labels import stands_for_no_value

MAX_CAPTION_CHARACTERS = 500
MAX_LABEL_CHARACTERS = 200
MAX_FILE_CHARACTERS = 1024

OnBad = Callable[[str, str], None]
"""Callback with the place of an unusable row and `reason_code: explanation`; the row is skipped."""

_YOUTUBE_ID = re.compile(r"Y?([A-Za-z0-9_-]{11})(?:_\d+(?:\.\d+)?){0,2}")
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

Record = TypeVar("Record")


class CaptionRow(NamedTuple):
    """A caption of one clip; a clip may have several.

    Attributes:
        clip_id: `YouTubeID` or `YouTubeID_start` with the start in milliseconds, as in AudioSet's strong labels;
            otherwise the stem of the file. Compare ids by `clip_key`.
        file: path relative to the audio root, if the format names one.
        caption: 1 to `MAX_CAPTION_CHARACTERS` characters on one line, lower case.
        label: the class, if the format names a single one.
    """

    clip_id: str
    file: str | None
    caption: str
    label: str | None


class Format(NamedTuple):
    """How caption files of one format are read, and told from others.

    Attributes:
        read: file, callback and seed to the captions, streamed in bounded memory, in the order of the file.
        suffix: of files that are of this format whatever they hold.
        starts: whether a first row that is no header is of this format.
    """

    read: Callable[[Path, OnBad, int], Iterator[CaptionRow]]
    columns: frozenset[str]
    suffix: str | None = None
    beside: tuple[str, ...] = ()
    starts: Callable[[Sequence[str]], bool] = lambda cells: False


class BadRow(Exception):
    """An unusable row; the message is `reason_code: explanation`."""

    def __init__(self, reason: str, explanation: str) -> None:
        super().__init__(f"{reason}: {explanation}")


def youtube_id(name: str) -> str | None:
    """11-character YouTube id in the name of an AudioSet clip or its file; None if there is none.

    Forms: `ID`, `YID` (PANNs and WavCaps), `ID_30000` (strong labels, ms), `ID_30.000_40.000` (DCASE 2017), each with
    or without an audio suffix. The `Y` is never ambiguous, since an id always has 11 characters.
    """
    match = _YOUTUBE_ID.fullmatch(file_stem(name))
    return match[1] if match else None


def file_stem(name: str) -> str:
    """Last part of a path without its audio suffix; other dots are kept, as in `ID_30.000_40.000.wav`."""
    last = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = last.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in AUDIO_SUFFIXES else last


def clip_key(name: str) -> str:
    """Join key of captions and audio: the YouTube id in `name`, else its stem."""
    return youtube_id(name) or file_stem(name)


def clean_caption(text: str) -> str:
    """`text` in lower case with white space folded; what tools write for a missing value, such as `nan`, is empty.

    A caption with an inner line break is refused, not folded: it is mostly two captions, or the end of an unclosed
    quote. White space around a caption, line breaks included, is stripped.

    Raises BadRow: empty, multi_line, control_characters, not_utf8 or too_long.
    """
    text = text.strip()
    if not text or stands_for_no_value(text):
        raise _bad("empty", text)
    if len(text.splitlines()) > 1:
        raise _bad("multi_line", text)
    check_text(text.replace("\t", " "))
    folded = " ".join(text.split())
    if len(folded) > MAX_CAPTION_CHARACTERS:
        raise _bad("too_long", folded)
    return folded.lower()


def check_text(text: str) -> None:
    """Refuse characters that no caption, label or file name needs.

    Raises BadRow: control_characters (including those that change the direction of text) or not_utf8.
    """
    if text.isascii() and text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) == "Cs":
            raise _bad("not_utf8", text)
        if unicodedata.category(character) == "Cc" or character in _BIDI_CONTROLS:
            raise _bad("control_characters", text)


def clean_label(text: str | None) -> str | None:
    """Label without surrounding white space, or None if it is empty or only what tools write for a missing value.

    Raises BadRow: label, control_characters or not_utf8.
    """
    label = (text or "").strip()
    if not label or stands_for_no_value(label):
        return None
    if len(label) > MAX_LABEL_CHARACTERS or len(label.splitlines()) > 1:
        raise BadRow("label", f"expected a label of at most {MAX_LABEL_CHARACTERS} characters, found {label!r:.60}")
    check_text(label)
    return label


def clean_youtube_id(text: str) -> str:
    """YouTube id named by `text`. Raises BadRow: id."""
    found = youtube_id(text.strip())
    if found is None:
        raise BadRow("id", f"expected the 11-character id of a YouTube video, found {text!r:.60}")
    return found


def convert(
    records: Iterable[tuple[str, Record]], make: Callable[[Record], list[CaptionRow]], on_bad: OnBad
) -> Iterator[CaptionRow]:
    """Rows made from each `(place, record)`; a record for which `make` raises `BadRow` goes to `on_bad`."""
    for where, record in records:
        try:
            rows = make(record)
        except BadRow as bad:
            on_bad(where, str(bad))
        else:
            yield from rows


def _bad(reason: str, text: str) -> BadRow:
    return BadRow(
        reason,
        f"expected a `caption` of 1 to {MAX_CAPTION_CHARACTERS} characters on one line, found {text[:200]!r:.60}",
    )
