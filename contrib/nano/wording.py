"""Captions and labels of recordings, worded from the names and labels that collections give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from common.procedural.captions import spell
from common.records.text import label_prompts, normalize_label, template_caption


class Wording(NamedTuple):
    """What may be said of a recording.

    Attributes:
        label: what it is, in the corpus' own words; None where the name does not tell.
        told: captions from its name, at least one.
        named: captions from its label; empty without one.
    """

    label: str | None
    told: tuple[str, ...]
    named: tuple[str, ...] = ()

    def captions(self, clip: int, count: int) -> tuple[str, ...]:
        """`count` captions of clip number `clip`, told and named in turn; the next clip gets other ones."""
        pools = [pool for pool in (self.told, self.named) if pool]
        turns = (divmod(turn, len(pools)) for turn in range(clip * count, (clip + 1) * count))
        return tuple(dict.fromkeys(pools[kind][place % len(pools[kind])] for place, kind in turns))

    def shuffled(self, rng: np.random.Generator) -> Wording:
        """The same in another order."""
        return Wording(self.label, _permuted(self.told, rng), _permuted(self.named, rng))


@cache
def read_table(name: str) -> dict[str, Any]:
    """A table of words beside this module."""
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    return table


def concept_of(name: str) -> str | None:
    """The concept (`concepts.yaml`) that a name speaks of, if any: `dog bark` → `dog`."""
    words = f" {' '.join(re.findall(r'[a-z-]+', name.lower()))} "
    for concept, entry in read_table("concepts").items():
        if any(f" {word} " in words for word in (concept, *entry.get("words", ()))):
            return str(concept)
    return None


def word_sound(name: str, label: str | None) -> Wording:
    """Word a recording of a sound, an instrument, an effect.

    Args:
        name: such as `gravel, footsteps`.
        label: the collection's own, in the corpus' words; None = found from the name.
    """
    name = _in_place(name)
    phrase, label = _spelled(name), label or concept_of(name)
    if label is None:
        return Wording(None, (phrase, f"sound of {phrase}", f"{phrase} can be heard"))
    sentences = read_table("concepts").get(label, {}).get("said", ())
    told = (phrase, *sentences, *([] if label in phrase else [f"{label}, {phrase}"]))
    return Wording(label, tuple(dict.fromkeys(told)), name_label(label))


def name_label(label: str) -> tuple[str, ...]:
    """Captions that hold a label alone, among them the prompts of scoring and the label letter by letter."""
    return (*label_prompts(label), template_caption(spell(label)))


def common_label(label: str) -> str | None:
    """What the corpus calls a label of a collection: `hi_hat` → `hi-hat`; None where it says too little."""
    return read_table("wording")["labels"].get(label, normalize_label(label)) or None


def word_speech(caption: str, label: str) -> Wording:
    """Word an utterance in some language, such as `a person saying the letter a-14 in Danish`."""
    table = read_table("wording")
    head, _, language = caption.rpartition(" in ")
    if head:
        caption = f"{head} in {table['languages'].get(language, language)}"
    caption = re.sub(r"-\d+(?= in )", "", caption)
    caption = re.sub(r"\bthe (letter|syllable|number) in\b", r"a \1 in", caption)
    quoted = re.search(r'"(.*)"', caption)
    if quoted:
        said = " ".join(word for word in quoted[1].split() if word not in table["scenes"])
        told = [f'a person saying "{said}"', f"a voice says {said}", f'speech, "{said}"']
        if label.startswith("speech") and " " in said:  # the name of a file, not what is said in it
            told = ["a person speaking English", "someone speaks English"]
    else:
        told = [caption, caption.replace("a person saying", "a voice says"), caption.replace("a person", "someone")]
    return Wording("speech", tuple(dict.fromkeys(told)), ("a person speaking", "human voice", *name_label("speech")))


def word_word(word: str, speaker: str = "person") -> Wording:
    """Word a spoken word; a word that names a sound as well is never a caption or label alone."""
    told = (f'a {speaker} saying "{word}"', f"a {speaker} says {word}", f'the spoken word "{word}"', f"speech, {word}")
    if concept_of(word):
        return Wording(f"spoken {word}", told)
    return Wording(word, told, name_label(word))


def _in_place(name: str) -> str:
    """`gravel, footsteps` → `footsteps on gravel`; the name of a game behind the comma is left out."""
    head, comma, place = name.rpartition(", ")
    if not comma:
        return name
    form = read_table("wording")["places"].get(place)
    return form.format(head) if form else name if _is_sentence(head) else head


def _spelled(name: str) -> str:
    spellings = read_table("wording")["spellings"]
    words = re.sub(r"[+~_]|(?<=[a-z]{2})\d+$", " ", name.lower()).split()
    spelled = " ".join(filter(None, (spellings.get(word, word) for word in words)))
    return spelled if re.search("[a-z]", spelled) else "a sound effect"


def _is_sentence(head: str) -> bool:
    """Whether the part before the comma is a sentence (`a door closing`), whose rest adds to it."""
    return (
        re.match(r"(an?|the|something|someone|footsteps|fire|acoustic guitar|malevoices?|femalevoices?|drum)\b", head)
        is not None
    )


def _permuted(items: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    return tuple(items[place] for place in rng.permutation(len(items)))
