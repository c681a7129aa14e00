"""A model on the server, and a call that fetches it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from safetensors.torch import save

from common.models.files import ModelRecord
from pipelines.commands.fetch_models import fetch, plan_fetch

MODEL, COMMIT, OTHER = "someone/tiny", "a" * 40, "b" * 40
WEIGHTS = {"weight": torch.arange(6000, dtype=torch.float32)}
FILES = {
    "config.json": b'{"model_type": "tiny"}',
    "vae/config.json": b"{}",
    "vae/model.safetensors": save(WEIGHTS),
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# tiny",
}
WANTED = {"config.json", "vae/config.json", "vae/model.safetensors"}
LARGE = "vae/model.safetensors"


class Fetched(NamedTuple):
    record: ModelRecord
    new: bool


def fetch_model(model: str, commit: str | None) -> Fetched:
    """Fetch one model as the command does."""
    here, wanted = plan_fetch({model: commit})
    return Fetched(here[0], False) if here else Fetched(fetch(wanted[0]), True)
