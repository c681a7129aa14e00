"""Constrained decoding: a local model writes the JSON that was asked for, with captions that pass the checks."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from transformers import LogitsProcessor

from common.captions.checks import MAX_ELEMENT_WORDS, check_caption, check_text, contains_phrase, max_words
from common.captions.records import Task
from common.config.captions import CheckConfig

MAX_PHRASES = 5
"""Elements of a kind; a list may be shorter, or empty."""
MAX_MORE = 5
"""Captions beyond those asked for, which are not used; forbidding them would make a model spoil its last one."""
LONGEST_WORD = 24
CHARACTERS_PER_WORD = 10
TRIED_TOKENS = 256
"""Likeliest tokens that are tried before the end of the text is written for the model."""

_SPACE = re.compile(r"\s+")
_INDENT = re.compile(r"\n? {0,8}")


class _Outline(NamedTuple):
    """One outline of a reply: its JSON with empty strings and without spaces, and its keys by number of the string."""

    shape: str
    keys: dict[int, str]


class ReplyForm:
    """The replies to a task that the checks accept, character by character.

    Every text that `begins` accepts can be ended so that `whole` accepts it; `ending` is one way.
    """

    def __init__(self, task: Task, checks: CheckConfig) -> None:
        self._task, self._checks = task, checks
        if task.prompt == "extract":
            self._outlines = _element_outlines()
            self._longest = MAX_ELEMENT_WORDS * CHARACTERS_PER_WORD
        else:
            counts = range(task.count, task.count + MAX_MORE + 1)
            self._outlines = tuple(
                _Outline('{"":[' + ",".join(['""'] * count) + "]}", {0: "captions"}) for count in counts
            )
            self._longest = max_words(task, checks) * CHARACTERS_PER_WORD + sum(map(len, task.labels))
        self._longest_word = max(LONGEST_WORD, *(len(word) for label in task.labels for word in label.split()))
        self._good = lru_cache(maxsize=512)(self._is_good)
        self._open = lru_cache(maxsize=512)(self._can_be_good)

    @property
    def usable(self) -> bool:
        """Whether the captions need no escapes in JSON; otherwise the model writes freely."""
        return not any(c in label for label in self._task.labels for c in '"\\')

    def begins(self, text: str) -> bool:
        """Whether a good reply can begin with `text`."""
        return self._outline(text) is not None

    def whole(self, text: str) -> bool:
        """Whether `text` is a good reply."""
        return text.rstrip().endswith("}") and self.begins(text)

    def ending(self, text: str) -> str:
        """What may follow `text`, which `begins`, up to the next quotation mark; empty for a whole reply."""
        outline = self._outline(text)
        if outline is None:
            return ""
        outside, inside, is_open = _parts(text)
        if is_open:
            key = outline.keys.get(len(inside) - 1)
            end = key if key is not None else next(filter(self._good, self._ends(inside[-1])))
            return end[len(inside[-1]) :] + '"'
        rest = outline.shape[len(_shape(outside, is_open)) :]
        return rest[: rest.index('"') + 1] if '"' in rest else rest

    def _outline(self, text: str) -> _Outline | None:
        outside, inside, is_open = _parts(text)
        if not all(_INDENT.fullmatch(space) for part in outside for space in _SPACE.findall(part)):
            return None
        shape = _shape(outside, is_open)
        for outline in self._outlines:
            if outline.shape.startswith(shape) and all(
                self._fits(string, outline.keys.get(number), is_open and number == len(inside) - 1)
                for number, string in enumerate(inside)
            ):
                return outline
        return None

    def _fits(self, string: str, key: str | None, is_open: bool) -> bool:
        if key is not None:
            return key.startswith(string) if is_open else key == string
        return self._open(string) if is_open else self._good(string)

    def _can_be_good(self, string: str) -> bool:
        spaced = string[:1] == " " or "  " in string or not string.isprintable()
        return not string or (not spaced and any(map(self._good, self._ends(string))))

    def _is_good(self, string: str) -> bool:
        if len(string) > self._longest or "  " in string or any(len(w) > self._longest_word for w in string.split()):
            return False
        if self._task.prompt == "extract":
            return check_text(string, MAX_ELEMENT_WORDS, self._checks.min_ascii_share) is None
        return check_caption(string, self._task, self._checks) is None

    def _ends(self, string: str) -> Iterator[str]:
        """Ways to end an open string: as it is, or with the labels that it lacks."""
        lacking = [label for label in self._task.labels if not contains_phrase(string, label)]
        if self._task.prompt == "extract" or not lacking:
            yield string
            return
        for label in lacking:
            others = sorted((other for other in lacking if not contains_phrase(label, other)), key=len)
            rest = "".join(f" and {other}" for other in others)
            for length in range(len(label), -1, -1):
                if string.lower().endswith(label[:length]):
                    yield string + label[length:] + rest
            yield f"{string.rstrip()} {label}{rest}"


@lru_cache(maxsize=1)
def _element_outlines() -> tuple[_Outline, ...]:
    lists = [",".join(['""'] * count) for count in range(MAX_PHRASES + 1)]
    return tuple(
        _Outline(f'{{"":[{one}],"":[{other}]}}', {0: "events", 1 + events: "scenes"})
        for events, one in enumerate(lists)
        for other in lists
    )


def _parts(text: str) -> tuple[list[str], list[str], bool]:
    """Text outside strings, text of the strings, and whether the last string is still open."""
    parts = text.split('"')
    return parts[0::2], parts[1::2], len(parts) % 2 == 0


def _shape(outside: Sequence[str], is_open: bool) -> str:
    return '""'.join("".join(part.split()) for part in outside) + ('"' if is_open else "")


class KeepToForm(LogitsProcessor):
    """Leaves each row the likeliest token that continues a good reply, and the end token after a whole one.

    After `SeededSampling` that token is a draw from the model's distribution over the tokens that fit.

    Args:
        forms: of each row; None = the row writes freely.
        prompt_tokens: length of the prompt, padding included.
    """

    def __init__(
        self, tokenizer: Any, forms: Sequence[ReplyForm | None], prompt_tokens: int, ends: Sequence[int]
    ) -> None:
        self._tokenizer, self._forms, self._start, self._ends = tokenizer, forms, prompt_tokens, ends

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)` with the chosen token alone above minus infinity; unchanged where none fits."""
        kept = scores.clone()
        for row, form in enumerate(self._forms):
            written = input_ids[row, self._start :].tolist()
            if form is None or (written and written[-1] in self._ends):
                continue
            token = self._token(form, written, scores[row])
            if token is not None:
                kept[row] = float("-inf")
                kept[row, token] = 0.0
        return kept

    def _token(self, form: ReplyForm, written: list[int], scores: torch.Tensor) -> int | None:
        text = self._text(written)
        if form.whole(text):
            return self._ends[0] if self._ends else None
        for token in self._tried(scores, form, text):
            longer = self._text([*written, token])
            if longer != text and form.begins(longer):
                return token
        return None

    def _tried(self, scores: torch.Tensor, form: ReplyForm, text: str) -> Iterator[int]:
        yield int(scores.argmax())
        yield from scores.topk(min(TRIED_TOKENS, len(scores))).indices.tolist()[1:]
        # What no likely token continues is ended for the model, token by token.
        yield from map(int, self._tokenizer.encode(form.ending(text), add_special_tokens=False)[:2])

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
