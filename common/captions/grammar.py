"""The embedded writer: a seeded grammar of events, attributes of the source, and backgrounds.

It needs no model, never reads audio, and uses the vocabulary of the built-in corpus's captions,
so that the small text-to-audio model knows the words. Captions are
`sound of a {attributes} {label} {tempo} {event} {background}` and the like.
"""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal

import numpy as np

from common.captions.checks import MAX_ELEMENT_WORDS, MAX_ELEMENTS, contains_phrase, max_words, replace_phrase
from common.captions.records import Elements, Reply, Request, Task
from common.config.captions import CheckConfig, GrammarConfig
from common.procedural import words
from common.records.text import template_caption
from common.runtime.seeding import numpy_generator

NAME = "grammar/1"

Slot = Literal["loudness", "texture", "pitch", "tempo", "event", "background"]
Slots = dict[Slot, str]

_ADJECTIVES: tuple[Slot, ...] = ("loudness", "texture", "pitch")
_ORDER: tuple[Slot, ...] = (*_ADJECTIVES, "tempo", "event", "background")
_WORDS: dict[Slot, tuple[str, ...]] = {
    "loudness": tuple(chain.from_iterable(words.LOUDNESS_WORDS.values())),
    "texture": tuple(chain.from_iterable(words.TEXTURE_WORDS.values())),
    "pitch": tuple(chain.from_iterable(words.PITCH_WORDS.values())),
    "tempo": tuple(chain.from_iterable(words.TEMPO_WORDS.values())),
    "background": tuple(chain.from_iterable(words.BACKGROUND_WORDS.values())),
}
_SLOT_OF: dict[str, Slot] = {word: slot for slot, listed in _WORDS.items() for word in listed}
_KNOWN_LONGEST_FIRST = sorted(_SLOT_OF, key=lambda word: (-len(word), word))

_BEHIND = re.compile(r"\b(?:with|over|and)\s+([^,]+?)\s+(?:in the background|behind it|in the distance)")
_PLACE = re.compile(
    r"\b((?:in|at|near|inside|outside|on|under)\s+(?:a|an|the)\s+(?:(?!\b(?:and|with|while|over|then)\b)[^,;])+)"
)
_SPLIT = re.compile(r",|;|\band\b|\bwith\b|\bwhile\b|\bover\b|\bthen\b|\bfollowed by\b")
_FILLERS = (
    "a an the of and with is are in on it its this that as to there sound sounds recording noise being can be heard "
    "background behind distance very"
)
_EMPTY_WORDS = frozenset(_FILLERS.split())
_OPENING_WORDS = frozenset(("and", "is", "are", "of", "with", "the", "that"))


