"""Tiny classifiers of every kind that a run delivers: learners, an AST with a fitted last layer, blends."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.config.classifier import ASTArchitecture, LevelConfig
from common.contracts.training import Member
from tests.kit.sounds import CLASS_LABELS, RATE, class_sound

KINDS = ("stats", "cnn", "probe", "levelled_probe", "blend")


def member(learner: str, temperature: float = 1.0, weight: float = 1.0) -> Member:
    """A member of a blend."""
    return Member(learner=learner, temperature=temperature, weight=weight)


BLENDED = (member("cnn", 0.5, 1.2), member("probe", 2.0, 0.7), member("stats", 1.3, 3.0))
"""Members of the blend."""
CLAP_KINDS = ("probe_clap", "few_shot_clap", "clap_blend")
"""Kinds that hear through a CLAP, which lies beside the learner."""
_BLENDS = {"blend": BLENDED, "clap_blend": (member("stats", 1.3, 1.5), member("few_shot_clap", 0.8, 0.6))}


def write_kind(kind: str, folder: Path, multi_label: bool = False, rate: int = 16000) -> Path:
    """Write a classifier of `CLASS_LABELS` to `folder`; `rate` is that of the AST or the CLAP."""
    if kind in _BLENDS:
        from common.learners.opened import save_blend

        sources = [
            (each, write_kind(each.learner, folder / "sources" / each.learner, multi_label, rate))
            for each in _BLENDS[kind]
        ]
        save_blend(folder / "blend", sources)
        return folder / "blend"
    folder.mkdir(parents=True)
    if kind in ("probe", "levelled_probe"):
        _write_probe(folder, multi_label, rate, LevelConfig() if kind == "levelled_probe" else None)
    elif kind in CLAP_KINDS:
        _write_clap_learner(kind, folder, multi_label, rate)
    else:
        _write_learner(kind, folder, multi_label)
    return folder


def _write_learner(kind: str, folder: Path, multi_label: bool) -> None:
    from common.learners.cnn import fit_convnet
    from common.learners.front_ends import front_end
    from common.learners.linear import fit_discriminant
    from common.learners.model import LearnerModel, LinearHead
    from common.learners.statistics import SCALES

    name = {"stats": "statistics", "cnn": "log_mel"}[kind]
    features = front_end(name)([class_sound(i % 3, np.random.default_rng(i)) for i in range(12)])
    targets = np.eye(3)[np.arange(12) % 3]
    if kind == "stats":
        fitted = fit_discriminant(np.stack(features), targets, np.ones(12), 0.3, multi_label, SCALES)
        LearnerModel(kind, name, LinearHead.of(fitted), tuple(CLASS_LABELS), multi_label, 1.5).save(folder)
    else:
        net = fit_convnet(features, targets, [], targets[:0], 0.0, multi_label=multi_label, steps=10, seed=1)
        LearnerModel(kind, name, net, tuple(CLASS_LABELS), multi_label, 0.7).save(folder)


def _write_clap_learner(kind: str, folder: Path, multi_label: bool, rate: int) -> None:
    from common.audio.signal import resample
    from common.learners.cache import fit_cache, label_texts
    from common.learners.front_ends import CLAP, Clap
    from common.learners.linear import fit_logistic
    from common.learners.model import LearnerModel, LinearHead
    from tests.kit.models import write_clap

    hears = Clap(write_clap(folder / CLAP, steps=10, rate=rate))
    features = np.stack(hears([resample(class_sound(i % 3, np.random.default_rng(i)), RATE, rate) for i in range(12)]))
    targets, weights = np.eye(3)[np.arange(12) % 3], np.ones(12)
    if kind == "few_shot_clap":
        told = label_texts(hears.scorer, CLASS_LABELS)
        head = fit_cache(features, targets, weights, told.several, told.scale, 0.5, 5.0, multi_label)
    else:
        head = LinearHead.of(fit_logistic(features, targets, weights, 1.0, multi_label))
    LearnerModel(kind, CLAP, head, tuple(CLASS_LABELS), multi_label, 1.5, hears).save(folder)


def _write_probe(folder: Path, multi_label: bool, rate: int, level: LevelConfig | None) -> None:
    from common.classifier.inference import last_layer, set_last_layer
    from common.classifier.model import build_classifier, save_classifier, with_fresh_head
    from tests.kit.models import AST_ARCHITECTURE

    architecture = ASTArchitecture.model_validate({**AST_ARCHITECTURE.model_dump(), "sample_rate_hz": rate})
    built = build_classifier(architecture, ["a", "b"], -6.0, 3.0, seed=2, level=level)
    made = with_fresh_head(built, CLASS_LABELS, 0, multi_label)
    weight = np.random.default_rng(3).standard_normal(tuple(last_layer(made).weight.shape))
    set_last_layer(made, weight, np.array([0.5, -0.5, 0.0]))
    save_classifier(made, folder)
