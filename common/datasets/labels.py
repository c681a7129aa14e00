"""Labels and groups as texts: one spelling each, those that only look different, and those that stand for no value."""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from decimal import Context, Decimal
from typing import NamedTuple

from common.errors import DataError
from common.records.text import normalize_label

MAX_LENGTH = 80
NO_VALUE = frozenset(
    {
        *("#n/a", "#n/a n/a", "#na", "<na>", "\\n", "-1.#ind", "1.#ind", "-1.#qnan", "1.#qnan", "-nan", "[null]"),
        *("#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!", "#spill!", "#error!"),
    }
)
"""What tools write for a missing value or a failed formula, and nobody as the name of a class; in lower case."""
PERHAPS_NO_VALUE = frozenset(
    {
        *("nan", "none", "null", "(null)", "nil", "na", "n/a", "n.a.", "nat", "undefined", "missing", "not available"),
        *("-", "--", "---", "–", "—", "?", "??", "???", ".", "…", "n/d", "tbd", "todo", "inf", "-inf", "infinity"),
    }
)
"""What tools and people write for a missing value, but may also be the name of a class; in lower case."""
_INVISIBLE = dict.fromkeys(
    (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF, 0xAD, 0x180E, 0x34F)
)
"""Characters without width: joiners, directions, byte order mark, soft hyphen."""
_ALIKE = str.maketrans(
    {
        **dict(zip("АВЕКМНОРСТУХЅІЈаеорсухѕіјԁһԛԝӏ", "ABEKMHOPCTYXSIJaeopcyxsijdhqwl", strict=True)),
        **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονρ", "ABEZHIKMNOPTYXovp", strict=True)),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("‘’‛ʼ′`´", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
    }
)
"""Cyrillic and Greek letters that look like Latin ones, and typographic signs."""
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d{1,3})?")
_PLACES = 3
_REMEDIES = {
    "label": "if it is no class, correct or remove these rows; if it is one, name the classes by `classes:` in the "
    "dataset file",
    "group": "these clips are kept in one split; if they have no group, leave the cell empty",
}
_EXACT = Context(prec=4 * MAX_LENGTH)


def stands_for_no_value(text: str) -> bool:
    """Whether tools or people write `text` where a value is missing; it may still be the name of a class."""
    return text.lower() in NO_VALUE or text.lower() in PERHAPS_NO_VALUE


def canonical(text: str) -> str:
    """`text` in NFC without white space, control characters and invisible ones at its ends."""
    if text.isascii() and text.isprintable():
        return text.strip()
    text = unicodedata.normalize("NFC", text)
    edge = "".join({c for c in text if c.isspace() or ord(c) in _INVISIBLE or unicodedata.category(c) == "Cc"})
    return text.strip(edge) if edge else text


def without_invisible(text: str) -> str:
    """`text` without characters that have no width."""
    return text.translate(_INVISIBLE)


def look(text: str) -> str:
    """Key that texts share if they look the same, or are the same number.

    Case, white space, `_`, `/` and hyphens between letters, invisible characters, compatibility forms (full width,
    ligatures), quotation marks and dashes, and letters of other alphabets that look Latin do not count.
    """
    text = unicodedata.normalize("NFKC", without_invisible(text)).translate(_ALIKE)
    text = normalize_label(text)
    if _NUMBER.fullmatch(text):
        return str(Decimal(text.replace(",", ".")).normalize(_EXACT))
    return normalize_label(re.sub(r"(?<=\w)-(?=\w)", " ", text))


class Notice(NamedTuple):
    """What a user should know about the data: a code for counts, a sentence, and whether it tells of the test split."""

    code: str
    message: str
    of_test: bool = False


class Spellings:
    """Spellings of labels, or of groups, before they were made canonical, with the places where they stand."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._places: dict[str, dict[str, list[str]]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, text: str, spelling: str, place: str) -> None:
        """Record that `text` is written as `spelling` at `place`."""
        places = self._places.setdefault(text, {}).setdefault(spelling, [])
        self._counts[text] += 1
        if len(places) < _PLACES and place not in places:
            places.append(place)

    def first(self, text: str) -> str:
        """The first place of `text`, as ` (first in …)`; empty if none was recorded."""
        found = next(iter(self._places.get(text, {}).values()), None)
        return f" (first in {found[0]})" if found else ""

    def notices(self, known: Collection[str] = ()) -> list[Notice]:
        """Notices of texts in several spellings taken as one, and of those that may be no value or several."""
        found, several = [], []
        for text, spellings in self._places.items():
            if len(spellings) > 1:
                named = " and ".join(f"{shown(each)} in {at[0]}" for each, at in list(spellings.items())[:_PLACES])
                message = (
                    f"{self._what} {text!r} has {len(spellings)} spellings, taken as one: {named}; write it one way"
                )
                found.append(Notice("spellings_merged", message))
            if text.lower() in PERHAPS_NO_VALUE and text not in known:
                places = [place for at in spellings.values() for place in at]
                message = (
                    f"{self._what} {text!r} ({self._counts[text]} times, in {', '.join(places[:_PLACES])}) is also "
                    "what tools write for a missing value"
                )
                found.append(Notice("perhaps_no_value", f"{message}; {_REMEDIES[self._what]}"))
            parts = {canonical(part) for part in re.split("[;|,]", text)} - {text}
            if self._what == "label" and text not in known and parts & self._places.keys():
                several.append(f"{text!r}{self.first(text)}")
        if several:
            more = f" (and {len(several) - 1} more like it)" if len(several) > 1 else ""
            message = (
                f"label {several[0]}{more} is one class, but reads like several; if it is several, put ';' or '|' "
                "between them, and `multi_label: true` into the dataset file"
            )
            found.append(Notice("perhaps_several", message))
        return found

    def alike(self) -> list[Notice]:
        """A notice if texts look the same but count as different ones."""
        pair = alike(self._places)
        if pair is None:
            return []
        first, second = (f"{shown(text)}{self.first(text)}" for text in pair)
        message = f"{self._what}s {first} and {second} look the same, but count as two; write each {self._what} one way"
        return [Notice(f"{self._what}s_alike", message)]


def shown(text: str) -> str:
    """`text` in quotes, and in ASCII behind it where it has other characters, which may look alike."""
    return repr(text) if text.isascii() else f"{text!r} ({ascii(text)[1:-1]})"


def check_labels(labels: Iterable[str], where: str, spellings: Spellings) -> None:
    """Check that labels are classes that people and models can tell apart.

    Raises DataError: a label has no printable character or is too long, two look the same, or there is one class only.
    """
    names = sorted(set(labels))
    for label in names:
        text = normalize_label(label)
        if not text:
            raise DataError(f"{where}: label {label!r} has no printable character; rename the class")
        if any(unicodedata.category(character) == "Cc" for character in label):
            raise DataError(
                f"{where}: label {label!r:.60}{spellings.first(label)} holds a control character; check the quotes "
                "around it, or rename the class"
            )
        if len(text) > MAX_LENGTH:
            raise DataError(f"{where}: label {label[:40]!r}… has {len(text)} characters; at most {MAX_LENGTH}")
    if pair := alike(names):
        first, second = (f"{shown(label)}{spellings.first(label)}" for label in pair)
        raise DataError(
            f"{where}: labels {first} and {second} read the same to the models or to people ({look(pair[0])!r}: case, "
            "white space, '_', '/', '-', invisible characters, signs that look alike and the form of a number do not "
            "count); spell one class one way, or name the classes apart"
        )
    if len(names) < 2:
        raise DataError(f"{where}: one class only ({next(iter(names), '')!r}); expected at least two to tell apart")


def alike(texts: Iterable[str]) -> tuple[str, str] | None:
    """The first two texts that look the same; None = all can be told apart."""
    seen: dict[str, str] = {}
    for text in texts:
        # What models read is compared too: invisible characters are white space to them.
        for key in (look(text), normalize_label(text)):
            if seen.setdefault(key, text) != text:
                return seen[key], text
    return None
