"""Tiny classifiers of every kind that a run delivers: a learner, an AST with a fitted last layer, a blend."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.config.classifier import ASTArchitecture
from tests.kit.sounds import CLASS_LABELS, class_sound

KINDS = ("stats", "cnn", "probe", "blend")
BLENDED = (("cnn", 0.5), ("probe", 2.0), ("stats", 1.3))
"""Members of the blend, with their temperatures."""


def write_kind(kind: str, folder: Path, multi_label: bool = False, rate: int = 16000) -> Path:
    """Write a classifier of `CLASS_LABELS` to `folder`; `rate` is that of the AST."""
    if kind == "blend":
        from common.learners.opened import save_blend

        sources = [(name, t, write_kind(name, folder / "sources" / name, multi_label, rate)) for name, t in BLENDED]
        save_blend(folder / "blend", sources)
        return folder / "blend"
    folder.mkdir(parents=True)
    if kind == "probe":
        _write_probe(folder, multi_label, rate)
    else:
        _write_learner(kind, folder, multi_label)
    return folder


def _write_learner(kind: str, folder: Path, multi_label: bool) -> None:
    from common.learners.cnn import fit_convnet
    from common.learners.front_ends import front_end
    from common.learners.heads import LinearHead
    from common.learners.linear import fit_discriminant
    from common.learners.model import LearnerModel
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


def _write_probe(folder: Path, multi_label: bool, rate: int) -> None:
    from common.classifier.model import build_classifier, save_classifier, with_fresh_head
    from common.classifier.probe import last_layer, set_last_layer
    from tests.kit.models import AST_ARCHITECTURE

    architecture = ASTArchitecture.model_validate({**AST_ARCHITECTURE.model_dump(), "sample_rate_hz": rate})
    built = build_classifier(architecture, ["a", "b"], -6.0, 3.0, seed=2)
    made = with_fresh_head(built, CLASS_LABELS, 0, multi_label)
    weight = np.random.default_rng(3).standard_normal(tuple(last_layer(made).weight.shape))
    set_last_layer(made, weight, np.array([0.5, -0.5, 0.0]))
    save_classifier(made, folder)
