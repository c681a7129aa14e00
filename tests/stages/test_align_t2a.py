from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from diffusers import StableAudioPipeline

import components.align_t2a.item as item
from common.config.t2a import AlignT2APlan, SynthesizeAudioPlan
from common.errors import DataError
from components.align_t2a.run import run
from components.synthesize_audio.run import run as synthesize
from tests.tiny_t2a import build_model, write_gold

SAMPLER = {"steps": 2, "guidance_scale": 2.0, "batch_size": 4, "bucket_frames": 4}
OPTIM = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3, "record_every": 2}
CONFIG = AlignT2APlan.model_validate(
    {
        "settings": {"sampler": SAMPLER, "optim": OPTIM, "beta": 50, "distance_clips_per_class": 1, "lora_rank": 2},
        "seeds": [0, 1],
        "alignments": ["dpo", "erm"],
        "losers_per_clip": 2,
    }
).model_dump(mode="json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    build_model(0).save(root / "t2a")
    write_gold(root / "gold")
    plan = SynthesizeAudioPlan.model_validate(
        {"settings": {"sampler": SAMPLER}, "seeds": [0, 1], "template_clips_per_gold": 3}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHIO_STORE", str(root / "store"))
        synthesize(
            str(root / "t2a"),
            str(root / "gold"),
            str(root / "losers"),
            str(root / "m.json"),
            config=plan.model_dump(mode="json"),
            code_version="1",
        )
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
    names = {f"{seed}/{alignment}" for seed in (0, 1) for alignment in ("dpo", "erm")}
    assert account.keys() == names | {"failures"} and account["failures"] == {}
    for name in names:
        StableAudioPipeline.from_pretrained(aligned / name)
        entry = account[name]
        assert entry["curve"][-1]["step"] == 4 and entry["pairs"] == 12
        assert {"spectrum_db", "latent_frechet"} == entry["before"].keys() == entry["after"].keys()
        assert {key: len(bands) for key, bands in entry["spectra_db"].items()} == dict.fromkeys(
            ("gold", "before", "after"), 64
        )
    for seed in (0, 1):
        assert account[f"{seed}/dpo"]["before"] == account[f"{seed}/erm"]["before"]
    assert figures["models"] == 4 and figures["spectrum_db_before"] > 0
    assert len({json.dumps(digest(aligned / name)) for name in names}) == 4


def test_a_second_run_trains_nothing_and_one_more_seed_trains_that_alone(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = align(seeds=[0])
    made: list[str] = []
    real = item._make
    monkeypatch.setattr(item, "_make", lambda job, folder: made.append(job.name) or real(job, folder))
    monkeypatch.setattr("common.parallel.cpu_count", lambda: 1)
    again, _ = align(seeds=[0])
    assert made == [] and digest(again) == digest(first)
    align(alignments=["dpo"])
    assert made == ["1/dpo"]


def test_workers_do_not_change_the_models(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = []
    for workers in (1, 2):
        monkeypatch.setenv("SYNTHIO_STORE", str(tmp_path / f"store{workers}"))
        monkeypatch.setattr("common.parallel.cpu_count", lambda workers=workers: workers)
        made.append(digest(align(alignments=["dpo"])[0]))
    assert made[0] == made[1]


def test_a_failure_is_recorded_and_the_others_are_kept(
    align: Callable[..., tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = item._make

    def broken(job: Any, folder: Path) -> None:
        if job.name == "0/erm":
            raise DataError("the loss is not finite")
        real(job, folder)

    monkeypatch.setattr(item, "_make", broken)
    monkeypatch.setattr("common.parallel.cpu_count", lambda: 1)
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
