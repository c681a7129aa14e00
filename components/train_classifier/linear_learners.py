"""Linear learners: logistic regression on frozen features, on the same clips as every method's AST.

Its settings are chosen by repeated splits of training and validation clips together: the few validation clips alone
tell them apart badly. The regression is then fitted to the training clips and scored on validation clips, as AST is.
Clips beyond the gold ones, synthetic or augmented copies, enter with a weight that the splits choose, 0 among them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from common.classifier.inference import probabilities
from common.classifier.model import Classifier, load_classifier, save_classifier, with_fresh_head
from common.classifier.probe import embeddings, set_last_layer
from common.classifier.scores import macro_f1, multi_label_macro_f1, multi_label_map
from common.config.classifier import TrainClassifierConfig, Waveform
from common.config.methods import Augmentation
from common.learners.linear import Linear, fit_linear
from common.learners.model import StatisticsClassifier
from common.learners.statistics import SAMPLE_RATE_HZ, statistics
from common.log import event, get_logger
from common.records.audio_folder import load_clip
from common.records.clips import SyntheticClip
from common.runtime.seeding import derive_seed
from common.storage import write_json
from common.storage.items import ItemStore
from components.train_classifier.candidates import Strength
from components.train_classifier.clip_sets import ClipSet
from components.train_classifier.jobs import MODEL, RESULT
from components.train_classifier.waveform import Backgrounds, augmented_copies, load_backgrounds

Floats = NDArray[np.float64]
log = get_logger("train_classifier")


@dataclass(frozen=True)
class Pretrained:
    """The pretrained classifier, compared by content.

    Attributes:
        folder: its directory.
        content: hash of the directory.
        window_s: seconds that the new classifier sees at once; None = as many as this one.
    """

    folder: Path = field(compare=False)
    content: str
    window_s: float | None


@dataclass(frozen=True)
class LinearJob:
    """One learner on one method's clips in one replicate.

    Attributes:
        learner: a linear one of `LEARNERS`.
        method: for log lines.
        seed: the replicate.
        gold: training clips.
        validation: validation clips.
        synthetic: further clips of the method, may be empty.
        classic: augmentation, of waveforms; its copies are further clips.
        strengths: to choose from; `(None,)` without augmentation.
    """

    learner: str
    method: str
    seed: int
    pretrained: Pretrained
    labels: tuple[str, ...]
    multi_label: bool
    gold: ClipSet
    validation: ClipSet
    synthetic: ClipSet
    classic: Augmentation
    strengths: tuple[Strength | None, ...]
    settings: TrainClassifierConfig
    store: ItemStore
    backgrounds: Backgrounds | None = None

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.learner} on {self.method}/{self.seed}"

    def key(self) -> dict[str, Any]:
        """Store key of the item."""
        chosen = None if self.classic == "none" else getattr(self.settings, self.classic).model_dump(mode="json")
        return {
            "learner": self.learner,
            "pretrained": [self.pretrained.content, self.pretrained.window_s] if self.learner == "probe" else None,
            "labels": self.labels,
            "multi_label": self.multi_label,
            "seed": self.seed,
            "clips": [clips.identity for clips in (self.gold, self.validation, self.synthetic)],
            "classic": [self.classic, self.strengths, chosen],
            "backgrounds": self.backgrounds and self.backgrounds.identity,
            "settings": [self.settings.regularisation, self.settings.synthetic_weights, self.settings.splits],
        }


@dataclass(frozen=True)
class Further:
    """Features and targets of clips beyond the gold ones, with the gold clip (by place) that each comes from, or -1."""

    features: NDArray[np.float32]
    targets: Floats
    sources: NDArray[np.int64]


def run_linear(job: LinearJob) -> Path:
    """Fit the job's learner, or find it in the store; the item has `model/` and `result.json`, as those of AST."""
    return job.store.get_or_make(lambda folder: _make(job, folder), **job.key())


