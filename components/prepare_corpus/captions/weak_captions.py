"""Weak captions: AudioSet's class names in varied wording, for clips without a human caption."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from common.runtime.seeding import derive_seed

MAX_EVENTS = 5
"""Ours: more classes make no better prompt; the first ones are kept."""

_ONE = (
    "{a}",
    "the sound of {a}",
    "sounds of {a}",
    "a recording of {a}",
    "an audio clip of {a}",
    "{a} can be heard",
    "{a} is heard",
    "one can hear {a}",
)
_SEVERAL = (
    "{all}",
    "the sounds of {all}",
    "a recording of {all}",
    "an audio clip with {all}",
    "{all} can be heard",
    "{a} with {rest}",
    "{a}, along with {rest}",
    "{a} together with {rest}",
    "{a} and, at the same time, {rest}",
    "a mix of {all}",
)
_SETTINGS = {
    "inside, small room": ("in a small room", "inside a small room", "indoors, in a small room"),
    "inside, large room or hall": ("in a large room", "in a hall", "inside a large hall"),
    "inside, public space": ("in a public space", "indoors, in a public space"),
    "outside, urban or manmade": ("outdoors in the city", "in a city", "outside in an urban area"),
    "outside, rural or natural": ("outdoors in nature", "in the countryside", "outside in a rural area"),
    "reverberation": ("with reverberation", "in a reverberant place"),
    "echo": ("with an echo", "echoing"),
    "background noise": ("with background noise", "over background noise"),
    "environmental noise": ("with environmental noise", "over environmental noise"),
    "background music": ("with background music", "over background music"),
}
_WORDING = {
    "fill (with liquid)": ("a container being filled with liquid", "liquid filling a container"),
    "sink (filling or washing)": ("a sink being filled", "washing in a sink"),
    "bathtub (filling or washing)": ("a bathtub being filled", "washing in a bathtub"),
    "roaring cats (lions, tigers)": ("roaring big cats", "a roaring lion", "a roaring tiger"),
    "canidae, dogs, wolves": ("dogs", "wolves"),
    "donkey, ass": ("a donkey",),
    "cattle, bovinae": ("cattle",),
    "bee, wasp, etc.": ("a bee", "a wasp"),
    "tapping (guitar technique)": ("tapping on a guitar",),
    "scratching (performance technique)": ("a turntable being scratched", "record scratching"),
    "change ringing (campanology)": ("change ringing of bells", "church bells ringing in turn"),
    "fire engine, fire truck (siren)": ("a fire engine siren", "the siren of a fire truck"),
    "coin (dropping)": ("a dropping coin", "coins being dropped"),
    "filing (rasp)": ("filing with a rasp", "a rasp"),
}
_OPENING = re.compile(r"^(.+?) \((.+)\)$")


def write_weak_caption(labels: Sequence[str], clip_id: str, seed: int) -> str:
    """Caption that names the sounds of a clip.

    The wording (sentence, order, synonym of a class) is seeded by the clip id, so that it depends neither on the order
    of clips nor on other captions. Acoustic settings (indoors, echo) end the sentence.

    Args:
        labels: AudioSet display names, such as `Male speech, man speaking`; see `Ontology.names`.

    Raises ValueError: no labels.
    """
    if not labels:
        raise ValueError("a caption needs at least one label")
    rng = random.Random(derive_seed(seed, "weak caption", clip_id))
    # Without duplicates, in the order given.
    names = list(dict.fromkeys(" ".join(label.replace("_", " ").lower().split()) for label in labels))
    settings = [name for name in names if name in _SETTINGS]
    events = [_wording(name, rng) for name in names if name not in _SETTINGS][:MAX_EVENTS]
    if not events:
        return f"a recording {rng.choice(_SETTINGS[settings[0]])}"
    rng.shuffle(events)
    if len(events) == 1:
        sentence = rng.choice(_ONE).format(a=events[0])
    else:
        sentence = rng.choice(_SEVERAL).format(a=events[0], rest=_listed(events[1:]), all=_listed(events))
    return f"{sentence} {rng.choice(_SETTINGS[rng.choice(settings)])}" if settings else sentence


def _wording(name: str, rng: random.Random) -> str:
    if name in _WORDING:
        return rng.choice(_WORDING[name])
    match = _OPENING.match(name)
    if match:
        # `chopping (food)` is food chopping, but `police car (siren)` a police car siren.
        name = f"{match[1]} {match[2]}" if match[2] == "siren" else f"{match[2]} {match[1]}"
    return rng.choice([part.removeprefix("and ") for part in name.split(", ")])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
