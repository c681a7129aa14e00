from __future__ import annotations

import json
import unicodedata

import pytest

from common.captions.checks import check_caption, check_reply, contains_phrase, plain_caption, replace_phrase
from common.captions.records import Task
from common.config.captions import CheckConfig

CHECKS = CheckConfig()


def task(label: str = "dog bark", count: int = 1, **fields: object) -> Task:
    return Task.model_validate(
        {"task_id": "t", "prompt": "label_only", "labels": (label,), "count": count, "seed": 0} | fields
    )


@pytest.mark.parametrize(
    ("text", "phrase", "present"),
    [
        ("a dog_bark, far away", "dog bark", True),
        ("A DOG BARK.", "dog_bark", True),
        ("the 'dog bark' of a hound", "dog bark", True),
        ("dog barks", "dog bark", False),
        ("dog's bark", "dog bark", False),
        ("a dog bark's echo", "dog bark", False),
        ("hot-dog bark", "dog bark", False),
        ("dog and bark", "dog bark", False),
        ("a catalogue", "cat", False),
        ("rain,wind and snow", "rain", True),
        ("c# is not c", "c#", True),
        ("c++", "c", False),
        ("c# only", "c", False),
        ("the sound of a c++, loud", "c++", True),
        ("cafe\u0301 noise", "caf\u00e9", True),
        ("犬の鳴き声 in a park", "犬の鳴き声", True),
        ("anything", "", False),
    ],
)
def test_a_phrase_is_found_word_by_word(text: str, phrase: str, present: bool) -> None:
    assert contains_phrase(text, phrase) is present


def test_replacing_a_phrase_leaves_the_rest() -> None:
    assert replace_phrase("A dog_bark and a dog barks", "dog bark", ",") == "a , and a dog barks"


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a dog bark in a café", None),
        ("a dog bark " + "far " * 22 + "away", "too_long"),
        ("a dog bark " + "far " * 22, None),
        ("  ", "empty"),
        ("a dog\nbark", "unprintable"),
        ("a dog bark\u200b", "unprintable"),
        ("a dog bark <b>", "characters"),
        ("a dog bark / cat", "characters"),
        ("a dog bark 😀", "characters"),
        ("dog bark: громкий лай", "language"),
        ("ein dog bark im park mit lautem wind", "language"),
        ("un dog bark en el parque", "language"),
        ("un dog bark dans la rue avec du vent", "language"),
        ("dog bark di taman dengan angin", "language"),
        ("a dog bark on the autobahn", None),
        ("dog bark, distant, hiss", None),
        ("a cat", "no_label"),
    ],
)
def test_a_caption_is_refused_with_a_reason(caption: str, reason: str | None) -> None:
    assert check_caption(caption, task(), CHECKS) == reason


@pytest.mark.parametrize("label", ["<b>x</b>", "犬の鳴き声", ".. .. etc passwd", "r&b / soul", "what?!", "etc.", "ß"])
def test_a_label_may_hold_any_character_and_any_script(label: str) -> None:
    from common.records.text import normalize_label

    one = task(normalize_label(label))
    caption = f"sound of a {normalize_label(label)}"
    assert check_caption(caption, one, CHECKS) is None
    assert contains_phrase(plain_caption(caption, one.labels), label)


def test_a_label_longer_than_the_limit_is_kept_whole() -> None:
    label = " ".join(f"word{n}" for n in range(40))
    assert check_caption(f"sound of a {label}", task(label), CHECKS) is None
    assert check_caption(f"sound of a {label} " + "more " * 20, task(label), CHECKS) == "too_long"


@pytest.mark.parametrize("prompt", ["mixcap", "plain", "label_only", "revise"])
def test_a_caption_of_a_clip_with_several_labels_needs_every_one_as_a_phrase(prompt: str) -> None:
    clip = task(labels=("rain", "church bell", "siren"), prompt=prompt)
    assert check_caption("a siren and a church bell in rain", clip, CHECKS) is None
    assert check_caption("a church bell in rain", clip, CHECKS) == "no_label"
    assert check_caption("a siren, a bell and rain", clip, CHECKS) == "no_label"


def test_labels_of_one_clip_that_are_long_together_raise_the_limit_of_words() -> None:
    labels = tuple(" ".join(f"{name}{n}" for n in range(9)) for name in "abc")
    assert check_caption(" and ".join(labels), task(labels=labels, prompt="mixcap"), CHECKS) is None


def test_elements_of_a_clip_with_several_labels_name_none_of_them() -> None:
    reply = json.dumps({"events": ["rain on a roof", "a loud siren", "footsteps"], "scenes": []})
    checked = check_reply(reply, task(labels=("rain", "siren"), prompt="extract"), CHECKS)
    assert checked.elements.events == ("footsteps",)


def test_brackets_inside_strings_are_no_depth() -> None:
    reply = json.dumps({"captions": ["[" * 50 + '"} dog bark']})
    assert check_reply(reply, task(), CHECKS).reasons == ("characters",)


def test_more_captions_than_asked_for_cannot_flood() -> None:
    reply = json.dumps({"captions": [f"dog bark {n}" for n in range(1000)]})
    assert len(check_reply(reply, task(count=2), CHECKS).captions) <= 8


def test_elements_lose_the_label_and_what_is_no_plain_phrase() -> None:
    reply = json.dumps(
        {
            "events": ["a Dog_bark", "Loud", "<i>x</i>", "one two three four five six seven eight nine"],
            "scenes": ["in a park", "in a park", "../secret"],
        }
    )
    checked = check_reply(reply, task(prompt="extract"), CHECKS)
    assert checked.elements.events == ("loud",)
    assert checked.elements.scenes == ("in a park",)
    assert sorted(checked.reasons) == ["element_characters", "element_characters", "element_too_long"]


def test_no_text_whatever_raises() -> None:
    pieces = ['{"captions": ["', "\\", '"', "]", "}", "\ud800", "\x00", "{", "[", "```", "\u202e", "1e999", "NaN"]
    for first in pieces:
        for second in pieces:
            check_reply((first + second) * 20, task(), CHECKS)
            check_reply((first + second) * 20, task(prompt="extract"), CHECKS)


def test_plain_captions_are_composed_unicode() -> None:
    assert unicodedata.is_normalized("NFC", plain_caption("Cafe\u0301 dog bark."))
