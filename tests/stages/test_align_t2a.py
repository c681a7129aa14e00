from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableAudioPipeline

import components.align_t2a.alignment as item
import components.align_t2a.step as training
from common.config.t2a import AlignT2APlan
from common.errors import DataError, Interrupted
from common.records.gold import GoldSet
from components.align_t2a.run import run
from tests.kit.clips import synthetic_clip
from tests.kit.gold import tones_gold, write_synthetic
from tests.kit.models import build_t2a
from tests.kit.sounds import TONES, tone

SAMPLER = {"steps": 2, "guidance_scale": 2.0, "batch_size": 4, "bucket_frames": 4}
SETTINGS = {
    "optim": {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "record_every": 2},
    "sampler": SAMPLER,
    "beta": 50,
    "distance_clips_per_class": 1,
    "lora_rank": 2,
    "probe_every": 2,
    "keep_best_by": "none",
}
CONFIG = AlignT2APlan.model_validate(
    {"settings": SETTINGS, "replicates": [0, 1], "alignments": ["dpo", "erm"], "losers_per_clip": 2}
).model_dump(mode="json")


def write_losers(folder: Path, gold: GoldSet) -> None:
    """Three clips of the wrong label per training clip and replicate: one more than is used."""
    clips, audio = [], {}
    for replicate in gold.replicates:
        for winner in gold.train(replicate):
            for index in range(3):
                clip_id = f"{winner.clip_id}.{replicate}.{index}"
                audio[clip_id] = tone(TONES[winner.label_id - 1], 10 + 3 * replicate + index)
                clips.append(
                    synthetic_clip(
                        clip_id,
                        winner.label,
                        winner.label_id,
                        replicate=replicate,
                        source_clip_id=winner.clip_id,
                        index=index,
                    )
                )
    write_synthetic(folder, clips, audio)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    build_t2a(0).save(root / "t2a")
    tones_gold(root / "gold", val_per_label=1)
    write_losers(root / "losers", GoldSet(root / "gold"))
    return root


