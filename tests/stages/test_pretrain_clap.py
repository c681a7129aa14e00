from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import ClapModel, ClapProcessor

from common.clap.scorer import ClapScorer
from common.errors import ConfigError
from common.hashing import hash_dir
from common.storage import read_json
from components.pretrain_clap.run import run
from tests.stages.clap_artifacts import ARCHITECTURE, CODE, write_clap, write_corpus
from tests.unit.clap.small import RATE_HZ

TRAINED: dict[str, Any] = {
    "checkpoint": None,
    "revision": None,
    "architecture": ARCHITECTURE,
    "optim": {"steps": 60, "batch_size": 12, "learning_rate": 3e-3, "warmup_steps": 5},
}


def pretrain(
    tmp_path: Path, settings: dict[str, Any], name: str = "clap", code: str = CODE
) -> tuple[Path, dict[str, Any]]:
    corpus = tmp_path / "corpus"
    if not corpus.exists():
        write_corpus(corpus)
    out = tmp_path / name
    metrics = tmp_path / f"{name}.json"
    figures = run(str(corpus), str(out), str(metrics), config={"settings": settings, "seed": 0}, code_version=code)
    assert read_json(metrics) == figures
    return out, figures


def test_pretraining_tells_held_out_classes_apart(tmp_path: Path) -> None:
    out, figures = pretrain(tmp_path, TRAINED)
    assert figures["heldout_auc"] > 0.9
    account = read_json(out / "training.json")
    assert account["curve"][-1]["loss"] < account["curve"][0]["loss"] and account["heldout"]["clips"] == 9
    ClapModel.from_pretrained(out)
    ClapProcessor.from_pretrained(out)


def test_pretraining_repeats_bit_for_bit(tmp_path: Path) -> None:
    first, _ = pretrain(tmp_path, TRAINED, "first")
    second, _ = pretrain(tmp_path, TRAINED, "second", code="other version, so nothing is taken from the store")
    assert hash_dir(first) == hash_dir(second)


def test_a_checkpoint_is_verified_and_handed_on_unchanged(tmp_path: Path) -> None:
    published = write_clap(tmp_path / "published")
    out, figures = pretrain(tmp_path, {"checkpoint": str(published), "revision": None})
    clip = np.sin(np.arange(RATE_HZ, dtype=np.float32))
    rows = [ClapScorer.load(folder).embed_audio([clip], RATE_HZ) for folder in (published, out)]
    np.testing.assert_array_equal(*rows)
    assert 0 <= figures["heldout_auc"] <= 1


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set checkpoint to a name or directory"):
        pretrain(tmp_path, {"checkpoint": str(tmp_path / "absent"), "revision": None})
