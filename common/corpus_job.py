"""A training on the corpus, as its processes are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from common.items import ItemStore

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class CorpusJob(Generic[Plan]):
    """What a training process needs to know.

    Attributes:
        plan: of the stage.
        corpus_dir: the artifact.
        store: of the stage.
        key: of the item.
        folder: where the model is written.
    """

    plan: Plan
    corpus_dir: Path
    store: ItemStore
    key: dict[str, Any]
    folder: Path

    @property
    def scratch(self) -> Path:
        """Where the features lie."""
        return self.store.scratch_dir(**self.key)
