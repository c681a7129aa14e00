"""Fixtures of the CLAP tests."""

from __future__ import annotations

import numpy as np
import pytest

from common.clap.scorer import ClapScorer
from common.clap.training import build_clap
from common.corpus.vocabulary import Vocabulary, build_vocabulary
from tests.kit.models import CLAP_ARCHITECTURE
from tests.kit.sounds import CLAP_SOUNDS, clap_sound


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return build_vocabulary([f"sound of a {label}" for label in CLAP_SOUNDS for _ in range(3)])


@pytest.fixture()
def small_clap(vocabulary: Vocabulary) -> ClapScorer:
    return build_clap(CLAP_ARCHITECTURE, vocabulary, seed=1)


@pytest.fixture(scope="session")
def sounds() -> tuple[list[np.ndarray], list[str]]:
    """24 clips of three labels, 0.6 to 1 s."""
    rng = np.random.default_rng(5)
    labels = [CLAP_SOUNDS[index % 3] for index in range(24)]
    return [clap_sound(label, rng, rng.uniform(0.6, 1.0)) for label in labels], labels
