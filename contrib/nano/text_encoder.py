"""Text encoder of nano: a T5 that predicts from a caption how its clips sound, trained before the text-to-audio model.

A random text encoder that is trained along is learned last: on this corpus, whose captions name 700 things, the
transformer had not begun to hear them after three thousand steps. Here the encoder predicts the course of the latents
(their mean in each third of the clip, and their deviation) from the mean of its states, by regression. The transformer
then starts with states that tell apart what sounds different, and of what sounds alike lie close together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.config.base import Frozen, OptimConfig
from common.config.t2a import TextEncoderConfig
from common.corpus.shards import Corpus, Split
from common.runtime.seeding import derive_seed, numpy_generator
from common.storage import publish_dir, write_json
from common.storage.items import ItemStore
from common.training import Part, fit
from components.pretrain_t2a.architecture import build_text_encoder

NAME = "nano_text"
_THIRDS = 3


class NanoTextConfig(Frozen):
    """Shape and training of the text encoder."""

    shape: TextEncoderConfig
    optim: OptimConfig


def run(
    corpus_path: str, text_path: str, metrics_path: str, *, config: dict[str, Any], code_version: str
) -> dict[str, Any]:
    """Train on the corpus's training split and write a T5 in the layout of transformers; return its figures.

    `explained` is the share of the variance of held-out clips' courses that their captions predict.
    """
    settings, seed = NanoTextConfig.model_validate(config["settings"]), int(config["seed"])
    corpus = Corpus(Path(corpus_path))
    train, held_out = _Captioned(corpus, "train"), _Captioned(corpus, "heldout")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "initial weights"))
        encoder = build_text_encoder(settings.shape, len(corpus.vocabulary()))
        head = nn.Linear(settings.shape.d_model, train.courses.shape[1])
    center = train.courses.mean(axis=0)
    scale = float((train.courses - center).std())
    model = nn.ModuleDict({"encoder": encoder, "head": head})
    count, size = settings.optim.steps * settings.optim.batch_size, len(train.courses)
    orders = [numpy_generator(seed, "epoch", n).permutation(size) for n in range(-(-count // size))]
    chosen = np.concatenate(orders)[:count].reshape(settings.optim.steps, -1)

    def residual(clips: _Captioned, rows: NDArray[np.int64]) -> Tensor:
        ids, mask = clips.tokens(rows)
        states = encoder(ids, attention_mask=mask)[0] * mask[..., None]
        predicted = head(states.sum(dim=1) / mask.sum(dim=1, keepdim=True))
        left: Tensor = predicted - torch.from_numpy((clips.courses[rows] - center) / scale)
        return left

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        return residual(train, chosen[step][part.rows(len(chosen[step]))]).square().mean(), {}

    @torch.no_grad()
    def evaluate(step: int) -> dict[str, float]:
        rows = np.array_split(np.arange(len(held_out.courses)), 16)
        left = torch.cat([residual(held_out, part) for part in rows if len(part)]).square().mean()
        return {"explained": 1 - float(left) / float(((held_out.courses - center) / scale).var())}

    checkpoints = ItemStore(NAME, code_version).checkpoints(config=config, corpus=corpus.manifest["shards"])
    curve = fit(model, loss, settings.optim, seed=seed, name=NAME, checkpoints=checkpoints, evaluate=evaluate)
    with publish_dir(Path(text_path)) as folder:
        encoder.save_pretrained(folder)
    checkpoints.clear()
    figures = {"explained": curve[-1]["explained"], "captions": len(set(train.captions))}
    write_json(Path(metrics_path), figures)
    return figures


class _Captioned:
    """Tokens of a split's captions, and the courses of its clips `(clips, 4 D)`."""

    def __init__(self, corpus: Corpus, split: Split) -> None:
        rows = [(clip.tokens, clip.caption, _course(clip.latent)) for clip in corpus.latents(split)]
        self._tokens = [tokens for tokens, _, _ in rows]
        self.captions = [caption for _, caption, _ in rows]
        self.courses = np.stack([course for _, _, course in rows])

    def tokens(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Ids and mask `(rows, S)`, int64."""
        ids = [torch.from_numpy(self._tokens[row]) for row in rows]
        mask = [torch.ones_like(each) for each in ids]
        padded = (nn.utils.rnn.pad_sequence(each, batch_first=True) for each in (ids, mask))
        return next(padded), next(padded)


def _course(latent: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of latents `(D, L)` in each third of the clip, and their deviation: `(4 D,)`."""
    thirds = np.array_split(np.repeat(latent, _THIRDS, axis=1), _THIRDS, axis=1)
    return np.concatenate([*(part.mean(axis=1) for part in thirds), latent.std(axis=1)]).astype(np.float32)
