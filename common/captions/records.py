"""Records of requests to writers and of their answers, and the texts that they are told (`prompts.yaml`)."""

from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field

from common.contracts.generation import Price, Usage
from common.records.clips import Record, Written
from common.storage.hashing import hash_json

PromptName = Literal["extract", "mixcap", "revise", "plain", "label_only"]
Fact = Literal["labels", "domain", "caption", "score", "events", "scenes", "count", "max_words"]


class Elements(Record):
    """Acoustic elements of a caption; the reply to prompt 1."""

    events: tuple[str, ...] = Field(default=(), description="phrases for events and attributes of the source")
    scenes: tuple[str, ...] = Field(default=(), description="phrases for what is in the background")


def reply_schema(prompt: PromptName) -> dict[str, Any]:
    """JSON schema of the reply, for back ends that can enforce one."""
    fields = ["events", "scenes"] if prompt == "extract" else ["captions"]
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": dict.fromkeys(fields, texts),
        "required": fields,
        "additionalProperties": False,
    }


class Task(Record):
    """One writing task. Labels are normalised (`common.records.text.normalize_label`)."""

    task_id: str = Field(description="unique; names the replicate, is never shown to a writer")
    prompt: PromptName
    labels: tuple[str, ...] = Field(min_length=1)
    domain: str = ""
    caption: str = Field(default="", description="of the clip, or the rejected one")
    score: float | None = Field(default=None, description="of the rejected caption's clip")
    events: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    count: int = Field(default=1, ge=1, description="captions wanted")
    seed: int

    @property
    def scope(self) -> frozenset[str]:
        """Captions of tasks in one scope differ from each other."""
        return frozenset(self.labels)


class Request(Record):
    """A task with the messages sent to a writer."""

    task: Task
    messages: tuple[dict[str, str], ...] = Field(description="role and content of each")
    prompt_hash: str
    seed: int = Field(description="of the writer's sampling")
    attempt: int = Field(default=0, description="0, or 1 for the repair")
    room: int = Field(default=1, description="multiple of the writer's token limit; 2 after a reply that was cut off")

    @property
    def key(self) -> str:
        """Key of the request to one model; requests with equal keys share one reply."""
        return hash_json([self.prompt_hash, self.seed, self.task.count])[:16]


class Reply(NamedTuple):
    """A writer's answer: `text`, unchecked, and the reason code `failure` if it is not the whole answer."""

    text: str = ""
    failure: str | None = None
    usage: Usage = Usage()


class Checked(Record):
    """Valid pieces of a reply, and the reason codes of the refused ones."""

    captions: tuple[str, ...] = ()
    elements: Elements = Elements()
    reasons: tuple[str, ...] = ()
    complete: bool = Field(description="nothing more has to be asked")


class Kept(Record):
    """Entry of the request cache; never holds a reply's text."""

    checked: Checked
    price: Price


class Answer(Record):
    """Complete result of a task: `count` captions, or elements."""

    captions: tuple[Written, ...] = ()
    elements: Elements = Elements()


class PromptText(BaseModel):
    """A prompt, and the facts that go with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fields: tuple[Fact, ...]
    text: str


class PromptBook(BaseModel):
    """All texts of `prompts.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    language: str
    system: str
    repair: str
    several_labels: str
    prompts: dict[PromptName, PromptText]
    audio_caption: str


@cache
def prompt_book() -> PromptBook:
    """Texts given to writers and captioners, read once."""
    text = Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8")
    return PromptBook.model_validate(yaml.safe_load(text))