def _make(job: LinearJob, folder: Path) -> None:
    encode = _encoder(job.learner, job.pretrained)
    gold, held = (_encoded(job.learner, job.pretrained, clips) for clips in (job.gold, job.validation))
    targets, held_targets = (_targets(clips, len(job.labels)) for clips in (job.gold, job.validation))
    splits = _splits(job)
    features, both = np.concatenate([gold, held]), np.concatenate([targets, held_targets])

    def loss(further: Further, penalty: float, weight: float) -> float:
        found = []
        for fit, score in splits:
            model = _fit(job, features, both, fit, further, penalty, weight)
            found.append(_loss(model.logits(features[score]), both[score], job.multi_label))
        return float(np.mean(found))

    none = Further(gold[:0], targets[:0], np.empty(0, np.int64))
    penalty = min(job.settings.regularisation, key=lambda value: loss(none, value, 0.0))
    best: tuple[float, float, Strength | None, Further] = (loss(none, penalty, 0.0), 0.0, None, none)
    tried = []
    for strength in job.strengths:
        further = _further(job, strength, encode, targets)
        for weight in job.settings.synthetic_weights:
            if not len(further.features) or weight == 0:
                continue
            value = loss(further, penalty, weight)
            tried.append({"strength": strength, "weight": weight, "split_loss": value})
            if value < best[0]:
                best = (value, weight, strength, further)
    split_loss, weight, strength, further = best
    chosen = _fit(job, features, both, np.arange(len(gold)), further, penalty, weight)
    _save(job, chosen, folder / MODEL)
    result = {
        **_scores(chosen.logits(held), held_targets, job.multi_label),
        "split_loss": split_loss,
        "regularisation": penalty,
        "weight": weight,
        "strength": strength,
        "further_clips": len(further.features) if weight else 0,
        "tried": tried,
    }
    write_json(folder / RESULT, result)
    shown = {key: result[key] for key in ("val_accuracy", "val_map", "weight") if key in result}
    event(log, "fitted", name=job.name, **shown)


def _fit(
    job: LinearJob,
    features: NDArray[np.float32],
    targets: Floats,
    places: NDArray[np.int64],
    further: Further,
    penalty: float,
    weight: float,
) -> Linear:
    """Fit to the real clips at `places` and to the further clips that come from them, or from none."""
    used = np.isin(further.sources, [-1, *places]) if weight else np.zeros(len(further.sources), dtype=bool)
    real, extra = len(places), int(used.sum())
    # The sum of weights is the number of real clips, with or without others, so that a penalty means the same.
    share = weight / (1 + weight) if extra else 0.0
    weights = np.concatenate([np.full(real, 1 - share), np.full(extra, share * real / max(extra, 1))])
    return fit_linear(
        np.concatenate([features[places], further.features[used]]),
        np.concatenate([targets[places], further.targets[used]]),
        weights,
        penalty,
        job.multi_label,
    )


