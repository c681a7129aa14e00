"""Answers in the formats of published model families and their servers; the words are invented."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.unit.captions.stub import Send, facts

Say = Callable[[dict[str, Any], list[str]], Send]


def asked_captions(request: dict[str, Any]) -> list[str]:
    """As many captions as are asked for; distinct by request."""
    asked = facts(request)
    if "count" not in asked:
        return []
    label = asked.get("label") or " and ".join(asked["labels"])
    number = request.get("seed", len(json.dumps(request))) % 10**6
    return [f"A {label} near door {number}, take {take}." for take in range(asked["count"])]


def plain_json(captions: list[str], **further: Any) -> str:
    if captions:
        return json.dumps({"captions": captions, **further}, ensure_ascii=False)
    return json.dumps({"events": ["loud and close"], "scenes": ["a small room"], **further})


def completion(message: dict[str, Any], finish: str = "stop", **further: Any) -> Send:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
    usage = {"prompt_tokens": 210, "completion_tokens": 64, "total_tokens": 274}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1770000000, "model": "m", "choices": [choice]}
    return Send(body=json.dumps(body | {"usage": usage} | further, ensure_ascii=False).encode())


def openai(request: dict[str, Any], captions: list[str]) -> Send:
    """Strict JSON; `refusal` is null and the usage has details."""
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 0}}
    return completion({"content": plain_json(captions), "refusal": None, "annotations": []}, usage=usage)


def openai_reasoning(request: dict[str, Any], captions: list[str]) -> Send:
    """The o-series knows neither `max_tokens` nor a temperature."""
    for name, said, code in (
        (
            "max_tokens",
            "is not supported with this model. Use 'max_completion_tokens' instead.",
            "unsupported_parameter",
        ),
        (
            "temperature",
            "does not support 0.7 with this model. Only the default (1) value is supported.",
            "unsupported_value",
        ),
    ):
        if name in request:
            error = {
                "message": f"Unsupported: '{name}' {said}",
                "type": "invalid_request_error",
                "param": name,
                "code": code,
            }
            return Send(status=400, body=json.dumps({"error": error}).encode())
    return openai(request, captions)


def qwen3(request: dict[str, Any], captions: list[str]) -> Send:
    """vLLM without a reasoning parser: the empty thought stands before the JSON."""
    return completion(
        {"content": f"<think>\n\n</think>\n\n{plain_json(captions)}", "reasoning_content": None, "tool_calls": []}
    )


def qwen3_parsed(request: dict[str, Any], captions: list[str]) -> Send:
    """vLLM with a reasoning parser and a model that does not think: all of it is taken for a thought."""
    return completion({"content": None, "reasoning_content": plain_json(captions)}, stop_reason=None)


def deepseek_r1(request: dict[str, Any], captions: list[str]) -> Send:
    """A distilled R1: the template begins the thought, a draft in it, then a fence."""
    thought = 'Okay, the user wants {"captions": ["a draft"]}. Let me write them.'
    return completion({"content": f"{thought}\n</think>\n\n```json\n{plain_json(captions)}\n```"})


def llama(request: dict[str, Any], captions: list[str]) -> Send:
    """Ollama: a sentence before, numbered lines, another one after; no JSON for captions."""
    lines = "\n".join(f'{number}. "{caption}"' for number, caption in enumerate(captions, 1)) or plain_json([])
    return completion(
        {"content": f"Here are the captions:\n\n{lines}\n\nLet me know if you need more!"},
        system_fingerprint="fp_ollama",
    )


def mistral(request: dict[str, Any], captions: list[str]) -> Send:
    """Content in parts with a thought, and Python's quotes."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Simple enough."}]}
    return completion(
        {"content": [thought, {"type": "text", "text": str(json.loads(plain_json(captions)))}], "tool_calls": None}
    )


def gemma(request: dict[str, Any], captions: list[str]) -> Send:
    """A server with Gemma's template refuses the system role; then a fence, Markdown, emoji, curly quotes."""
    if request["messages"][0]["role"] == "system":
        return Send(status=400, body=b'{"object": "error", "message": "System role not supported", "code": 400}')
    decorated = [f"**{caption[:-1]}**… “loud” 🎧" for caption in captions]
    return completion({"content": f"```JSON\n{plain_json(decorated, note=None)}\n```\n\nI’ve kept to *your* rules."})


def phi(request: dict[str, Any], captions: list[str]) -> Send:
    """Null for an empty list, a bare array, no usage."""
    content = json.dumps(captions, indent=2) if captions else '{"events": ["loud and close"], "scenes": null}'
    return completion({"content": f"```\n{content}\n```"}, usage=None)


class Family(NamedTuple):
    """A family's format; `tried` is the number of requests that its server refuses first."""

    say: Say
    tried: int = 0


FAMILIES: dict[str, Family] = {
    "openai": Family(openai),
    "openai o-series": Family(openai_reasoning, tried=2),
    "qwen3": Family(qwen3),
    "qwen3, reasoning parser": Family(qwen3_parsed),
    "deepseek-r1": Family(deepseek_r1),
    "llama": Family(llama),
    "mistral": Family(mistral),
    "gemma": Family(gemma, tried=1),
    "phi": Family(phi),
}


def answer(name: str) -> Callable[[dict[str, Any], int], Send]:
    """Behaviour of a stub that answers as the family does."""
    return lambda request, number: FAMILIES[name].say(request, asked_captions(request))
