"""What a learner is fitted to: one learner on one method's clips in one replicate, with its key in the store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from common.classifier.model import Classifier, load_classifier
from common.config.learners import find_learner
from common.config.train_classifier import TrainClassifierConfig
from common.contracts.training import Strength
from common.records.clips import GoldClip, SyntheticClip
from common.storage.items import ItemStore
from components.train_classifier.clips import ClipSet
from components.train_classifier.waveform import Backgrounds


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


@dataclass(frozen=True)
class LearnerJob:
    """One learner on one method's clips in one replicate.

    Attributes:
        pretrained: the model that the learner's `frozen` names; ignored where it names none.
        validation: validation clips; None = the splits alone tell how good the learner is.
        synthetic: further clips of the method, may be empty.
        classic: augmentation; its copies of waveforms are further clips.
        strengths: to choose from; `(None,)` without augmentation.
    """

    learner: str
    method: str
    replicate: int
    pretrained: Pretrained
    labels: tuple[str, ...]
    multi_label: bool
    gold: ClipSet
    validation: ClipSet | None
    synthetic: ClipSet
    classic: str
    strengths: tuple[Strength | None, ...]
    settings: TrainClassifierConfig
    store: ItemStore
    backgrounds: Backgrounds | None = None

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.learner} on {self.method}/{self.replicate}"

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
