"""Real tiny classifiers and clips of three easy classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.classifier.model import Classifier, build_classifier, save_classifier
from common.config.classifier import ASTArchitecture, LevelConfig
from tests.kit.models import AST_ARCHITECTURE

LABELS = ["Glass / break", "dog bark", "müsic"]


@pytest.fixture(scope="session")
def architecture() -> ASTArchitecture:
    return AST_ARCHITECTURE


@pytest.fixture(scope="session")
def classifier(architecture: ASTArchitecture) -> Classifier:
    return build_classifier(architecture, LABELS, mean=-6.0, std=3.0, seed=7)


@pytest.fixture(scope="session")
def levelled(architecture: ASTArchitecture) -> Classifier:
    """One that hears every clip at one level."""
    return build_classifier(architecture, LABELS, mean=-6.0, std=3.0, seed=7, level=LevelConfig())


@pytest.fixture(scope="session")
def classifier_dir(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    save_classifier(classifier, folder)
    return folder


@pytest.fixture
def clips() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    time = np.arange(7000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    return [tone, (0.1 * rng.standard_normal(7000)).astype(np.float32), (1e-4 * tone).astype(np.float32)]
