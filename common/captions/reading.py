"""Reading of replies in the formats that chat models send: JSON in a fence or after a thought, nearly JSON, a list.

Nothing is checked here; `checks.py` does that. Only `json` and PyYAML's safe loader read the text.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import yaml

from common.captions.records import Elements

MAX_OBJECTS = 16
"""Opening brackets of a reply that are tried."""
MAX_TOLERANT = 8192
"""Characters of a piece that is read as nearly JSON; YAML is slow."""

_TAG = r"(?:think|thinking|thought|reasoning|reflection|analysis)"
_THOUGHT_END = re.compile(rf"</{_TAG}>|\[/{_TAG}\]|<\|message\|>", re.IGNORECASE)
_THOUGHT_START = re.compile(rf"\s*(?:<{_TAG}>|\[{_TAG}\])", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]m |i am |we are )?sorry\b|i apologi[sz]e|(?:i|we) (?:can(?:['’]t|not)|won['’]t)\b"
    r"|(?:i['’]m|i am) (?:not able|unable)|(?:unfortunately,? )?as an ai\b)",
    re.IGNORECASE,
)
_MARKED_LINE = re.compile(r"^[ \t]*(?:\d{1,2}[ \t]?[.):]|[-*•])[ \t]+(.*\S)", re.MULTILINE)
_CAPTION_FIELD = re.compile(r"(?:new[ _])?(?:caption|description|sentence)s?[ _]?\d*", re.IGNORECASE)
_OPENING = re.compile(r"[\[{]")
_ASIDE = re.compile(r"\[\s*[^\s'\"“‘{]")
"""Square brackets in prose, rather than an array."""
_CURLY_QUOTES = str.maketrans("“”„‟", '""""')
_FENCE = re.compile(r"\s*(?:```|~~~)\w*\s*$")
_OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:sure|certainly|of course|absolutely|okay|ok|great)\b[\w ,']{0,40}[!.:,]\s+",
        r"(?:here(?:['’]s| is)|this is|the following is)\b[^:.]{0,60}:\s*",
        r"(?:caption|description|answer|response)\W{0,3}:[\s*_]*",
        r"(?:in )?(?:the|this) (?:audio|recording|clip|sound)(?: clip| recording| file)? "
        r"(?:contains|features|consists of|captures|includes|is of) (?=[\w*_\"“'])",
    )
)
_NOTHING = frozenset(("", "null", "none", "nil", "n/a", "unknown", "not mentioned", "not specified", "unspecified"))


class Found(NamedTuple):
    """Captions or elements of a reply, unchecked, and the reason code why there are none or why some are missing."""

    captions: tuple[str, ...] = ()
    elements: Elements | None = None
    reason: str | None = None


class _Piece(NamedTuple):
    text: str
    length: int
    cut_off: bool


def read_reply(text: str, extraction: bool, max_depth: int) -> Found:
    """Captions of a reply, or, for an `extraction`, elements.

    The model's thoughts are left out. JSON objects with the field asked for count wherever they stand and whatever else
    they hold, before objects that are only nearly JSON (single quotes, bare names, commas too many). Captions may also
    come as a JSON array or as numbered or marked lines. What is whole in an object that was cut off is used.
    """
    answer = without_thought(text)
    if answer is None:
        return Found(reason="cut_off")
    exact: list[Any] = []
    tolerant: list[Any] = []
    reason: str | None = None
    position = 0
    for _ in range(MAX_OBJECTS):
        start = _OPENING.search(answer, position)
        if start is None:
            break
        position = start.end()
        piece = _piece(answer[start.start() :], max_depth)
        if piece is None:
            return Found(reason="too_deep")
        data = _field(_parsed(piece.text, partial(json.loads, strict=False)), extraction)
        if data is not None:
            exact.append(data)
        elif not piece.cut_off and len(piece.text) <= MAX_TOLERANT and not _ASIDE.match(piece.text):
            plain = piece.text.replace("\t", " ").replace("\\'", "’")  # a space and an escape that YAML does not know
            data = _field(_parsed(plain, yaml.safe_load), extraction)
            if data is not None:
                tolerant.append(data)
        if data is not None:
            position = start.start() + piece.length
        if piece.cut_off and answer[start.start()] == "{":
            reason = "cut_off"
        elif data is None:
            reason = reason or "schema"
    found = exact or tolerant
    if extraction:
        # Elements of an object that was cut off would lack those after the cut, so they are asked for again.
        if found and reason != "cut_off":
            return Found(elements=found[0])
    elif found:
        return Found(
            tuple(caption for one in found for caption in one), reason="cut_off" if reason == "cut_off" else None
        )
    elif lines := _MARKED_LINE.findall(answer):
        return Found(tuple(lines))
    return Found(reason="refused" if is_refusal(answer) else reason or "not_json")


