"""Local models that write: loading, and seeded sampling that does not touch torch's global generator."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, TopPLogitsWarper

from common.config.captions import Checkpoint
from common.errors import ConfigError
from common.models.registry import locate


class SeededSampling(LogitsProcessor):
    """Turns greedy decoding into sampling with one generator per row, by Gumbel noise on the logits.

    The largest of `logits / T + Gumbel noise` is a draw from `softmax(logits / T)`. A row's draw
    depends on its own seed and logits only, not on its position in the batch.

    Args:
        temperature: 0 = greedy.
        top_p: draw among the most likely tokens that together have this probability.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, top_p: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature, self._top_p = temperature, top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores `(B, V)` whose largest entry is the draw."""
        if self._temperature == 0:
            return scores
        scaled = scores.float() / self._temperature
        if self._top_p < 1:
            scaled = TopPLogitsWarper(self._top_p)(input_ids, scaled)
        rows = [torch.rand(scores.shape[-1], generator=generator) for generator in self._generators]
        uniform = torch.stack(rows).to(scores.device).clamp_(1e-20, 1 - 1e-7)
        return scaled - torch.log(-torch.log(uniform))


@contextmanager
def loading(what: str, checkpoint: Checkpoint, advice: str) -> Iterator[Path]:
    """Folder of a checkpoint. Raises ConfigError, with `advice`: it is not there, or what is loaded from it fails."""
    try:
        yield locate(checkpoint.model, checkpoint.revision)
    except (ConfigError, OSError, ValueError) as error:
        raise ConfigError(
            f"cannot load the {what} {checkpoint.model}: {str(error).splitlines()[0]}; expected a transformers "
            f"checkpoint with safetensors; {advice}"
        ) from error


def name_of(checkpoint: Checkpoint) -> str:
    """Model and commit, for records."""
    return f"transformers:{checkpoint.model}@{(checkpoint.revision or 'local')[:12]}"


def prepare(model: Any, tokenizer: Any) -> tuple[Any, list[int]]:
    """The model on the first GPU, or the CPU, ready to generate, and the tokens that end a reply.

    `generate` would fill whatever a request leaves open from the checkpoint's generation_config.json (Qwen2.5 has a
    repetition penalty there). Only the end tokens of that file are kept, so the stage's settings are all there are.
    """
    found = model.generation_config.eos_token_id
    found = tokenizer.eos_token_id if found is None else found
    ends = [int(token) for token in (found if isinstance(found, list | tuple) else [found]) if token is not None]
    model.generation_config = GenerationConfig(eos_token_id=ends or None, pad_token_id=tokenizer.pad_token_id)
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), ends
