"""The second judge: the learner `stats`, fitted to the gold training clips alone, hears details that CLAP does not.

It is cross-fitted: a synthetic clip is judged by a model that has not met its source, nor anything recorded with it. So
a clip is not accepted for being like the one that it was made from.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from common.classifier.inference import probabilities
from common.config.clap import SecondJudgeConfig
from common.errors import DataError
from common.learners.calibration import fit_temperature, tempered
from common.learners.front_ends import Features
from common.learners.linear import Linear, fit_discriminant
from common.learners.statistics import SCALES
from common.records.clips import GoldClip
from components.filter_audio.filtering import Opinion
from components.filter_audio.thresholds import Flags

FRONT_END = "statistics"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SecondJudge:
    """Models that are each fitted to all gold clips but those of one fold.

    Attributes:
        known: (folds, labels) whether a model has met the label; it has no say on others.
        bounds: (labels,) probability from which a label is accepted.
    """

    models: tuple[Linear, ...]
    folds: Mapping[str, int]
    known: Flags
    bounds: Floats
    temperature: float
    multi_label: bool

    def hear(self, features: Sequence[Features], sources: Sequence[str]) -> Floats:
        """Calibrated probabilities (N, labels) of clips from their gold clips `sources`; NaN where a model has no say.

        Raises DataError: a source is not one of the gold clips.
        """
        strangers = set(sources) - self.folds.keys()
        if strangers:
            raise DataError(
                f"{len(strangers)} source clips, for example {min(strangers)!r}, are no gold training clips of the "
                "replicate; clips and gold must come from the same run"
            )
        of = np.array([self.folds[source] for source in sources], dtype=np.int64)
        heard = np.zeros((len(of), len(self.bounds)))
        for fold, model in enumerate(self.models):
            rows = np.flatnonzero(of == fold).tolist()
            if rows:
                logits = model.logits(np.stack([features[row] for row in rows]))
                heard[rows] = tempered(probabilities(logits, self.multi_label), self.temperature, self.multi_label)
        return np.where(self.known[of], heard, np.nan)

    def opinions(self, heard: Floats, claims: Flags) -> list[Opinion]:
        """Opinion of each clip: the lowest probability of the labels (N, K) that it claims, and whether it passes."""
        lowest = np.where(claims & ~np.isnan(heard), heard, np.inf).min(axis=1).tolist()
        passes = self.passes(heard, claims).tolist()
        return [Opinion(None if low == np.inf else low, own) for low, own in zip(lowest, passes, strict=True)]

    def passes(self, heard: Floats, claims: Flags) -> Flags:
        """(N,) whether every claimed label reaches its bound; one that a model has no say on does."""
        return np.asarray((~claims | np.isnan(heard) | (heard >= self.bounds)).all(axis=1))


def fit_second_judge(
    features: Sequence[Sequence[Features]],
    clips: Sequence[GoldClip],
    claims: Flags,
    multi_label: bool,
    config: SecondJudgeConfig,
    seed: int,
) -> SecondJudge | None:
    """Cross-fit to the gold training clips of a replicate, and calibrate on what each model did not meet.

    Args:
        features: of each clip, followed by those of its recorded copies.
        clips: those of one group, such as parts of a recording, share a fold.
        claims: (N, K) their labels.
        config: number of folds, ridge, and the bound.

    Returns none if the clips cannot be divided: all are of one group, or each is alone in its class.
    """
    targets, groups = claims.astype(np.float64), [clip.group or clip.clip_id for clip in clips]
    mains = [clip.label_id for clip in clips]
    folds = min(config.folds, len(set(groups)), int(np.bincount(mains).max()))
    if folds < 2:
        return None
    places = np.zeros(len(mains), np.int64)
    with warnings.catch_warnings():
        # A class may have fewer clips than there are folds.
        warnings.simplefilter("ignore", UserWarning)
        split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(places, mains, groups)
        halves = [(fit.tolist(), left_out) for fit, left_out in split]
    models, known = [], []
    for fold, (rows, left_out) in enumerate(halves):
        places[left_out] = fold
        heard = np.stack([each for row in rows for each in features[row]])
        truth = targets[[row for row in rows for _ in features[row]]]
        weights = np.full(len(heard), len(rows) / len(heard))
        models.append(fit_discriminant(heard, truth, weights, config.ridge / len(rows), multi_label, SCALES))
        known.append(truth.any(axis=0))
    chance = targets.mean(axis=0) if multi_label else np.full(claims.shape[1], 1 / claims.shape[1])
    unseen = np.concatenate([models[places[row]].logits(features[row][0][None]) for row in range(len(places))])
    temperature = fit_temperature(probabilities(unseen, multi_label), targets, multi_label)
    fold_of = {clip.clip_id: fold for clip, fold in zip(clips, places.tolist(), strict=True)}
    return SecondJudge(tuple(models), fold_of, np.stack(known), config.least * chance, temperature, multi_label)
