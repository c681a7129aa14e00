"""Plain sentences out of what chat models decorate: curly quotes, Markdown, brackets, slashes, ellipses, emoji.

Only what can be made plain without a change of sense is; anything else is left for the checks to refuse.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache

_MARKER = re.compile(
    r"\s*(?:(?:\d{1,2}[.)]|[-•#]+)\s+)?(?:(?:new\s|audio\s)?(?:caption|description)\s?\d{0,2}\s?:\s*)?", re.IGNORECASE
)
_QUOTES = {"'": "'’‘ʼ‛′`´", '"': '"“”„‟«»'}
_PLAIN = str.maketrans(
    {other: plain for plain, others in _QUOTES.items() for other in others if other != "`"}
    | dict.fromkeys("‐‑‒−", "-")
    | dict.fromkeys("—―", " - ")
    | dict.fromkeys("*`[]【】〔〕\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0e\ufe0f")
    | {"_": " ", "…": "...", "（": " (", "）": ") "}
    | {wide: f"{plain} " for wide, plain in zip("，、。：；！？", ",,.:;!?", strict=True)}
)
_EN_DASH = re.compile(r"(?<=\d)\s?–\s?(?=\d)")
_SLASH = re.compile(r"(?<=[^\W\d_])\s?/\s?(?=[^\W\d_])")
_SPACE_BEFORE = re.compile(r"\s+(?=[,.;:!?)])")
_CLAUSE_END = re.compile(r"[,;:.!?](?=\s)|\s-(?=\s)|\s(?=(?:and|while|as|with|before|after|followed)\s)", re.IGNORECASE)
_SYMBOLS = ("So", "Sk")
_KEPT_SYMBOLS = "°\ufffd"


def tidy(text: str, labels: Sequence[str] = ()) -> str:
    """Plain form of a caption or phrase, on one line.

    The labels, normalised, are found whatever their quotes, dashes, case, `_` and `/`, and stand as written here.
    """
    text = unicodedata.normalize("NFC", text)
    parts = _split(text, labels)
    plain = [part if position % 2 else _plain(part) for position, part in enumerate(parts)]
    return _unwrapped(" ".join("".join(plain).split()), labels)


def shorten(text: str, fits: Callable[[str], bool]) -> str:
    """Longest beginning of `text` that ends with a clause and `fits`; `text` itself if none does."""
    beginnings = (text[: match.start()] for match in reversed(list(_CLAUSE_END.finditer(text))))
    return next((one for one in beginnings if one.count("(") == one.count(")") and fits(one)), text)


def _plain(text: str) -> str:
    text = html.unescape(text)
    text = _EN_DASH.sub("-", text).replace("–", " - ").translate(_PLAIN)
    text = "".join(c for c in text if c in _KEPT_SYMBOLS or unicodedata.category(c) not in _SYMBOLS)
    return _SPACE_BEFORE.sub("", _SLASH.sub(" or ", text))


def _split(text: str, labels: Sequence[str]) -> list[str]:
    """Text between labels and labels in turn; the labels as given."""
    if not labels:
        return [text]
    parts, position = [], 0
    for match in _pattern(tuple(labels)).finditer(text):
        parts += [text[position : match.start()], _longest_first(labels)[(match.lastindex or 1) - 1]]
        position = match.end()
    return [*parts, text[position:]]


def _longest_first(labels: Sequence[str]) -> list[str]:
    return sorted(labels, key=lambda label: (-len(label), label))


@lru_cache(maxsize=1024)
def _pattern(labels: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"({_loose(label)})" for label in _longest_first(labels)), re.IGNORECASE)


def _loose(label: str) -> str:
    """Pattern of a label that a model may have typeset otherwise."""
    found = []
    for c in label:
        group = next((others for others in _QUOTES.values() if c in others), "-‐‑‒–" if c in "-‐‑‒–" else "")
        found.append(f"[{re.escape(group)}]" if group else r"[\s_/]+" if c == " " else re.escape(c))
    before = r"(?<!\w)" if label[:1].isalnum() else ""
    after = r"(?!\w)" if label[-1:].isalnum() else ""
    return before + "".join(found) + after


def _unwrapped(text: str, labels: Sequence[str]) -> str:
    """Text without a list marker, the word `Caption:` and quotation marks around it, unless a label has them."""
    bare = _MARKER.sub("", text, count=1)
    if len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "\"'":
        bare = bare[1:-1]
    return bare if all(label not in text.lower() or label in bare.lower() for label in labels) else text
