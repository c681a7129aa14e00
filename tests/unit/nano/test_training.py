"""Training of the shipped weights, on a corpus of a few sounds: parts, what is found again, and what is exported."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from transformers.models.t5.modeling_t5 import T5EncoderModel

from common.clap.scorer import ClapScorer
from common.classifier.model import load_classifier
from common.diffusion.backend import load_backend
from common.errors import ConfigError
from common.models.concepts import CONCEPTS
from common.models.files import ModelRecord, damage
from common.storage import STORE_VARIABLE, read_json
from contrib.nano import training
from contrib.nano.training import export, load_settings, train

QUICK = " ".join(
    (
        "prepare_corpus.procedural_clips=84 prepare_corpus.heldout_fraction=0.4",
        "pretrain_t2a.monitor.clips=0 pretrain_t2a.monitor.prompt_count=0 pretrain_t2a.held_out_max_clips=4",
        *(
            f"{section}.optim.{field}"
            for section in ("pretrain_clap", "pretrain_classifier", "text_encoder", "pretrain_t2a")
            for field in ("warmup_steps=1", "steps=2", "batch_size=8")
        ),
    )
)
PARTS = ("clap", "encoder", "t2a")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two shards of eight tones, as `make nano-corpus` lays it out."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "shards").mkdir()
    rows = []
    for shard in range(2):
        with tarfile.open(folder / "shards" / f"{shard:03d}.tar", "w") as tar:
            for number in range(8):
                name = f"{shard:03d}-{number:05d}.flac"
                tone = np.sin(np.arange(12_000) * 0.02 * (number + 1)) * 0.3
                soundfile.write(folder / name, tone, 16_000)
                tar.add(folder / name, name)
                rows.append({"file": name, "caption": f"tone {number}", "label": f"tone {number % 2}"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_settings_are_valid_and_take_overrides() -> None:
    settings = load_settings("pretrain_t2a.optim.steps=7000")
    assert settings.pretrain_t2a.optim is not None and settings.pretrain_t2a.optim.steps == 7000
    with pytest.raises(ConfigError, match="pretrain_t2a"):
        load_settings("pretrain_t2a.stepps=1")


@pytest.mark.e2e
def test_all_parts_are_trained_once_and_exported_as_models_that_load(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    work, models, records = tmp_path / "work", tmp_path / "models", tmp_path / "records.yaml"
    settings = load_settings(QUICK)
    train(corpus, work, PARTS, settings)
    export(work, models, records, PARTS)
    folder = models / "nano"
    scorer, backend = ClapScorer.load(folder / "clap"), load_backend(folder / "t2a")
    assert scorer.sample_rate_hz == backend.sample_rate_hz == 16_000
    assert "tone 0" in load_classifier(folder / "encoder").labels
    assert "tone 0" in read_json(folder / "t2a" / CONCEPTS)
    taught, used = T5EncoderModel.from_pretrained(work / "text").state_dict(), backend.text_encoder.state_dict()
    assert all(torch.allclose(value, used[name], rtol=1e-3, atol=1e-3) for name, value in taught.items())
    told = yaml.safe_load(records.read_text())
    assert not [path for path in folder.rglob("*.json") if str(tmp_path) in path.read_text()], "a path of this machine"
    for name in PARTS:
        record = ModelRecord.model_validate({"model": f"nano/{name}", **told[f"nano/{name}"]})
        assert damage(folder / name, record.files) is None
    # Nothing is made again, so that one process can train while another does.
    monkeypatch.setattr(training, "PARTS", {name: _unused(part) for name, part in training.PARTS.items()})
    train(corpus, work, PARTS, settings)


def _unused(part: training.Part) -> training.Part:
    def run(**_: object) -> dict[str, object]:
        raise AssertionError(f"{part.stage} ran again")

    return replace(part, run=run)
