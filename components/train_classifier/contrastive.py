"""Supervised contrastive training of the classifier's body (arXiv 2004.11362), before its head is trained."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.classifier.augmentation import spec_augment
from common.classifier.model import Classifier
from common.config.classifier import SpecAugmentConfig
from common.config.train_classifier import ContrastiveConfig
from common.errors import ConfigError
from common.runtime.seeding import derive_seed, numpy_generator
from common.storage.checkpoints import Checkpoints
from common.training import Part, fit
from components.train_classifier.training import Examples, draw_windows

NAME = "train_classifier_contrastive"


def contrastive_loss(embeddings: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss, L_out of arXiv 2004.11362: cross-entropy uniform over an example's positives.

    Args:
        embeddings: (B, D) of any norm; they are normalised.
        positives: (B, B) whether two examples belong together; the diagonal does not count.

    Returns the mean over the examples that have a positive; 0 when none has.
    """
    unit = nn.functional.normalize(embeddings.float(), dim=1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    log_shares = (unit @ unit.T / temperature).masked_fill(itself, float("-inf")).log_softmax(dim=1)
    positives = positives & ~itself
    counts = positives.sum(dim=1)
    losses = -log_shares.masked_fill(~positives, 0.0).sum(dim=1) / counts.clamp_min(1)
    return losses.sum() / (counts > 0).sum().clamp_min(1)


def draw_views(labels: np.ndarray, sources: np.ndarray, clips: int, views: int, seed: int, step: int) -> np.ndarray:
    """Draw the clips of a step: classes in turn, each with a gold clip and synthetic clips made from it.

    Args:
        labels: (G,) label ids of the gold clips.
        sources: (S,) index of the gold clip of each synthetic clip.
        views: examples per gold clip; without synthetic clips the gold clip itself is repeated, and training draws
            another window and other masks for each.
        step: number of the step, from 0.

    Returns (clips, views) indices; gold clips are 0 … G-1, synthetic ones follow.
    """
    generator = numpy_generator(seed, "views", step)
    classes = np.resize(generator.permutation(np.unique(labels)), clips)
    gold = np.array([generator.choice(np.flatnonzero(labels == label)) for label in classes])
    rows = [gold]
    for _ in range(views - 1):
        made = [np.flatnonzero(sources == clip) for clip in gold]
        rows.append(
            np.array(
                [len(labels) + generator.choice(own) if len(own) else c for c, own in zip(gold, made, strict=True)]
            )
        )
    return np.stack(rows, axis=1)


def train_body(
    classifier: Classifier,
    examples: Examples,
    gold_clips: int,
    sources: np.ndarray,
    config: ContrastiveConfig,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
) -> Sequence[Mapping[str, float]]:
    """Train the body of `classifier` in place; embeddings of examples that share a label attract, others repel.

    Examples are gold clips first, then synthetic ones.

    Raises:
        ConfigError: the model has no body apart from its head.
        DataError: the loss is not finite.
    """
    if classifier.model.base_model is classifier.model:
        raise ConfigError(
            f"{type(classifier.model).__name__} has no body apart from its head, which contrastive training "
            "needs; set train_classifier.contrastive: null, or name another checkpoint"
        )
    device = next(classifier.model.parameters()).device
    projector = _projector(classifier, config, derive_seed(seed, "projector")).to(device)
    front_end, labels = classifier.front_end, examples.labels[:gold_clips]

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        clips = config.optim.batch_size // config.views
        chosen = draw_views(labels, sources, clips, config.views, seed, step).ravel()
        batch = draw_windows(examples.features, chosen, front_end, generator)
        if front_end.spectral:
            masks = SpecAugmentConfig(masks=1)
            batch = spec_augment(batch, masks, config.mask_share, front_end.frames_per_s, generator)
        embeddings = projector(_embed(classifier, batch))
        truth = examples.truth(chosen).to(device)
        together = truth @ truth.T > 0 if truth.is_floating_point() else truth[:, None] == truth[None]
        return contrastive_loss(embeddings, together, config.temperature), {}

    model = nn.ModuleDict({"classifier": classifier.model, "projector": projector})
    curve = fit(model, loss, config.optim, seed=seed, name=NAME, checkpoints=checkpoints)
    classifier.model.eval()
    return curve


def _projector(classifier: Classifier, config: ContrastiveConfig, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(classifier.model.config.hidden_size, config.hidden_size),
            nn.BatchNorm1d(config.hidden_size),
            nn.ReLU(),
            nn.Linear(config.hidden_size, config.dimensions),
        )


def _embed(classifier: Classifier, windows: Tensor) -> Tensor:
    """Embed windows as (B, width): the body's pooled output, or its mean over time."""
    device = next(classifier.model.parameters()).device
    inputs = {name: value.to(device) for name, value in classifier.front_end.inputs(windows).items()}
    made: Any = classifier.model.base_model(**inputs)
    pooled: Tensor | None = getattr(made, "pooler_output", None)
    return made.last_hidden_state.mean(dim=1) if pooled is None else pooled
