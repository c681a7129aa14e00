"""From tasks to chat messages. The texts are data, in `prompts.yaml` beside this file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from common.captions.checks import OTHER_REASON_TEXT, REASON_TEXTS, max_words
from common.captions.records import CaptionsReply, ElementsReply, Message, PromptName, Request, Task
from common.config.captions import CheckConfig
from common.hashing import hash_json
from common.seeding import derive_seed

Field = Literal["label", "labels", "domain", "caption", "score", "events", "scenes", "count", "max_words"]


class PromptText(BaseModel):
    """One prompt: which facts it gets, and what to do with them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fields: tuple[Field, ...]
    text: str


class PromptBook(BaseModel):
    """All texts of `prompts.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    language: str
    system: str
    repair: str
    prompts: dict[PromptName, PromptText]
    audio_caption: str


@cache
def prompt_book() -> PromptBook:
    """The texts, read once."""
    text = Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8")
    return PromptBook.model_validate(yaml.safe_load(text))


def reply_model(prompt: PromptName) -> type[ElementsReply] | type[CaptionsReply]:
    """The record that the reply to a prompt must be."""
    return ElementsReply if prompt == "extract" else CaptionsReply


def reply_schema(prompt: PromptName) -> dict[str, Any]:
    """The JSON schema of the reply, for back ends that can enforce one."""
    return reply_model(prompt).model_json_schema()


def make_request(task: Task, checks: CheckConfig, refused: Sequence[str] | None = None) -> Request:
    """The request for a task, or for its repair.

    Args:
        task: what to write.
        checks: give the limit of words.
        refused: reason codes of the first reply; None for the first request. Nothing of the
            reply itself is repeated to the writer.
    """
    book = prompt_book()
    prompt = book.prompts[task.prompt]
    facts = {name: _fact(task, name, checks) for name in prompt.fields}
    parts = [prompt.text]
    if refused is not None:
        told = dict.fromkeys(REASON_TEXTS.get(reason, OTHER_REASON_TEXT) for reason in refused)
        parts.append(book.repair.format(reasons="; ".join(told) or OTHER_REASON_TEXT))
    parts.append(json.dumps(facts, ensure_ascii=False, indent=1))
    messages = (Message(role="system", content=book.system), Message(role="user", content="\n\n".join(parts)))
    attempt = 0 if refused is None else 1
    return Request(
        task=task,
        messages=messages,
        prompt_hash=hash_json([message.model_dump() for message in messages])[:16],
        seed=derive_seed(task.seed, "caption", task.task_id, attempt),
        attempt=attempt,
    )


def _fact(task: Task, name: Field, checks: CheckConfig) -> Any:
    if name == "label":
        return task.labels[0]
    if name == "max_words":
        return max_words(task.labels, checks)
    return getattr(task, name)