@pytest.fixture
def align(inputs: Path, tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    calls = iter(range(100))

    def call(**changes: Any) -> tuple[Path, dict[str, Any]]:
        out = tmp_path / str(next(calls))
        figures = run(
            str(inputs / "t2a"),
            str(inputs / "gold"),
            str(inputs / "losers"),
            str(out / "aligned"),
            str(out / "metrics.json"),
            config=CONFIG | changes,
            code_version="1",
        )
        assert json.loads((out / "metrics.json").read_text()) == figures
        return out / "aligned", figures

    return call


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_every_replicate_and_loss_gives_a_plain_pipeline_with_its_account(
    align: Callable[..., tuple[Path, dict[str, Any]]],
) -> None:
    aligned, figures = align()
    account = json.loads((aligned / "align.json").read_text())
    names = {f"{replicate}/{alignment}" for replicate in (0, 1) for alignment in ("dpo", "erm")}
    assert account.keys() == names | {"failures"} and account["failures"] == {}
    for name in names:
        StableAudioPipeline.from_pretrained(aligned / name)
        entry = account[name]
        assert entry["curve"][-1]["step"] == 4 and entry["pairs"] == 12
        figures_of_a_probe = {"held_out_error", "spectrum_db", "latent_frechet"}
        assert entry["before"].keys() == entry["after"].keys() == figures_of_a_probe
        assert [row["step"] for row in entry["during"]] == [0, 2, 4] and entry["held_out_clips"] == 3
        assert entry["during"][0] == {"step": 0} | entry["before"]
        assert entry["during"][-1] == pytest.approx({"step": 4} | entry["after"], rel=1e-3)
        assert (entry["best_step"], entry["keep_best_by"], entry["stopped_by"]) == (4, "none", "")
        assert {key: len(bands) for key, bands in entry["spectra_db"].items()} == dict.fromkeys(
            ("gold", "before", "after"), 64
        )
    for replicate in (0, 1):
        assert account[f"{replicate}/dpo"]["before"] == account[f"{replicate}/erm"]["before"]
    assert figures["models"] == 4 and figures["spectrum_db_before"] > 0
    assert len({json.dumps(digest(aligned / name)) for name in names}) == 4


def test_a_model_that_alignment_made_worse_is_kept_as_it_was(
    align: Callable[..., tuple[Path, dict[str, Any]]], inputs: Path
) -> None:
    # Plain dpo at this rate pushes the losers away and takes the winners along.
    optim = SETTINGS["optim"] | {"steps": 12, "learning_rate": 2e-2, "schedule": "constant"}
    settings = SETTINGS | {"optim": optim, "adapter": "full", "keep_best_by": "spectrum_db"}
    aligned, figures = align(settings=settings, replicates=[0], alignments=["dpo"])
    entry = json.loads((aligned / "align.json").read_text())["0/dpo"]
    assert (entry["best_step"], entry["stopped_by"]) == (0, "held_out_error") and entry["curve"][-1]["step"] == 4
    assert entry["after"] == entry["before"] and figures["kept_unaligned"] == figures["stopped_early"] == 1
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (aligned / "0" / "dpo" / weights).read_bytes() == (inputs / "t2a" / weights).read_bytes()


def test_of_several_losses_the_one_that_a_learner_gains_most_from_is_used(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, inputs: Path
) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    changes = {"keep_best_by": "learner_gain", "preference_loss": ["crpo", "sdpo"], "patience": 9}
    aligned, figures = align(settings=SETTINGS | changes, replicates=[0])
    account = json.loads((aligned / "align.json").read_text())
    chosen, plain = account["0/dpo"], account["0/erm"]
    assert figures["models"] == 2 and chosen["keep_best_by"] == "learner_loss" and "tried" not in plain
    assert chosen["tried"].keys() == {"crpo", "sdpo"} and chosen["loss"] == min(
        chosen["tried"], key=chosen["tried"].get
    )
    lowest = min(row["learner_loss"] for row in chosen["during"])
    assert chosen["after"]["learner_loss"] == pytest.approx(lowest, rel=1e-2)
    assert chosen["before"] == plain["before"] and chosen["learner_loss_of_gold"] > 0
    # Two clips of each label are all that the gold set has.
    assert chosen["probes"] == 6

    class Never(item.HeldOutLearner):
        """Finds every clip worse than the one before."""

        def loss(self, *_: Any) -> float:
            seen.append(0)
            return float(len(seen))

    seen: list[int] = []
    monkeypatch.setattr(item, "HeldOutLearner", Never)
    aligned, figures = align(settings=SETTINGS | changes | {"preference_loss": "sdpo", "beta": 60}, replicates=[0])
    entry = json.loads((aligned / "align.json").read_text())["0/dpo"]
    assert entry["best_step"] == 0 and entry["note"] == "alignment did not help: the unaligned model is used"
    weights = "transformer/diffusion_pytorch_model.safetensors"
    assert (aligned / "0" / "dpo" / weights).read_bytes() == (inputs / "t2a" / weights).read_bytes()


def test_only_validation_clips_and_never_others_are_held_out(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = item.encode_held_out

    def watched(backend: Any, clips: Any, *rest: Any) -> Any:
        loaded = list(clips)
        seen.extend(clip.clip_id for clip, _ in loaded)
        return real(backend, loaded, *rest)

    monkeypatch.setattr(item, "encode_held_out", watched)
    align(replicates=[0], alignments=["erm"])
    assert sorted(seen) == ["bus-2", "dog_bark-2", "jazz-2"]


def test_a_second_run_trains_nothing_and_one_more_seed_trains_that_alone(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = align(replicates=[0])
    made: list[str] = []
    real = item.Alignment.make
    monkeypatch.setattr(item.Alignment, "make", lambda job, folder: made.append(job.name) or real(job, folder))
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    again, _ = align(replicates=[0])
    assert made == [] and digest(again) == digest(first)
    align(alignments=["dpo"])
    assert made == ["1/dpo"]


@pytest.mark.e2e
def test_a_stage_ended_by_sigterm_goes_on_to_the_same_model(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "store1"))
    expected = digest(align(replicates=[0], alignments=["dpo"])[0])
    monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / "store2"))
    steps: list[int] = []
    real = training.batch_loss

    def ended(*arguments: Any) -> Any:
        steps.append(len(steps))
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(training, "batch_loss", ended)
    with pytest.raises(Interrupted):
        align(replicates=[0], alignments=["dpo"])
    assert len(steps) < 5 and list((tmp_path / "store2").rglob("step-*/DONE.json"))
    assert digest(align(replicates=[0], alignments=["dpo"])[0]) == expected
    assert len(steps) == 4
    assert not list((tmp_path / "store2").rglob("step-*"))


@pytest.mark.e2e
def test_workers_do_not_change_the_models(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = []
    for workers in (1, 2):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store{workers}"))
        monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda workers=workers: workers)
        made.append(digest(align(alignments=["dpo"])[0]))
    assert made[0] == made[1]


def test_a_failure_is_recorded_and_the_others_are_kept(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = item.Alignment.make

    def broken(job: Any, folder: Path) -> None:
        if job.name == "0/erm":
            raise DataError("the loss is not finite")
        real(job, folder)

    monkeypatch.setattr(item.Alignment, "make", broken)
    monkeypatch.setattr("common.runtime.parallel.cpu_count", lambda: 1)
    with pytest.raises(DataError, match="1 of 4 alignments failed, first 0/erm: DataError: the loss is not finite"):
        align()
    aligned = tmp_path / "0" / "aligned"
    assert set(json.loads((aligned / "align.json").read_text())["failures"]) == {"0/erm"}
    assert (aligned / "1" / "erm" / "model_index.json").is_file() and not (aligned / "0" / "erm").exists()


def test_without_alignments_nothing_heavy_is_imported(inputs: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from components.align_t2a.run import run; "
        f"run('t2a', 'gold', 'losers', {str(tmp_path / 'aligned')!r}, {str(tmp_path / 'm.json')!r}, "
        f"config={CONFIG | {'alignments': []}!r}, code_version='1'); "
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert json.loads((tmp_path / "aligned" / "align.json").read_text()) == {"failures": {}}
