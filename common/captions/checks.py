"""Checks of every reply, whichever writer it comes from. Replies are untrusted text."""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from common.captions.reading import read_reply, read_sentence
from common.captions.records import Checked, Elements, Task, prompt_book
from common.captions.tidying import shorten, tidy
from common.config.captions import CheckConfig
from common.records.text import normalize_label

REASON_TEXTS: dict[str, str] = {
    "empty": "it was empty",
    "too_large": "it was far too long",
    "too_deep": "its JSON was nested too deeply",
    "cut_off": "it was cut off before its end, so be brief",
    "refused": "it declined to answer, though the task is harmless: short captions of everyday sounds",
    "content_filter": "a content filter stopped it, so keep to plain words",
    "not_json": "it held no JSON object of the form asked for",
    "schema": "its JSON had other fields or types than asked for",
    "too_few": "it had too few captions",
    "no_label": "a caption lacked the exact label as a phrase",
    "too_long": "a caption had too many words",
    "unprintable": "a caption held control or invisible characters",
    "characters": "a caption held markup, brackets, slashes or other characters that plain sentences do not need",
    "language": "a caption was not in the language asked for",
    "duplicate": "a caption was not new",
}
"""Reason codes with the text sent to the writer; nothing of a reply is ever sent back."""

OTHER_REASON_TEXT = "no usable reply arrived"
LABEL_MARGIN_WORDS = 5

MAX_ELEMENTS = 10
MAX_ELEMENT_WORDS = 8

_PUNCTUATION = frozenset(" ,.;:'’‘\"“”!?()-–—&%°+#")
MIN_WORDS = 2
"""Foreign words needed for a refusal; a single one may be a name or a loan word."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_LISTS = TypeAdapter(dict[str, str])


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether `phrase` occurs in `text` as whole words, after normalising both.

    `dog_bark` is in `a dog bark, far away`; `cat` is not in `catalogue`, `dog bark` not in
    `dog barks`, `dog's bark` or `hot-dog bark`. An empty phrase is in nothing.
    """
    wanted = normalize_label(phrase)
    return bool(wanted) and _phrase_pattern(wanted).search(normalize_label(text)) is not None


def replace_phrase(text: str, phrase: str, by: str) -> str:
    """Normalise `text` and replace every occurrence of `phrase`."""
    wanted = normalize_label(phrase)
    plain = normalize_label(text)
    return " ".join(_phrase_pattern(wanted).sub(lambda _: by, plain).split()) if wanted else plain


@lru_cache(maxsize=4096)
def _phrase_pattern(wanted: str, separator: str = " ") -> re.Pattern[str]:
    before = r"(?<!\w)(?<!\w['’\-])" if re.match(r"\w", wanted) else r"(?<!\S)"
    after = r"(?!\w)(?!['’\-]\w)(?![#+])" if re.search(r"\w$", wanted) else r"(?!\w)"
    return re.compile(before + separator.join(map(re.escape, wanted.split())) + after, re.IGNORECASE)


def check_caption(caption: str, task: Task, checks: CheckConfig) -> str | None:
    """Reason code for refusing `caption`, or None. Duplicates are not checked here; they need the other captions."""
    if not caption.strip():
        return "empty"
    if not caption.strip().isprintable():
        return "unprintable"
    if not all(contains_phrase(caption, label) for label in task.labels):
        return "no_label"
    if len(normalize_label(caption).split()) > max_words(task, checks):
        return "too_long"
    return _check_characters(_raw_without(caption, task.labels), checks.min_ascii_share)


def max_words(task: Task, checks: CheckConfig) -> int:
    """Word limit of a caption; very long labels raise it, because labels are never cut."""
    return max(checks.max_words, sum(len(label.split()) for label in task.labels) + LABEL_MARGIN_WORDS)


def plain_caption(caption: str, labels: Sequence[str] = ()) -> str:
    """Normalise a checked caption: lower case, without a final full stop unless a label needs it."""
    plain = normalize_label(caption)
    short = plain.rstrip(" .")
    return short if all(contains_phrase(short, label) for label in labels if contains_phrase(plain, label)) else plain


def check_text(text: str, max_word_count: int, min_ascii_share: float) -> str | None:
    """Reason code for refusing free text without a required label, or None."""
    if not text.strip():
        return "empty"
    if not text.strip().isprintable():
        return "unprintable"
    if len(text.split()) > max_word_count:
        return "too_long"
    return _check_characters(text, min_ascii_share)