class GrammarWriter:
    """A `CaptionWriter` that needs only a seed."""

    name = NAME

    def __init__(self, grammar: GrammarConfig, checks: CheckConfig) -> None:
        self._grammar, self._checks = grammar, checks

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of each request, in order."""
        for index, request in enumerate(requests):
            task = request.task
            reply: dict[str, Sequence[str]]
            if task.prompt == "extract":
                found = extract_elements(task.caption, task.labels)
                reply = {"events": found.events, "scenes": found.scenes}
            else:
                reply = {"captions": [self.caption(task, n, request.attempt) for n in range(task.count)]}
            yield index, Reply(text=json.dumps(reply, ensure_ascii=False))

    def caption(self, task: Task, position: int, attempt: int = 0) -> str:
        """Compose caption number `position` of a task; each `attempt` gives another one, richer from the 20th on."""
        rng = numpy_generator(task.seed, "grammar", task.task_id, position, attempt)
        most = self._grammar.max_elements if attempt < 20 else len(_ORDER)
        slots = _compose(task, rng, self._grammar.reuse_share, most)
        return _render(task.labels, slots, rng, self._grammar.template_share, max_words(task, self._checks))


def extract_elements(caption: str, labels: Sequence[str]) -> Elements:
    """Extract events and scenes of a caption without its labels: known words first, then the rest between commas."""
    rest = caption
    for label in labels:
        rest = replace_phrase(rest, label, ",")
    events: dict[str, None] = {}
    scenes: dict[str, None] = {}
    for word in _KNOWN_LONGEST_FIRST:
        if contains_phrase(rest, word):
            (scenes if _SLOT_OF[word] == "background" else events)[word] = None
            rest = replace_phrase(rest, word, ",")
    for pattern in (_BEHIND, _PLACE):
        for match in pattern.finditer(rest):
            scenes |= dict.fromkeys(_content(match.group(1)))
        rest = pattern.sub(",", rest)
    for fragment in _SPLIT.split(rest):
        events |= dict.fromkeys(_content(fragment))
    return Elements(events=tuple(sorted(events)[:MAX_ELEMENTS]), scenes=tuple(sorted(scenes)[:MAX_ELEMENTS]))


def _content(fragment: str) -> tuple[str, ...]:
    """Strip filler words in front; empty when no content word is left or the fragment is too long."""
    listed = fragment.strip(" .,;:").split()
    if not listed or len(listed) > MAX_ELEMENT_WORDS or all(word in _EMPTY_WORDS for word in listed):
        return ()
    while listed and listed[0] in _OPENING_WORDS:
        listed.pop(0)
    return (" ".join(listed),)


def _by_slot(elements: Elements) -> dict[Slot, list[str]]:
    found: dict[Slot, list[str]] = {}
    for text in elements.events:
        found.setdefault(_SLOT_OF.get(text, "event"), []).append(text)
    for text in elements.scenes:
        found.setdefault(_SLOT_OF.get(text, "background"), []).append(text)
    return found


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _compose(task: Task, rng: np.random.Generator, reuse_share: float, most: int) -> Slots:
    """Elements of a caption: of the pool or the clip's own caption, at least one if there is any, and new words."""
    if task.prompt == "revise":
        return _go_beyond(task, rng, most)
    pool = {}
    if task.prompt == "mixcap":
        pool = _by_slot(Elements(events=task.events, scenes=task.scenes))
    elif task.prompt == "plain":
        pool = _by_slot(extract_elements(task.caption, task.labels))
    slots: Slots = {}
    open_slots: list[Slot] = [slot for slot in _ORDER if slot in pool or slot in _WORDS]
    count = int(rng.integers(1, most + 1))
    if pool:
        slot = sorted(pool)[int(rng.integers(len(pool)))]
        slots[slot] = _pick(rng, pool[slot])
    for index in rng.permutation(len(open_slots)):
        slot = open_slots[index]
        if len(slots) >= count:
            break
        if slot in slots:
            continue
        reused = slot in pool and (slot not in _WORDS or rng.uniform() < reuse_share)
        slots[slot] = _pick(rng, pool[slot] if reused else _WORDS[slot])
    return slots


def _go_beyond(task: Task, rng: np.random.Generator, most: int) -> Slots:
    """Replace the rejected caption's elements by words that are neither its own nor in the accepted pool."""
    own = _by_slot(extract_elements(task.caption, task.labels))
    taken = {*task.events, *task.scenes, *chain.from_iterable(own.values())}
    wanted: set[Slot] = set(own)
    if not wanted or most >= len(_ORDER):
        wanted |= {_ORDER[int(rng.integers(len(_ORDER)))] for _ in range(most)}
    slots: Slots = {}
    for slot in sorted(wanted):
        beyond = [word for word in _WORDS.get(slot, ()) if word not in taken]
        if beyond:
            slots[slot] = _pick(rng, beyond)
    return slots


def _render(labels: Sequence[str], slots: Slots, rng: np.random.Generator, template_share: float, limit: int) -> str:
    """Render a caption of at most `limit` words; elements that do not fit are dropped, the label never."""
    form = "template" if rng.uniform() < template_share else ("tags" if rng.uniform() < 1 / 3 else "sentence")
    frame = _pick(rng, words.BACKGROUND_PHRASES)
    kept = dict(slots)
    while True:
        caption = _tags(labels, kept) if form == "tags" else _sentence(labels, kept, frame, form == "template")
        if not kept or len(caption.split()) <= limit:
            return caption
        kept.popitem()


def _tags(labels: Sequence[str], slots: Slots) -> str:
    return ", ".join([*labels, *(slots[slot] for slot in _ORDER if slot in slots)])


def _sentence(labels: Sequence[str], slots: Slots, frame: str, like_template: bool) -> str:
    name = " and ".join(labels)
    adjectives = " ".join(slots[slot] for slot in _ADJECTIVES if slot in slots)
    described = f"{adjectives} {name}".strip()
    if like_template:
        parts = [template_caption(described)]
    else:
        parts = [f"{'an' if described[0] in 'aeiou' else 'a'} {described}"]
    if "tempo" in slots:
        parts.append(slots["tempo"])
    if "event" in slots:
        parts.append(f"with {slots['event']}")
    if "background" in slots:
        background = slots["background"]
        parts.append(background if _PLACE.match(background) else frame.format(background))
    return " ".join(parts)
