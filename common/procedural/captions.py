"""Weak captions of procedural clips: varied in wording, and true to the audio."""

import numpy as np

from common.procedural import words
from common.procedural.clips import ClipAttributes
from common.records.text import normalize_label, template_caption

_FORMS = (("template", 0.22), ("spelled", 0.1), ("tags", 0.15), ("plain", 0.13), ("described", 0.4))


def write_caption(label: str, rng: np.random.Generator, attributes: ClipAttributes | None = None) -> str:
    """Write one caption, lower case; says no more than `attributes` (without them, nothing but the label).

    About a fifth are the template of prompts and scoring, a tenth spell the label letter by letter
    (`b e e p` or `b-e-e-p`), so that the letters of unseen labels are trained.
    """
    name = normalize_label(label)
    form = str(rng.choice([form for form, _ in _FORMS], p=[share for _, share in _FORMS]))
    if form == "template":
        return template_caption(name)
    if form == "spelled":
        return template_caption(spell(name, "-" if rng.uniform() < 0.5 else " "))
    if attributes is None or form == "plain":
        return str(rng.choice([_with_article(name), name, f"{name} sound", f"the sound of {_with_article(name)}"]))
    if form == "tags":
        return ", ".join([name, *_tags(attributes, rng)])
    return _sentence(name, attributes, rng)


def spell(label: str, separator: str = " ") -> str:
    """Spell a label letter by letter, each word separately: `beep` → `b e e p`."""
    return " ".join(separator.join(word) for word in label.split())


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return str(rng.choice(choices)) if choices else ""


def _with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _tags(attributes: ClipAttributes, rng: np.random.Generator) -> list[str]:
    tags = [_pick(rng, words.PITCH_WORDS[attributes.pitch]), _pick(rng, words.TEXTURE_WORDS[attributes.texture])]
    if attributes.background:
        tags.append(_pick(rng, words.BACKGROUND_WORDS.get(attributes.background, (attributes.background,))))
    kept = [tag for tag in tags if tag and rng.uniform() < 0.7]
    return [str(tag) for tag in rng.permutation(kept)] if kept else []


def _sentence(name: str, attributes: ClipAttributes, rng: np.random.Generator) -> str:
    adjectives = [
        _pick(rng, words.LOUDNESS_WORDS[attributes.loudness]),
        _pick(rng, words.TEXTURE_WORDS[attributes.texture]),
        _pick(rng, words.PITCH_WORDS[attributes.pitch]),
    ]
    kept = [adjective for adjective in adjectives if adjective and rng.uniform() < 0.6]
    parts = [_with_article(" ".join([*kept, name]))]
    if rng.uniform() < 0.6:
        parts.append(_pick(rng, words.TEMPO_WORDS[attributes.tempo]))
    if attributes.background and rng.uniform() < 0.75:
        phrase = _pick(rng, words.BACKGROUND_PHRASES)
        choices = words.BACKGROUND_WORDS.get(attributes.background, (_with_article(attributes.background),))
        parts.append(phrase.format(_pick(rng, choices)))
    return " ".join(parts)
