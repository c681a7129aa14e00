"""Records of requests to writers and of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from common.records.clips import Record, Written
from common.storage.hashing import hash_json

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
    """One writing task. Labels are normalised (`common.records.text.normalize_label`)."""

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
    def all_labels_wanted(self) -> bool:
        """Whether `labels` all belong to one recording, rather than being a choice to combine freely."""
        return self.prompt != "multi_label"

    @property
    def required_labels(self) -> int:
        """Number of `labels` that a caption must contain."""
        return len(self.labels) if self.all_labels_wanted else min(2, len(self.labels))


class Message(Record):
    """One chat message."""

    role: Literal["system", "user"]
    content: str


class Request(Record):
    """A task with the messages sent to a writer."""

    task: Task
    messages: tuple[Message, ...]
    prompt_hash: str
    seed: int = Field(description="of the writer's sampling")
    attempt: int = Field(default=0, description="0, or 1 for the repair")
    room: int = Field(default=1, description="multiple of the writer's token limit; 2 after a reply that was cut off")

    @property
    def key(self) -> str:
        """Key of the request to one model; requests with equal keys share one reply."""
        return hash_json([self.prompt_hash, self.seed, self.task.count])[:16]


def _summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


class Price(Record):
    """Tokens and cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Price) -> Price:
        """Sum of both."""
        return Price(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost=self.cost + other.cost,
        )


class Usage(Record):
    """Requests, tokens and cost of writing."""

    requests: int = Field(default=0, description="sent, retries included")
    failed: dict[str, int] = Field(default_factory=dict, description="of those, without a usable reply, by reason code")
    cached: int = Field(default=0, description="answered from the request cache")
    paid: Price = Field(default=Price(), description="of the requests sent")
    replies: dict[str, Price] = Field(default_factory=dict, description="of each reply used, by its request's key")

    def __add__(self, other: Usage) -> Usage:
        """Sum of both."""
        return Usage(
            requests=self.requests + other.requests,
            failed=_summed(self.failed, other.failed),
            cached=self.cached + other.cached,
            paid=self.paid + other.paid,
            replies=self.replies | other.replies,
        )

    @property
    def whole(self) -> Price:
        """Price of all replies, each counted once, whoever paid; equal in a first run, a resumed one and a rerun."""
        return sum((price for _, price in sorted(self.replies.items())), start=Price())


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


class Tally(Record):
    """Origin of the captions and elements of some tasks. An extraction counts as one piece."""

    pieces: int = 0
    repaired: int = Field(default=0, description="from the second reply")
    replaced: int = Field(default=0, description="written by the grammar, since no reply was usable")
    reasons: dict[str, int] = Field(default_factory=dict, description="refused, by reason code; every refusal counts")
    usage: Usage = Usage()

    def __add__(self, other: Tally) -> Tally:
        """Sum of both."""
        return Tally(
            pieces=self.pieces + other.pieces,
            repaired=self.repaired + other.repaired,
            replaced=self.replaced + other.replaced,
            reasons=_summed(self.reasons, other.reasons),
            usage=self.usage + other.usage,
        )

    def figures(self, now: Tally) -> dict[str, float | int]:
        """Figures for the run's page.

        Args:
            now: tally of this execution only; empty if all captions were already finished.
        """
        return {
            "repaired": self.repaired,
            "replaced": self.replaced,
            "refused": sum(self.reasons.values()),
            "input_tokens": self.usage.whole.input_tokens,
            "output_tokens": self.usage.whole.output_tokens,
            "cost": self.usage.whole.cost,
            "requests": now.usage.requests,
            "requests_failed": sum(now.usage.failed.values()),
            "requests_cached": now.usage.cached,
            "cost_paid": now.usage.paid.cost,
        }
