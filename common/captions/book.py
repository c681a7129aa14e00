"""Texts given to writers and captioners: `prompts.yaml` beside this file, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from common.captions.records import PromptName

Field = Literal["labels", "domain", "caption", "score", "events", "scenes", "count", "max_words"]


class PromptText(BaseModel):
    """One prompt: its text and the facts that go with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    fields: tuple[Field, ...]
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
    """Load the prompts, once."""
    text = Path(__file__).with_name("prompts.yaml").read_text(encoding="utf-8")
    return PromptBook.model_validate(yaml.safe_load(text))