def _splits(job: LinearJob) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Halves of training and validation clips together, by class and whole groups: places to fit, places to score."""
    clips = [*job.gold.clips, *job.validation.clips]
    ids = np.array([clip.label_id for clip in clips])
    groups = [getattr(clip, "group", None) or clip.clip_id for clip in clips]
    made = []
    for repeat in range(job.settings.splits):
        seed = derive_seed(job.seed, "splits", repeat) % 2**32
        grouped = len(set(groups)) < len(groups)
        fold = (StratifiedGroupKFold if grouped else StratifiedKFold)(2, shuffle=True, random_state=seed)
        try:
            with warnings.catch_warnings():
                # A class of one clip lies on one side.
                warnings.simplefilter("ignore", UserWarning)
                made.append(next(iter(fold.split(np.zeros(len(clips)), ids, groups))))
        except ValueError:
            # One group, or a single clip in every class: the given split stands.
            count = len(job.gold.clips)
            made.append((np.arange(count), np.arange(count, len(clips))))
    return [(fit, score) for fit, score in made if len(fit) and len(score)]


def _further(
    job: LinearJob,
    strength: Strength | None,
    encode: Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]],
    targets: Floats,
) -> Further:
    """Synthetic clips, and copies of gold and of synthetic clips under the augmentation."""
    places = {clip.clip_id: place for place, clip in enumerate(job.gold.clips)}
    own = [
        places.get(clip.source_clip_id, -1) if isinstance(clip, SyntheticClip) else -1 for clip in job.synthetic.clips
    ]
    rows, found, sources = [], [], []
    if job.synthetic.clips:
        rows.append(_encoded(job.learner, job.pretrained, job.synthetic))
        found.append(_targets(job.synthetic, len(job.labels)))
        sources += own
    if strength is not None and job.classic in get_args(Waveform):
        rate = _sample_rate(job.learner, job.pretrained)
        noises = load_backgrounds(job.backgrounds, rate) if job.backgrounds else ()
        for clips, origin in ((job.gold, list(range(len(job.gold.clips)))), (job.synthetic, own)):
            of_clips = _targets(clips, len(job.labels))
            for clip, target, source in zip(clips.clips, of_clips, origin, strict=True):
                waveform = load_clip(clips.folder, clip, rate)
                copies = augmented_copies(
                    job.classic,  # type: ignore[arg-type]
                    waveform,
                    rate,
                    job.settings,
                    strength,
                    job.seed,
                    clip.clip_id,
                    noises,
                )
                rows.append(encode(copies))
                found.append(np.repeat(target[None], len(copies), axis=0))
                sources += [source] * len(copies)
    if not rows:
        return Further(np.zeros((0, 1), np.float32), targets[:0], np.empty(0, np.int64))
    return Further(np.concatenate(rows), np.concatenate(found), np.array(sources, dtype=np.int64))


def _targets(clips: ClipSet, labels: int) -> Floats:
    return clips.targets(labels).astype(np.float64)


def _loss(logits: Floats, targets: Floats, multi_label: bool) -> float:
    """Mean cross-entropy."""
    found = np.clip(probabilities(logits, multi_label), 1e-6, 1 - 1e-6)
    if multi_label:
        return float(-np.mean(targets * np.log(found) + (1 - targets) * np.log(1 - found)))
    return float(-np.mean(np.log(found[np.arange(len(found)), targets.argmax(axis=1)])))


def _scores(logits: Floats, targets: Floats, multi_label: bool) -> dict[str, float]:
    """Figures on the validation clips, with the names of AST's."""
    found = probabilities(logits, multi_label)
    loss = {"val_loss": _loss(logits, targets, multi_label)}
    if multi_label:
        scores = {"val_map": multi_label_map(targets, found), "val_macro_f1": multi_label_macro_f1(targets, found)}
        return {**scores, **loss}
    truth, guess = targets.argmax(axis=1), found.argmax(axis=1)
    return {"val_accuracy": float((truth == guess).mean()), "val_macro_f1": macro_f1(truth, guess), **loss}


def _save(job: LinearJob, linear: Linear, folder: Path) -> None:
    folder.mkdir()
    if job.learner == "stats":
        StatisticsClassifier(job.labels, job.multi_label, linear).save(folder)
        return
    base = _body(job.pretrained)
    made = with_fresh_head(base, job.labels, 0, job.multi_label, job.pretrained.window_s)
    set_last_layer(made, linear.weight, linear.bias)
    save_classifier(made, folder)


def _sample_rate(learner: str, pretrained: Pretrained) -> int:
    return SAMPLE_RATE_HZ if learner == "stats" else _body(pretrained).sample_rate_hz


def _encoder(learner: str, pretrained: Pretrained) -> Callable[[Sequence[NDArray[np.float32]]], NDArray[np.float32]]:
    """Features (N, D) of waveforms at the encoder's rate."""
    if learner == "stats":
        return statistics
    seen = _windowed(pretrained)
    return lambda clips: embeddings(seen, seen.front_end(clips))


# Caches of what successive jobs of one process share; the keys include content hashes, so entries never become stale.
@lru_cache(maxsize=1)
def _body(pretrained: Pretrained) -> Classifier:
    return load_classifier(pretrained.folder)


@lru_cache(maxsize=1)
def _windowed(pretrained: Pretrained) -> Classifier:
    """The classifier with the head that `_save` writes, but for its last layer."""
    return with_fresh_head(_body(pretrained), ["a", "b"], 0, False, pretrained.window_s)


@lru_cache(maxsize=24)
def _encoded(learner: str, pretrained: Pretrained, clips: ClipSet) -> NDArray[np.float32]:
    encode, rate = _encoder(learner, pretrained), _sample_rate(learner, pretrained)
    return encode([load_clip(clips.folder, clip, rate) for clip in clips.clips])