def check_sentence(text: str, max_word_count: int, min_ascii_share: float) -> tuple[str, str | None]:
    """Plain sentence out of a free reply, and the reason code for refusing it; a long one is cut after a clause."""
    found, reason = read_sentence(text)
    if reason is not None:
        return tidy(found), reason
    return _cut(tidy(found), lambda sentence: check_text(sentence, max_word_count, min_ascii_share))


def _cut(text: str, check: Callable[[str], str | None]) -> tuple[str, str | None]:
    """`text`, cut after a clause if it is too long, and what `check` says of it."""
    reason = check(text)
    if reason == "too_long":
        text = shorten(text, lambda beginning: check(beginning) is None)
        reason = check(text)
    return text, reason


def _raw_without(caption: str, labels: Sequence[str]) -> str:
    """Remove the labels from a caption but keep slashes; a label may hold any character, the rest may not."""
    rest = unicodedata.normalize("NFC", caption)
    for label in labels:
        rest = _phrase_pattern(normalize_label(label), r"[\s_/]+").sub(" ", rest)
    return " ".join(rest.split())


def _check_characters(text: str, min_ascii_share: float) -> str | None:
    if any(not (c.isalnum() or c in _PUNCTUATION) for c in text):
        return "characters"
    letters = [c for c in text if c.isalpha()]
    # The base letter of `é` is `e`, so loan words count as English and other scripts do not.
    ascii_letters = sum(unicodedata.normalize("NFKD", c)[0] in string.ascii_letters for c in letters)
    if letters and ascii_letters < min_ascii_share * len(letters):
        return "language"
    return "language" if in_other_language(text, prompt_book().language) else None


def check_reply(text: str, task: Task, checks: CheckConfig) -> Checked:
    """Read a reply and keep the valid pieces, made plain; a caption that is too long is cut after a clause.

    Never raises, whatever the text.
    """
    if len(text) > checks.max_reply_bytes or len(text.encode("utf-8", "replace")) > checks.max_reply_bytes:
        return Checked(reasons=("too_large",), complete=False)
    if not text.strip():
        return Checked(reasons=("empty",), complete=False)
    found = read_reply(text, task.prompt == "extract", checks.max_depth)
    reasons = [found.reason] if found.reason else []
    if task.prompt == "extract":
        if found.elements is None:
            return Checked(reasons=tuple(reasons), complete=False)
        return _checked_elements(found.elements, task, checks, reasons)
    kept: list[str] = []
    for caption in found.captions[: 4 * task.count]:
        plain, reason = _cut(tidy(caption, task.labels), lambda text: check_caption(text, task, checks))
        if reason:
            reasons.append(reason)
        else:
            kept.append(plain_caption(plain, task.labels))
    if len(found.captions) < task.count and not found.reason:
        reasons.append("too_few")
    complete = len(kept) >= task.count
    if complete and found.reason:
        reasons.remove(found.reason)
    return Checked(captions=tuple(kept), reasons=tuple(reasons), complete=complete)


def _checked_elements(reply: Elements, task: Task, checks: CheckConfig, reasons: list[str]) -> Checked:
    kept: dict[str, tuple[str, ...]] = {}
    for kind, phrases in (("events", reply.events), ("scenes", reply.scenes)):
        good: dict[str, None] = {}
        for phrase in map(tidy, phrases[:MAX_ELEMENTS]):
            if any(contains_phrase(phrase, label) for label in task.labels):
                continue
            reason = check_text(phrase, MAX_ELEMENT_WORDS, checks.min_ascii_share)
            if reason:
                reasons.append(f"element_{reason}")
            else:
                good[plain_caption(phrase)] = None
        kept[kind] = tuple(good)
    return Checked(elements=Elements(**kept), reasons=tuple(reasons), complete=True)


def in_other_language(text: str, language: str) -> bool:
    """Whether `text` has more function words of one other language than of `language`, and at least `MIN_WORDS`.

    Captions are too short for letter statistics, which misjudge `a loud hum, hiss`. A caption without function
    words is never refused. Labels, which may be in any language, are no part of `text`.
    """
    words = {word.replace("’", "'") for word in _WORD.findall(text.lower())}
    lists = _function_words()
    own = lists[language.lower()]
    counts = [len(words & listed - own) for name, listed in lists.items() if name != language.lower()]
    most = max(counts, default=0)
    return most >= MIN_WORDS and most > len(words & own)


@cache
def _function_words() -> dict[str, frozenset[str]]:
    text = Path(__file__).with_name("languages.yaml").read_text(encoding="utf-8")
    return {name: frozenset(words.split()) for name, words in _LISTS.validate_python(yaml.safe_load(text)).items()}
