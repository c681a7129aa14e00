"""What a learner is given: labels, clips of one method in one replicate, and settings, with the key in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.classifier.model import Classifier, load_classifier
from common.config.augmentations import AUGMENTATIONS, Augmentation
from common.config.base import OptimConfig
from common.config.learners import find_learner
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.training import Strength
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from common.storage.items import ItemStore
from components.train_classifier.clips import ClipSet
from components.train_classifier.waveform import Backgrounds, augmented_copies, load_backgrounds

MODEL = "model"
RESULT = "result.json"
SECONDS = "seconds.json"
"""Seconds that the training took; after a kill, since it went on."""
VALIDATION, SPLITS = "validation.npy", "splits.npz"
"""(conditions, N, labels) probabilities of the N validation clips: as they are, then as each recorded copy."""


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model, compared by content; a new classifier sees `window_s` at once, None = as many as this one."""

    folder: Path = field(compare=False)
    content: str
    window_s: float | None

    @property
    def key(self) -> list[str | float | None]:
        """What decides its features, as JSON values."""
        return [self.content, self.window_s]


@lru_cache(maxsize=1)
def opened(pretrained: Pretrained) -> Classifier:
    """The pretrained classifier, kept for the next job of the process."""
    return load_classifier(pretrained.folder)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What any learner is given.

    Attributes:
        pretrained: the model to start from, or to hear through; ignored by a learner that needs none.
        validation: validation clips; None = nothing is chosen by them.
        synthetic: further clips of the method, may be empty.
        classic: augmentation, of further copies of the clips or in training.
    """

    pretrained: Pretrained
    labels: tuple[str, ...]
    multi_label: bool
    gold: ClipSet
    validation: ClipSet | None
    synthetic: ClipSet
    classic: str
    settings: TrainClassifierConfig
    store: ItemStore
    backgrounds: Backgrounds | None = None

    @property
    def augmentation(self) -> Augmentation | None:
        """The augmentation of waveforms, if `classic` is one."""
        found: Augmentation | None = getattr(self.settings, self.classic) if self.classic in AUGMENTATIONS else None
        return found

    @property
    def sources(self) -> NDArray[np.int64]:
        """(S,) place of the gold clip that each synthetic clip was made from, -1 for none."""
        places = {clip.clip_id: place for place, clip in enumerate(self.gold.clips)}
        return np.array([places.get(getattr(c, "source_clip_id", ""), -1) for c in self.synthetic.clips], np.int64)

    def copies(
        self, clips: ClipSet, rate_hz: int, strength: Strength | None, seed: int
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Augmented copies (T,) of each clip, none without an augmentation of waveforms."""
        noises = load_backgrounds(self.backgrounds, rate_hz) if self.backgrounds else ()
        augmentation = self.augmentation
        for clip in clips.clips:
            if augmentation is None or strength is None:
                yield []
            else:
                waveform = load_clip(clips.folder, clip, rate_hz)
                yield augmented_copies(augmentation, waveform, rate_hz, strength, seed, clip.clip_id, noises)


@dataclass(frozen=True, kw_only=True)
class AstJob(Job):
    """One training of an AST.

    Attributes:
        settings: the recipe but for `optim`, which holds the number of steps.
        probe_first: whether the head starts as a logistic regression on frozen features, instead of at random.
    """

    name: str
    seed: int
    strength: Strength | None
    optim: OptimConfig
    probe_first: bool = False

    def key(self) -> dict[str, object]:
        """Store key of the item; settings of unused augmentations are left out."""
        apart = {"optim", "recipe", "oracle_steps", *AUGMENTATIONS, "specaugment", "learners"}
        shared = self.settings.model_dump(mode="json", exclude=apart)
        used = {}
        if self.classic != "none":
            chosen = getattr(self.settings, self.classic)
            used = chosen.model_dump(mode="json", exclude={"strengths", "combinations"})
            if isinstance(self.strength, str):
                used["combination"] = chosen.combinations[self.strength].model_dump(mode="json")
            if self.backgrounds is not None:
                used["backgrounds"] = self.backgrounds.identity
        return {
            "base": self.pretrained.key,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "seed": self.seed,
            "gold": self.gold.identity,
            "synthetic": self.synthetic.identity,
            "validation": self.validation.identity if self.validation else None,
            "classic": self.classic,
            "strength": self.strength,
            "augmentation": used,
            "optim": self.optim.model_dump(mode="json"),
            "settings": shared,
            **({"probe_first": self.settings.learners.inverse_penalties} if self.probe_first else {}),
        }

    def contrastive_key(self) -> dict[str, object]:
        """Store key of the contrastively trained body, which all augmentations share."""
        config = self.settings.contrastive
        kept = ("base", "labels", "multi_label", "seed", "gold", "synthetic")
        key = self.key()
        return {**{name: key[name] for name in kept}, "contrastive": config and config.model_dump(mode="json")}


@dataclass(frozen=True, kw_only=True)
class LearnerJob(Job):
    """One learner on frozen or measured features; without `validation` its splits alone tell how good it is.

    Attributes:
        strengths: to choose from; `(None,)` without augmentation.
    """

    learner: str
    method: str
    replicate: int
    strengths: tuple[Strength | None, ...]

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.learner} on {self.method}/{self.replicate}"

    @property
    def augmentation(self) -> Augmentation | None:
        """As of any job, with few copies."""
        found = super().augmentation
        return found and found.model_copy(update={"copies": min(self.settings.learners.copies, found.copies)})

    @property
    def real_clips(self) -> list[GoldClip | SyntheticClip]:
        """Training and validation clips together, in this order."""
        return [*self.gold.clips, *(self.validation.clips if self.validation else ())]

    @property
    def plain(self) -> bool:
        """Whether there is nothing beyond the gold clips."""
        return not self.synthetic.clips and self.classic == "none"

    def alone(self) -> LearnerJob:
        """The same learner on the gold clips alone."""
        nothing = ClipSet((), self.gold.folder, ())
        return replace(self, method="gold", synthetic=nothing, classic="none", strengths=(None,), backgrounds=None)

    def key(self) -> dict[str, object]:
        """Store key of the item."""
        chosen = None if self.classic == "none" else getattr(self.settings, self.classic).model_dump(mode="json")
        return {
            "learner": self.learner,
            "pretrained": self.pretrained.key if find_learner(self.learner).frozen else None,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "replicate": self.replicate,
            "clips": [clips and clips.identity for clips in (self.gold, self.validation, self.synthetic)],
            "classic": [self.classic, self.strengths, chosen],
            "backgrounds": self.backgrounds and self.backgrounds.identity,
            "settings": self.settings.learners.model_dump(mode="json", exclude={"names", "encoders"}),
        }
