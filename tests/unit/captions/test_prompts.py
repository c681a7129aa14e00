from __future__ import annotations

import json
from typing import get_args

import pytest

from common.captions.asking import make_request
from common.captions.checks import REASON_TEXTS
from common.captions.records import PromptName, Task, prompt_book, reply_schema
from common.config.captions import CheckConfig

CHECKS = CheckConfig()
NAMES = get_args(PromptName)
ONE, THREE = ("dog bark",), ("dog bark", "rain", "bell")


def make_task(**fields: object) -> Task:
    return Task.model_validate({"task_id": "t", "prompt": "mixcap", "labels": ("dog bark",), "seed": 0} | fields)


def test_every_prompt_has_a_text_and_every_text_is_a_prompt() -> None:
    assert set(prompt_book().prompts) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_request_ends_with_its_facts_as_json(name: PromptName) -> None:
    request = make_request(make_task(prompt=name, caption="loud", score=0.1), CHECKS)
    facts = json.loads(request.messages[-1]["content"].rsplit("\n\n", 1)[1])
    fields = set(prompt_book().prompts[name].fields)
    assert set(facts) == fields - {"labels"} | {"label"}
    assert facts["label"] == "dog bark"


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_of_several_labels_is_asked_for_with_all_of_them(name: PromptName) -> None:
    single, several = (make_request(make_task(prompt=name, labels=labels), CHECKS) for labels in (ONE, THREE))
    text, facts = several.messages[-1]["content"].rsplit("\n\n", 1)
    assert json.loads(facts)["labels"] == list(THREE) and "label" not in json.loads(facts)
    assert text == single.messages[-1]["content"].rsplit("\n\n", 1)[0] + "\n\n" + prompt_book().several_labels


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_closes_the_reply_as_strict_mode_asks(name: PromptName) -> None:
    schema = reply_schema(name)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"])
    assert all(field in prompt_book().prompts[name].text for field in schema["properties"])


def test_the_rejected_caption_and_its_score_reach_the_revision() -> None:
    facts = json.loads(
        make_request(make_task(prompt="revise", caption="a loud dog bark", score=-0.125), CHECKS)
        .messages[-1]["content"]
        .rsplit("\n\n", 1)[1]
    )
    assert (facts["caption"], facts["score"]) == ("a loud dog bark", -0.125)


def test_hash_and_seed_follow_content_and_task() -> None:
    one = make_request(make_task(), CHECKS)
    assert one == make_request(make_task(), CHECKS)
    assert make_request(make_task(events=("loud",)), CHECKS).prompt_hash != one.prompt_hash
    renamed = make_request(make_task(task_id="u"), CHECKS)
    assert renamed.prompt_hash == one.prompt_hash and renamed.seed != one.seed
    repair = make_request(make_task(), CHECKS, ["no_label"])
    assert repair.prompt_hash != one.prompt_hash and repair.seed != one.seed


def test_a_repair_tells_each_reason_once_and_unknown_ones_in_general_words() -> None:
    text = make_request(make_task(), CHECKS, ["no_label", "no_label", "http_500"]).messages[-1]["content"]
    assert text.count(REASON_TEXTS["no_label"]) == 1
    assert "http" not in text and "no usable reply" in text
