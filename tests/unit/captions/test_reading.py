"""Replies as chat models send them are read, whatever stands around or inside the JSON."""

from __future__ import annotations

import pytest

from common.captions.checks import check_reply
from common.captions.reading import read_reply
from common.captions.records import Task
from common.captions.tidying import tidy
from common.config.captions import CheckConfig

CHECKS = CheckConfig()
JSON = '{"captions": ["A dog bark in a park.", "One loud dog bark."]}'
BOTH = ("a dog bark in a park", "one loud dog bark")


def task(prompt: str = "label_only", *labels: str, count: int = 2) -> Task:
    return Task.model_validate(
        {"task_id": "t", "prompt": prompt, "labels": labels or ("dog bark",), "count": count, "seed": 0}
    )


@pytest.mark.parametrize(
    "reply",
    [
        JSON,
        f"```json\n{JSON}\n```",
        f"```JSON {JSON} ```",
        f"``` {JSON}",
        f"~~~\n{JSON}\n~~~",
        f'<think>\nThey want {{"captions": ["x dog bark"]}}.\n</think>\n\n{JSON}',
        f"<think>\n\n</think>\n\n{JSON}",
        f"The template began the thought.\n</think>\n{JSON}",
        f"<Thinking>{{</Thinking>{JSON}",
        f"[THINK]Let me see[/THINK]{JSON}",
        f'<|channel|>analysis<|message|>{{"captions": ["x dog bark"]}}<|end|><|channel|>final<|message|>{JSON}',
        f"Sure! Here are the captions:\n\n{JSON}\n\nLet me know {{if}} you need [more]!",
        f'The form is {{"captions": ["caption", ...]}}, so:\n{JSON}',
        '{"captions": ["A dog bark in a park.", "One loud dog bark."], "count": 2, "note": null}',
        '{"Captions": ["A dog bark in a park.", "One loud dog bark."]}',
        '{"result": {"captions": ["A dog bark in a park.", "One loud dog bark."]}}',
        '{"captions": [{"caption": "A dog bark in a park."}, {"id": 2, "text": "One loud dog bark."}]}',
        '{"captions": {"1": "A dog bark in a park.", "2": "One loud dog bark."}}',
        '{"caption_1": "A dog bark in a park.", "caption_2": "One loud dog bark."}',
        '{"caption": "A dog bark in a park."}\n{"caption": "One loud dog bark."}',
        '["A dog bark in a park.", "One loud dog bark."]',
        '[{"caption": "A dog bark in a park."}, {"caption": "One loud dog bark."}]',
        "{'captions': ['A dog bark in a park.', 'One loud dog bark.',],}",
        "{captions: [\"A dog bark in a park.\", 'One loud dog bark.',]}",
        "{“captions”: [“A dog bark in a park.”, “One loud dog bark.”]}",
        '{"captions": ["A dog bark\nin a park.", "One\tloud dog bark."]}',
        '{"captions": ["A dog bark in a park.", "One loud dog bark."',
        '{"captions": ["A dog bark in a park.", "One loud dog bark.", "And a third dog b',
        "1. A dog bark in a park.\n2. One loud dog bark.",
        "Here you go:\n\n1) **A dog bark in a park**\n2) *One loud dog bark*\n\nEnjoy!",
        '- Caption 1: "A dog bark in a park."\n- Caption 2: “One loud dog bark.”',
        '{"captions": ["1. A dog bark in a park.", "2. One loud dog bark."]}',
    ],
)
def test_both_captions_come_out_of(reply: str) -> None:
    checked = check_reply(reply, task(), CHECKS)
    assert checked.captions == BOTH and checked.complete


@pytest.mark.parametrize(
    ("reply", "kept", "reasons"),
    [
        ('{"captions": ["a dog bark", "a cat"]}', ("a dog bark",), ("no_label",)),
        ('{"captions": ["a dog bark", null, 5]}', ("a dog bark",), ("too_few",)),
        ('{"captions": "a dog bark"}', ("a dog bark",), ("too_few",)),
        ('{"captions": null}', (), ("too_few",)),
        ('{"captions": ["a dog bark", "one lou', ("a dog bark",), ("cut_off",)),
        ('{"captions": ["a dog ba', (), ("cut_off",)),
        ('<think>perhaps {"captions": ["a dog bark"]}', (), ("cut_off",)),
        ("I’m sorry, but I can’t do that.", (), ("refused",)),
        ("As an AI language model I have no ears.", (), ("refused",)),
        ("Two captions: a dog bark in a park, and a dog bark indoors.", (), ("not_json",)),
        ('{"error": "busy"}', (), ("schema",)),
        ("{captions: !!python/object/apply:os.system ['ls']}", (), ("no_label", "too_few")),
        ("{captions: [&x a dog bark, *x, *y]}", (), ("schema",)),
    ],
)
def test_what_is_good_in_a_reply_is_kept_and_the_rest_has_a_reason(
    reply: str, kept: tuple[str, ...], reasons: tuple[str, ...]
) -> None:
    checked = check_reply(reply, task(), CHECKS)
    assert (checked.captions, checked.reasons, checked.complete) == (kept, reasons, False)


