"""A desk whose writer is a stub of an endpoint, and tasks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from common.captions.asking import Desk
from common.captions.records import Task
from common.captions.writers import open_desk
from common.config.captions import CheckConfig, EndpointConfig, WriterConfig
from tests.unit.captions.stub import Stub

CANARY = "sk-CANARY-7f3a91"
VARIABLE = "SYNTHIO_LLM_API_KEY"
PER_KIND = 12
HANG_S = 0.5
"""How long a test waits for an endpoint that hangs. All others wait long, for busy machines are slow."""


def writer_config(url: str, *, replaced: float = 1.0, **endpoint: Any) -> WriterConfig:
    fast = {"timeout_s": 10, "attempts": 2, "max_wait_s": 0.01, "concurrency": 24}
    return WriterConfig(
        backend="endpoint",
        endpoint=EndpointConfig(base_url=url, model="stub", **(fast | endpoint)),
        checks=CheckConfig(max_replaced_share=replaced),
    )


@contextmanager
def desk_at(stub: Stub, key: str = CANARY, **config: Any) -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, key)
        with open_desk(writer_config(stub.url, **config)) as desk:
            yield desk


def tasks(number: int, **fields: Any) -> list[Task]:
    return [
        Task(
            **{"task_id": f"t{n:03d}", "prompt": "label_only", "labels": ("dog bark",), "count": 2, "seed": 0} | fields
        )
        for n in range(number)
    ]


def captions_json(*captions: str) -> str:
    return json.dumps({"captions": captions})


def reply_body(content: str | None, finish: str = "stop", **message: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": None}).encode()
