"""Conversion of tasks to chat messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common.captions.checks import OTHER_REASON_TEXT, REASON_TEXTS, max_words
from common.captions.records import CaptionsReply, ElementsReply, Message, PromptName, Request, Task, prompt_book
from common.config.captions import CheckConfig
from common.runtime.seeding import derive_seed
from common.storage.hashing import hash_json


def reply_schema(prompt: PromptName) -> dict[str, Any]:
    """JSON schema of the reply, for back ends that can enforce one."""
    return (ElementsReply if prompt == "extract" else CaptionsReply).model_json_schema()


def make_request(task: Task, checks: CheckConfig, refused: Sequence[str] | None = None) -> Request:
    """Build the request for a task, or for its repair.

    Args:
        refused: reason codes of the first reply; None for the first request. Nothing of the
            reply itself is repeated to the writer.
    """
    book = prompt_book()
    prompt = book.prompts[task.prompt]
    facts: dict[str, Any] = {}
    for name in prompt.fields:
        if name == "labels" and len(task.labels) == 1:
            facts["label"] = task.labels[0]
        else:
            facts[name] = max_words(task, checks) if name == "max_words" else getattr(task, name)
    parts = [prompt.text]
    if len(task.labels) > 1:
        parts.append(book.several_labels)
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
        room=2 if "cut_off" in (refused or ()) else 1,
    )