@pytest.mark.parametrize(
    ("reply", "events", "scenes"),
    [
        ('{"events": null, "scenes": ["In a park", "none"]}', (), ("in a park",)),
        ('{"scenes": ["in a park"]}', (), ("in a park",)),
        ('{"events": "loud, close; sharp", "scene": "N/A"}', ("loud", "close", "sharp"), ()),
        (
            'Here: {"Events": ["*Loud*…"], "Scenes": ["quiet [small] room"], "why": {}}',
            ("loud",),
            ("quiet small room",),
        ),
        ('The form {"events": ["phrase", ...], "scenes": []} gives {"events": ["loud"], "scenes": []}', ("loud",), ()),
    ],
)
def test_elements_come_out_of(reply: str, events: tuple[str, ...], scenes: tuple[str, ...]) -> None:
    checked = check_reply(reply, task("extract"), CHECKS)
    assert checked.complete and (checked.elements.events, checked.elements.scenes) == (events, scenes)


@pytest.mark.parametrize("reply", ['{"events": ["loud"', '["loud"]', "1. loud", "{}", "null"])
def test_half_an_extraction_is_none(reply: str) -> None:
    checked = check_reply(reply, task("extract"), CHECKS)
    assert not checked.complete and checked.reasons


@pytest.mark.parametrize(
    ("caption", "plain"),
    [
        ("A dog bark’s echo… and a dog bark", "a dog bark's echo... and a dog bark"),
        ("“A dog bark in a park.”", "a dog bark in a park"),
        ("A dog bark—loud, close – then 10–20 more", "a dog bark - loud, close - then 10-20 more"),
        ("A **loud** _sharp_ `dog bark` [in a park]", "a loud sharp dog bark in a park"),
        ("A dog bark indoors/outdoors", "a dog bark indoors or outdoors"),
        ("A dog\u00a0bark\r\n\tin a\u200b park", "a dog bark in a park"),
        ("A dog bark 🐕🏽‍🦺 in a park ♪", "a dog bark in a park"),
        ("A dog bark， loud。", "a dog bark, loud"),
        ("A dog bark &amp; a cat&#39;s meow", "a dog bark & a cat's meow"),
        ("Caption: A dog bark at 20°C", "a dog bark at 20°c"),
        ("Dog-bark, then dog_bark", "dog-bark, then dog bark"),
        (
            "A dog bark echoes through a quiet suburban street at night while cars pass far away and a light wind "
            "rustles the dry leaves of the tall trees above",
            "a dog bark echoes through a quiet suburban street at night while cars pass far away",
        ),
        ("A dog bark. " + "In the distance a long freight train rolls slowly by " * 4, "a dog bark"),
    ],
)
def test_a_decorated_caption_is_made_plain(caption: str, plain: str) -> None:
    reply = check_reply(
        f"- {caption}" if "\n" not in caption else f'{{"captions": ["{caption}"]}}', task(count=1), CHECKS
    )
    assert (reply.captions, reply.reasons) == ((plain,), ())


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a dog bark <b>", "characters"),
        ("a dog bark &lt;script&gt;", "characters"),
        ("a dog bark {self}", "characters"),
        ("a dog bark at ../../etc/passwd", "characters"),
        ("a dog bark at https://host/x", "characters"),
        ("a dog bark C:\\\\x", "characters"),
        ("a dog bark $HOME", "characters"),
        ("a dog bark \\u202e", "unprintable"),
        ("a dog bark \\ufffd", "characters"),
        ("a dog bark \\u0000", "unprintable"),
        ("a dog bark " + "far " * 24, "too_long"),
        ("dog bark: громкий лай", "language"),
    ],
)
def test_what_no_plain_sentence_needs_is_still_refused(caption: str, reason: str) -> None:
    assert check_reply(f'{{"captions": ["{caption}"]}}', task(count=1), CHECKS).reasons == (reason,)


@pytest.mark.parametrize(
    ("label", "caption", "plain"),
    [
        ("dog's bark", "A loud dog’s bark", "a loud dog's bark"),
        ("dog’s bark", "A loud dog's bark", "a loud dog’s bark"),
        ("knock-knock", "A knock‑knock on *wood*", "a knock-knock on wood"),
        ("r&b soul", "Some R&B/Soul, [live]", "some r&b soul, live"),
        ("<b>x</b>", "A <b>x</b> **here**", "a <b>x</b> here"),
        ("say “woof”", "Then say “woof” — twice", "then say “woof” - twice"),
        ("f*[x]", "An f*[x] in *rain*", "an f*[x] in rain"),
        ("1. alarm", "1. Alarm in a hall", "1. alarm in a hall"),
    ],
)
def test_a_label_stays_as_it_is(label: str, caption: str, plain: str) -> None:
    assert tidy(caption, (label,)).lower() == plain


def test_the_longest_of_nested_labels_is_found() -> None:
    assert tidy("A Dog_Bark/howl and a DOG", ("dog", "dog bark howl")) == "A dog bark howl and a dog"


@pytest.mark.parametrize("unit", ['{"a": [', "[{'", '{"captions": ["x', "- [a, ", "&a [*a, ", "}{", '"[', "</think>{"])
def test_nothing_is_read_out_of_brackets_without_end(unit: str) -> None:
    for extraction in (False, True):
        found = read_reply((unit * 30000)[:60000], extraction, CHECKS.max_depth)
        assert found.elements is None and not any("dog bark" in caption for caption in found.captions)