def read_sentence(text: str) -> tuple[str, str | None]:
    """Description in a free reply, without what stands around it, and the reason code if there is none.

    Greetings, `Caption:`, fences and words like `the audio contains` are left out; a list becomes one sentence.
    """
    answer = without_thought(text)
    if answer is None:
        return "", "cut_off"
    if "{" in answer and (captions := read_reply(answer, extraction=False, max_depth=4).captions):
        return captions[0], None
    lines = [line.strip() for line in answer.splitlines() if line.strip(" \t*-_`~") and not _FENCE.match(line)]
    if len(lines) > 1 and lines[0].rstrip("* ").endswith(":"):
        lines = lines[1:]
    if all(map(_MARKED_LINE.match, lines)):
        sentence = ", ".join(_MARKED_LINE.sub(r"\1", line).rstrip(" .,;") for line in lines)
    else:
        sentence = " ".join(lines)
    sentence = sentence.lstrip("*_ ")
    if is_refusal(sentence):
        return "", "refused"
    for opening in _OPENINGS:
        sentence = opening.sub("", sentence, count=1)
    return sentence, None


def without_thought(text: str) -> str | None:
    """Text after the model's thoughts; None if it was cut off while thinking."""
    ends = list(_THOUGHT_END.finditer(text))
    if ends:
        return text[ends[-1].end() :]
    return None if _THOUGHT_START.match(text) else text


def is_refusal(text: str) -> bool:
    """Whether a text begins like a refusal to answer: `I'm sorry, but I can't …`."""
    return _REFUSAL.match(text) is not None


def _piece(text: str, max_depth: int) -> _Piece | None:
    """Text up to the bracket that closes the first one; brackets in strings do not count. None if nested too deeply.

    Of a text that ends before, the whole items, with the brackets that are missing.
    """
    closing: list[str] = []
    quote, escaped, before = "", False, ""
    whole = ""
    for index, c in enumerate(text):
        if quote:
            quote = quote if escaped or c != quote else ""
            escaped = c == "\\" and not escaped
        elif c == '"' or (c == "'" and before in "{[,:"):
            quote = c
        elif c in "{[":
            closing.append("}" if c == "{" else "]")
            if len(closing) > max_depth:
                return None
        elif c in "}]":
            closing.pop()
            if not closing:
                return _Piece(text[: index + 1], index + 1, cut_off=False)
        elif c == ",":
            whole = text[:index] + "".join(reversed(closing))
        if not c.isspace():
            before = c
    return _Piece(whole if quote else text + "".join(reversed(closing)), len(text), cut_off=True)


def _parsed(text: str, parse: Callable[[str], Any]) -> Any:
    for version in dict.fromkeys((text, text.translate(_CURLY_QUOTES))):
        with suppress(ValueError, RecursionError, yaml.YAMLError):
            return parse(version)
    return None


def _field(data: Any, extraction: bool) -> tuple[str, ...] | Elements | None:
    """Captions or elements of a JSON value; None if it has no field for them."""
    if extraction:
        return _elements(data)
    if isinstance(data, list):
        return _captions(data) if data and all(isinstance(one, str | Mapping) for one in data) else None
    if not isinstance(data, Mapping):
        return None
    values = [value for name, value in data.items() if _CAPTION_FIELD.fullmatch(str(name).strip())]
    return tuple(caption for value in values for caption in _captions(value)) if values else None


def _captions(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        named = [one for name, one in value.items() if _CAPTION_FIELD.fullmatch(str(name)) or name == "text"]
        value = named or list(value.values())
    return tuple(text for one in value for text in _captions(one)) if isinstance(value, list) else ()


def _elements(data: Any) -> Elements | None:
    if not isinstance(data, Mapping):
        return None
    named = {str(name).strip().lower().rstrip("s"): value for name, value in data.items()}
    if not named.keys() & {"event", "scene"}:
        return None
    return Elements(events=_phrases(named.get("event")), scenes=_phrases(named.get("scene")))


def _phrases(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = re.split(r"[,;]", value)
    if not isinstance(value, list):
        return ()
    return tuple(one for one in value if isinstance(one, str) and one.strip(" .").lower() not in _NOTHING)
