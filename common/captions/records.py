"""What writers are asked and what they answer."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from common.records import Record

PromptName = Literal["extract", "mixcap", "revise", "plain", "label_only", "multi_label"]


class Elements(Record):
    """Acoustic elements of a caption; the reply to prompt 1."""

    events: tuple[str, ...] = Field(default=(), description="phrases for events and attributes of the source")
    scenes: tuple[str, ...] = Field(default=(), description="phrases for what is in the background")


class ElementsReply(BaseModel):
    """JSON of a reply to prompt 1; its schema goes to the endpoint."""

    model_config = ConfigDict(extra="forbid", strict=True)
    events: list[str]
    scenes: list[str]


class CaptionsReply(BaseModel):
    """JSON of a reply to any other prompt."""

    model_config = ConfigDict(extra="forbid", strict=True)
    captions: list[str]


class Task(Record):
    """One thing to be written. Labels are normalised (`common.text.normalize_label`)."""

    task_id: str = Field(description="unique; names the seed, is never shown to a writer")
    scope: str = Field(description="captions of tasks in one scope differ from each other")
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
    def required_labels(self) -> int:
        """How many of `labels` a caption must contain."""
        return min(2, len(self.labels))


class Message(Record):
    """One chat message."""

    role: Literal["system", "user"]
    content: str


class Request(Record):
    """A task as it goes to a writer."""

    task: Task
    messages: tuple[Message, ...]
    prompt_hash: str
    seed: int = Field(description="of the writer's sampling")
    attempt: int = Field(default=0, description="0, or 1 for the repair")


class Usage(Record):
    """What writing cost."""

    requests: int = Field(default=0, description="sent, retries included")
    cached: int = Field(default=0, description="answered from the request cache")
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            requests=self.requests + other.requests,
            cached=self.cached + other.cached,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
        )


class Reply(NamedTuple):
    """A writer's answer: `text` unchecked, or the reason code `failure`."""

    text: str = ""
    failure: str | None = None
    usage: Usage = Usage()


class Checked(Record):
    """What of a reply passed the checks, and the reason codes of what did not."""

    captions: tuple[str, ...] = ()
    elements: Elements = Elements()
    reasons: tuple[str, ...] = ()
    complete: bool = Field(description="nothing more has to be asked")


class Written(Record):
    """One caption that passed all checks."""

    caption: str
    writer: str
    prompt_hash: str


class Answer(Record):
    """All that a task asked for: `count` captions, or elements."""

    captions: tuple[Written, ...] = ()
    elements: Elements = Elements()


class Tally(Record):
    """How the captions and elements of some tasks came about. Extractions count as one piece each."""

    pieces: int = 0
    repaired: int = Field(default=0, description="from the second reply")
    replaced: int = Field(default=0, description="written by the grammar, since no reply was usable")
    reasons: dict[str, int] = Field(default_factory=dict, description="refused, by reason code; every refusal counts")
    usage: Usage = Usage()

    def __add__(self, other: Tally) -> Tally:
        """The sum of both."""
        names = sorted({*self.reasons, *other.reasons})
        return Tally(
            pieces=self.pieces + other.pieces,
            repaired=self.repaired + other.repaired,
            replaced=self.replaced + other.replaced,
            reasons={name: self.reasons.get(name, 0) + other.reasons.get(name, 0) for name in names},
            usage=self.usage + other.usage,
        )
