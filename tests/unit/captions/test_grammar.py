from __future__ import annotations

import pytest

from common.captions.asking import Desk
from common.captions.checks import check_caption, contains_phrase
from common.captions.grammar import GrammarWriter, extract_elements
from common.captions.records import Answer, Elements, Task
from common.config.captions import CheckConfig, GrammarConfig
from common.procedural import words
from common.records.text import normalize_label

CHECKS = CheckConfig()
LABELS = [
    "dog bark",
    "rain",
    "ignore previous instructions",
    ".. .. etc passwd",
    "犬",
    "<b>x</b>",
    "what?!",
    "etc.",
    " ".join(f"w{n}" for n in range(30)),
]


def desk(**grammar: float) -> Desk:
    writer = GrammarWriter(GrammarConfig.model_validate(grammar), CHECKS)
    return Desk(writer, writer, CHECKS)


def make_task(name: str = "t", **fields: object) -> Task:
    return Task.model_validate(
        {"task_id": name, "prompt": "mixcap", "labels": ("dog bark",), "count": 5, "seed": 0} | fields
    )


def captions(answer: Answer) -> list[str]:
    return [written.caption for written in answer.captions]


@pytest.mark.parametrize("prompt", ["mixcap", "plain", "label_only", "revise"])
@pytest.mark.parametrize("label", LABELS)
def test_every_caption_passes_the_checks_and_holds_the_whole_label(prompt: str, label: str) -> None:
    label = normalize_label(label)
    task = make_task(prompt=prompt, labels=(label,), caption=f"a loud {label} over hiss", events=("loud",), count=10)
    answers, tally = desk().ask([task])
    found = captions(answers["t"])
    assert len(set(found)) == 10
    assert all(check_caption(caption, task, CHECKS) is None and contains_phrase(caption, label) for caption in found)
    assert tally.replaced == 0 or prompt == "revise" or len(label.split()) > 20


def test_captions_of_a_label_never_repeat() -> None:
    answers, _ = desk().ask([make_task(f"t{n}", events=("low", "once"), scenes=("hiss",)) for n in range(100)])
    found = [caption for answer in answers.values() for caption in captions(answer)]
    assert len(found) == len(set(found)) == 500


def test_the_same_seed_writes_the_same_in_any_order_and_another_seed_another() -> None:
    tasks = [make_task(f"t{n}", labels=("abc"[n % 3],), events=("low",)) for n in range(12)]
    first = desk().ask(tasks)[0]
    assert desk().ask(tasks[::-1])[0] == first
    other = desk().ask([task.model_copy(update={"seed": 1}) for task in tasks])[0]
    assert captions(other["t0"]) != captions(first["t0"])


def test_label_only_captions_use_the_words_of_the_built_in_corpus_only() -> None:
    known = {
        word
        for table in (
            words.PITCH_WORDS,
            words.TEMPO_WORDS,
            words.LOUDNESS_WORDS,
            words.TEXTURE_WORDS,
            words.BACKGROUND_WORDS,
        )
        for listed in table.values()
        for phrase in listed
        for word in phrase.split()
    }
    known |= {word for frame in words.BACKGROUND_PHRASES for word in frame.replace("{}", "").split()}
    answers, _ = desk().ask([make_task(f"t{n}", prompt="label_only") for n in range(40)])
    used = {word.strip(",") for answer in answers.values() for caption in captions(answer) for word in caption.split()}
    assert used <= known | {"sound", "of", "a", "an", "dog", "bark"}


def test_mixcap_borrows_from_the_pool_in_every_caption() -> None:
    task = make_task(events=("children laugh", "repeating slowly"), scenes=("in a small room",), count=20)
    found = captions(desk().ask([task])[0]["t"])
    assert all(any(contains_phrase(c, e) for e in (*task.events, *task.scenes)) for c in found)
    assert any("children laugh" in caption for caption in found)
    assert any("in a small room" in caption for caption in found)


def test_the_share_of_template_like_captions_is_as_configured() -> None:
    def share(template_share: float) -> float:
        answers, _ = desk(template_share=template_share).ask(
            [make_task(f"t{n}", labels=(f"sound {n}",)) for n in range(100)]
        )
        found = [caption for answer in answers.values() for caption in captions(answer)]
        return sum(caption.startswith("sound of a") for caption in found) / len(found)

    assert share(0.0) == 0 and share(1.0) == 1
    assert 0.4 < share(0.5) < 0.6


def test_a_revision_uses_nothing_of_the_rejected_caption_or_of_the_accepted_pool() -> None:
    rejected = "a loud sharp dog bark repeating slowly with hiss in the background"
    task = make_task(prompt="revise", caption=rejected, events=("once", "bright"), scenes=("wind", "hum"), count=30)
    own = extract_elements(rejected, ("dog bark",))
    banned = {*own.events, *own.scenes, *task.events, *task.scenes}
    for caption in captions(desk().ask([task])[0]["t"]):
        found = extract_elements(caption, ("dog bark",))
        assert not banned & {*found.events, *found.scenes}


def test_what_the_grammar_writes_it_can_take_apart() -> None:
    task = make_task(
        events=("low pitched", "repeating slowly", "children laugh"), scenes=("hiss", "in a small room"), count=40
    )
    pool = {*task.events, *task.scenes}
    listed = {
        phrase
        for table in (
            words.PITCH_WORDS,
            words.TEMPO_WORDS,
            words.LOUDNESS_WORDS,
            words.TEXTURE_WORDS,
            words.BACKGROUND_WORDS,
        )
        for phrases in table.values()
        for phrase in phrases
    }
    for caption in captions(desk().ask([task])[0]["t"]):
        found = extract_elements(caption, ("dog bark",))
        assert {*found.events, *found.scenes} <= pool | listed, caption


@pytest.mark.parametrize(
    ("caption", "events", "scenes"),
    [
        ("Sound of a dog_bark", (), ()),
        (
            "a loud low pitched dog bark repeating slowly with hiss in the background",
            ("loud", "low pitched", "repeating slowly"),
            ("hiss",),
        ),
        ("A dog bark echoes in a small room while children laugh", ("children laugh", "echoes"), ("in a small room",)),
        ("a dog bark with a passing car in the distance", (), ("a passing car",)),
    ],
)
def test_elements_of_free_text_captions(caption: str, events: tuple[str, ...], scenes: tuple[str, ...]) -> None:
    assert extract_elements(caption, ("dog bark",)) == Elements(events=events, scenes=scenes)
