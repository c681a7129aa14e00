"""Other simple classifiers that a sceptic would try on few clips, with scikit-learn's usual settings.

Like plain regression they share no code with the product's learners: no pretraining, no augmentation, no tuning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.benchmarks.plain_regression import Floats, levels, statistics

CEPSTRA = 20
CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "linear discriminant": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "support vectors": lambda: SVC(C=10.0),
    "extra trees": lambda: ExtraTreesClassifier(500, random_state=0),
    "nearest neighbours": lambda: KNeighborsClassifier(3, weights="distance"),
}


def features(waveform: Floats, rate: int) -> NDArray[np.float64]:
    """(448 + 60,) features of a mono clip (T,) at `rate` Hz.

    The `statistics` of plain regression, then of 20 mel cepstra over the frames: mean, standard deviation, and
    deviation of the difference in time.
    """
    cepstra = dct(levels(waveform, rate), norm="ortho")[:, :CEPSTRA]
    own = [cepstra.mean(axis=0), cepstra.std(axis=0), np.diff(cepstra, axis=0).std(axis=0)]
    return np.concatenate([statistics(waveform, rate), *own])


def accuracies(
    heard: Sequence[Floats], labels: Sequence[int], unseen: Sequence[Floats], truth: Sequence[int]
) -> dict[str, float]:
    """Share of `unseen` clips that each classifier gets right.

    Args:
        heard: `features` of the training clips.
        unseen: `features` of the test clips.
    """
    return {
        name: float(make_pipeline(StandardScaler(), make()).fit(heard, labels).score(unseen, truth))
        for name, make in CLASSIFIERS.items()
    }
