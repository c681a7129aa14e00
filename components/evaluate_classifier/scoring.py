"""The heavy part of the stage: embeddings and predictions of clips, kept in the item store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from common.audio.signal import levelled
from common.clap.scorer import ClapScorer
from common.classifier.features import FrontEnd
from common.classifier.inference import feature_logits, probabilities
from common.learners.calibration import blended
from common.learners.front_ends import CLAP, ENCODER, front_end, open_encoder
from common.learners.model import LearnerModel
from common.learners.opened import Opened, OpenedBlend, OpenedLearner, OpenedTransformer, open_classifier
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip, SyntheticClip
from common.records.text import template_caption
from common.runtime.devices import device
from common.runtime.work import Task, item_of, obtain
from common.storage.items import ItemStore
from components.evaluate_classifier.leaks import fingerprint

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Clips:
    """Clips of one artifact, compared by content: a hash of records and audio."""

    content: str
    folder: Path = field(compare=False)
    records: tuple[GoldClip | SyntheticClip, ...] = field(compare=False)

    def load(self, index: int, sample_rate_hz: int) -> Floats:
        """Mono waveform (T,) of a clip."""
        return load_clip(self.folder, self.records[index], sample_rate_hz)

    def load_all(self, sample_rate_hz: int) -> list[Floats]:
        """Mono waveforms of all clips."""
        return [self.load(index, sample_rate_hz) for index in range(len(self.records))]


def embed_tasks(store: ItemStore, clap: Path, clap_hash: str, clips: Clips, batch_size: int) -> list[Task]:
    """CLAP embeddings and fingerprints of a few batches each.

    A killed stage keeps finished ones, and processes share the work. The batch size determines no embedding.
    """
    step, total = 8 * batch_size, len(clips.records)
    key = {"kind": "embeddings", "clap": clap_hash, "clips": clips.content}
    parts = [(start, min(start + step, total)) for start in range(0, total, step)]
    return [Task(store, {**key, "part": list(part)}, partial(_embed, clap, clips, part, batch_size)) for part in parts]


def _embed(clap: Path, clips: Clips, part: tuple[int, int], batch_size: int, folder: Path) -> None:
    """Write `embeddings.npy` and `fingerprints.npy` of the clips of a part.

    Audio is at one level, so that gain does not hide copies and loudness does not pass as quality.
    """
    scorer, places = ClapScorer.load(clap, batch_size=batch_size), range(*part)
    prints = [fingerprint(clips.load(i, clips.records[i].sample_rate_hz)) for i in places]
    waveforms = [levelled(clips.load(i, scorer.sample_rate_hz)) for i in places]
    np.save(folder / "embeddings.npy", scorer.embed_audio(waveforms, scorer.sample_rate_hz))
    np.save(folder / "fingerprints.npy", np.array(prints))


def zero_shot_probabilities(clap: Path, tasks: Sequence[Task], labels: Sequence[str]) -> NDArray[np.float64]:
    """Zero-shot probabilities (clips, K) of a CLAP, from finished embeddings of the clips.

    They are a softmax over scaled similarities to the label prompts.
    """
    first, prompts = tasks[0], [template_caption(label) for label in labels]

    def make(folder: Path) -> None:
        scorer = ClapScorer.load(clap, device="cpu")
        scale = float(scorer.model.logit_scale_a.detach().exp())
        np.save(folder / "prompts.npy", scale * scorer.embed_text(prompts).astype(np.float64))

    item = first.store.get_or_make(make, kind="prompts", clap=first.key["clap"], prompts=prompts)
    scaled = np.load(item / "prompts.npy", allow_pickle=False)
    found: NDArray[np.float64] = softmax(embedded(tasks)[0].astype(np.float64) @ scaled.T, axis=1)
    return found


@dataclass(frozen=True)
class Encoder:
    """A frozen encoder of a run, compared by content."""

    content: str
    folder: Path = field(compare=False)


@dataclass(frozen=True)
class PredictTask:
    """Task: probabilities of all clips from one model.

    Attributes:
        embed: embedding tasks of the CLAP that it may hear through.
        encoders: encoders that it may hear through, by the name of the learner.
    """

    store: ItemStore
    model: Path
    model_hash: str
    clips: Clips
    batch_size: int
    embed: Sequence[Task] = ()
    encoders: Mapping[str, Encoder] = field(default_factory=dict)

    @property
    def key(self) -> dict[str, object]:
        """What determines the probabilities; the batch size does not."""
        key: dict[str, object] = {"kind": "probabilities", "model": self.model_hash, "clips": self.clips.content}
        if self.embed:
            key["clap"] = self.embed[0].key["clap"]
        if self.encoders:
            key["encoders"] = {name: encoder.content for name, encoder in self.encoders.items()}
        return key

    def make(self, folder: Path) -> None:
        """Write `probabilities.npy`."""
        np.save(folder / "probabilities.npy", self._probabilities(open_classifier(self.model)))

    def _probabilities(self, model: Opened) -> NDArray[np.float64]:
        """What `model.probabilities` gives, with features that all models of a run share."""
        if isinstance(model, OpenedBlend):
            return blended([(self._probabilities(each), member) for each, member in model.members], model.multi_label)
        if isinstance(model, OpenedLearner):
            return model.model.of_features(self._features(model.model))
        if not isinstance(model, OpenedTransformer):
            raise TypeError(f"no kind of classifier: {type(model).__name__}")
        features = _frames(self.clips, model.classifier.front_end)
        model.classifier.model.to(device())
        logits = feature_logits(model.classifier, features, self.batch_size)
        return probabilities(logits.cpu().numpy(), model.multi_label)

    def _features(self, model: LearnerModel) -> Sequence[Floats]:
        if model.front_end == ENCODER:
            return _encoded(self.store, self.encoders[model.learner], self.clips)
        if model.front_end != CLAP:
            return _heard(self.clips, model.front_end)
        for part in self.embed:
            obtain(part)
        return list(embedded(self.embed)[0])


# All models of a run have equal front ends; each process therefore computes the features of a set once.
@lru_cache(maxsize=1)
def _frames(clips: Clips, front_end: FrontEnd) -> tuple[torch.Tensor, ...]:
    return tuple(front_end(clips.load_all(front_end.sample_rate_hz)))


@lru_cache(maxsize=4)
def _heard(clips: Clips, name: str) -> list[Floats]:
    encoder = front_end(name)
    return encoder(clips.load_all(encoder.sample_rate_hz))


def _encoded(store: ItemStore, encoder: Encoder, clips: Clips) -> list[Floats]:
    """Features of clips from an encoder, computed once for all its learners."""

    def make(folder: Path) -> None:
        hears = open_encoder(encoder.folder)
        found = [hears([clips.load(index, hears.sample_rate_hz)])[0] for index in range(len(clips.records))]
        np.save(folder / "features.npy", np.stack(found))

    item = store.get_or_make(make, kind="features", encoder=encoder.content, clips=clips.content)
    return list(np.load(item / "features.npy", allow_pickle=False))


def embedded(tasks: Sequence[Task]) -> tuple[Floats, list[str]]:
    """(N, D) embeddings and N fingerprints of finished tasks."""
    rows = np.concatenate([np.load(item_of(task) / "embeddings.npy") for task in tasks])
    return rows, [str(value) for task in tasks for value in np.load(item_of(task) / "fingerprints.npy")]


def predicted(task: PredictTask) -> NDArray[np.float64]:
    """(N, K) probabilities of a finished task."""
    values: NDArray[np.float64] = np.load(item_of(task) / "probabilities.npy")
    return values
