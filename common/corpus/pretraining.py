"""Pretraining of a model on the corpus, as one piece of work that a killed stage goes on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from common.config.base import Plan
from common.runtime.work import Task, obtain
from common.storage.artifacts import artifact_hash
from common.storage.items import ItemStore

P = TypeVar("P", bound=Plan)


@dataclass(frozen=True)
class Pretraining(Generic[P]):
    """A model to train; picklable, as every process of the training receives it.

    Among `inputs` is `corpus`; `hashes` tell the content of each.
    """

    plan: P
    store: ItemStore
    inputs: Mapping[str, Path]
    hashes: Mapping[str, str]

    @classmethod
    def of(cls, plan: P, store: ItemStore, **inputs: Path | None) -> Pretraining[P]:
        """Hash the inputs that are given."""
        given = {name: folder for name, folder in inputs.items() if folder is not None}
        return cls(plan, store, given, {name: artifact_hash(folder) for name, folder in given.items()})

    @property
    def key(self) -> dict[str, Any]:
        """Content of the inputs, and the settings."""
        return {"inputs": dict(self.hashes), "plan": self.plan.model_dump(mode="json")}

    @property
    def corpus_dir(self) -> Path:
        """Folder of the corpus."""
        return self.inputs["corpus"]

    @property
    def scratch(self) -> Path:
        """Local folder for features of the corpus."""
        return self.store.scratch_dir(**self.key)

    def write(self, train: Callable[[Pretraining[P], Path], None], target: Path) -> None:
        """Write the model, found in the store or written to a folder there by `train`, to a stage's output."""
        shutil.copytree(obtain(Task(self.store, self.key, partial(train, self))), target, dirs_exist_ok=True)
