from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.clap.scorer import ClapScorer
from common.config.base import OptimConfig
from common.records.audio_folder import load_clip
from common.records.clips import GoldClip
from common.records.gold import GoldSet
from common.storage import read_json
from components.finetune_clap.finetuning import label_captions, label_figures, tune
from components.finetune_clap.run import run
from tests.kit.gold import clap_gold
from tests.kit.hashing import hash_dir
from tests.kit.models import write_clap
from tests.kit.sounds import CLAP_RATE

CODE = "test"
OPTIM = {"steps": 50, "batch_size": 6, "learning_rate": 3e-3, "warmup_steps": 4}


@pytest.fixture()
def inputs(tmp_path: Path) -> tuple[Path, Path]:
    return write_clap(tmp_path / "clap"), clap_gold(tmp_path / "gold")


def finetune(inputs: tuple[Path, Path], out: Path, code: str = CODE, **settings: Any) -> dict[str, Any]:
    config = {"settings": {"optim": OPTIM, **settings}, "replicates": [0, 1]}
    return dict(run(str(inputs[0]), str(inputs[1]), str(out), str(out) + ".json", config=config, code_version=code))


def test_finetuning_raises_validation_auc_and_its_model_is_kept(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    figures = finetune(inputs, tmp_path / "out")
    assert figures["auc_after"] > figures["auc_before"] and figures["kept_finetuned"] == 2
    account = read_json(tmp_path / "out" / "finetune.json")
    assert set(account) == {"0", "1"}
    for replicate, row in account.items():
        assert row["after"]["auc"] > row["before"]["auc"]
        ClapScorer.load(tmp_path / "out" / replicate)


def test_without_replicates_nothing_is_tuned(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    config = {"settings": {"optim": OPTIM}, "replicates": []}
    paths = (*map(str, inputs), str(tmp_path / "out"), str(tmp_path / "out.json"))
    assert run(*paths, config=config, code_version=CODE) == {"kept_finetuned": 0}
    assert read_json(tmp_path / "out" / "finetune.json") == {}


@pytest.mark.e2e
def test_finetuning_repeats_bit_for_bit_and_replicates_differ(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    finetune(inputs, tmp_path / "a")
    finetune(inputs, tmp_path / "b", code="other version, so nothing is taken from the store")
    assert hash_dir(tmp_path / "a") == hash_dir(tmp_path / "b")
    assert hash_dir(tmp_path / "a" / "0") != hash_dir(tmp_path / "a" / "1")


def test_the_pretrained_model_is_kept_where_finetuning_does_not_help(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    finetune(inputs, tmp_path / "out", optim={**OPTIM, "steps": 1, "warmup_steps": 0, "learning_rate": 1e-12})
    account = read_json(tmp_path / "out" / "finetune.json")
    assert {row["kept"] for row in account.values()} == {"pretrained"}
    clip = np.sin(np.arange(CLAP_RATE, dtype=np.float32))
    rows = [ClapScorer.load(folder).embed_audio([clip], CLAP_RATE) for folder in (inputs[0], tmp_path / "out" / "0")]
    np.testing.assert_array_equal(*rows)


def test_switched_off_every_replicate_gets_the_pretrained_model(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    finetune(inputs, tmp_path / "out", enabled=False)
    assert hash_dir(tmp_path / "out" / "0") == hash_dir(tmp_path / "out" / "1") == hash_dir(inputs[0])


def test_the_best_evaluation_on_validation_clips_is_kept(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {"steps": 24, "evaluate_every": 4, "schedule": "constant", "precision": "bf16"}
    finetune(inputs, tmp_path / "out", optim={**OPTIM, **settings})
    gold = GoldSet(inputs[1])
    for replicate, row in read_json(tmp_path / "out" / "finetune.json").items():
        told = {point["step"]: point["val_auc"] for point in row["curve"] if "val_auc" in point}
        assert set(told) == {4, 8, 12, 16, 20, 24} and row["after"]["auc"] == max(told.values())
        assert told[row["best_step"]] == max(told.values())
        scorer, clips = ClapScorer.load(tmp_path / "out" / replicate), gold.val(int(replicate))
        audio = [gold.load(clip, CLAP_RATE) for clip in clips]
        found = label_figures(scorer, audio, [clip.label_id for clip in clips], gold.labels, CLAP_RATE)
        assert found == row["after"]


def test_without_validation_clips_nothing_shows_that_finetuning_helped(inputs: tuple[Path, Path]) -> None:
    scorer = ClapScorer.load(inputs[0])
    clips = [np.sin(np.arange(CLAP_RATE, dtype=np.float32) * pitch) for pitch in (0.1, 0.2)]
    optim = OptimConfig(steps=3, batch_size=2, learning_rate=1e-2)
    tuned, curve, before, after = tune(scorer, clips, ["a", "b"], CLAP_RATE, optim, seed=0, judge=lambda _: {})
    assert curve.best_step == 0 and before == after == {}
    np.testing.assert_array_equal(*[each.embed_audio(clips, CLAP_RATE) for each in (scorer, tuned)])


def test_only_clips_of_the_replicate_are_read(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()

    def spy(self: GoldSet, clip: GoldClip, rate: int) -> np.ndarray:
        read.add(clip.clip_id)
        return load_clip(self.path, clip, rate)

    monkeypatch.setattr(GoldSet, "load", spy)
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    finetune(inputs, tmp_path / "out")
    gold = GoldSet(inputs[1])
    assert (
        read
        == {clip.clip_id for replicate in (0, 1) for clip in [*gold.train(replicate), *gold.val(replicate)]}
        != set(gold.clips)
    )


def test_every_wording_contains_the_label() -> None:
    assert all("dog bark" in caption for caption in label_captions("Dog_Bark"))
