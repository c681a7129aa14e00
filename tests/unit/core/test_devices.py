from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from common.errors import ConfigError
from common.runtime import devices
from common.runtime.devices import autocast, computes_bf16, device, has_bf16, tf32
from common.runtime.stage import stage
from tests.kit.gpu import pretend_gpu

ROOT = Path(__file__).resolve().parents[3]
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def test_a_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (device(), has_bf16()) == ("cpu", False)
    pretend_gpu(monkeypatch)
    assert (device(), has_bf16()) == ("cuda", True)


def test_a_stage_that_has_gpus_does_not_compute_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work() -> None:
        with stage("train_classifier", {}, str(tmp_path / "metrics.json"), {}):
            pass

    for number in ("", "0"):
        monkeypatch.setenv("SYNTHIO_GPUS", number)
        work()
    monkeypatch.setenv("SYNTHIO_GPUS", "2")
    with pytest.raises(ConfigError, match=r"SYNTHIO_GPUS=2, but torch .* finds no GPU: build the images"):
        work()
    assert "finds no GPU" in (tmp_path / "stage.json").read_text()
    pretend_gpu(monkeypatch)
    work()


def calls(name: str) -> list[tuple[str, ast.Call]]:
    found = []
    for path in [*(ROOT / "common").rglob("*.py"), *(ROOT / "components").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                found.append((str(path.relative_to(ROOT)), node))
    return found


OWN = {
    "common/corpus/features.py",  # no model: features of audio
    "components/prepare_corpus/corpus.py",  # one per core, or one spawned process per GPU
    "components/synthesize_audio/synthesis.py",  # one spawned process per GPU
}


def test_every_stage_that_maps_over_items_leaves_the_number_of_processes_to_the_device() -> None:
    assert {path for path, _ in calls("run_all")} == OWN
    assert {path for path, _ in calls("run_items")} == {"common/runtime/parallel.py", "common/runtime/work.py"}


@pytest.mark.parametrize(
    ("where", "precision", "bf16", "expected"),
    [
        (CPU, "bf16", False, True),
        (CPU, "fp32", True, False),
        (CUDA, "bf16", True, True),
        (CUDA, "bf16", False, False),
        (CUDA, "fp32", True, False),
    ],
)
def test_a_gpu_that_only_emulates_bf16_trains_in_fp32(
    monkeypatch: pytest.MonkeyPatch, where: torch.device, precision: str, bf16: bool, expected: bool
) -> None:
    pretend_gpu(monkeypatch, bf16)
    assert computes_bf16(where, precision) is expected
    before = torch.get_float32_matmul_precision()
    with tf32(where, precision):
        rounded = where.type == "cuda" and expected
        assert torch.get_float32_matmul_precision() == ("high" if rounded else before)
    assert torch.get_float32_matmul_precision() == before


def test_the_lack_of_bf16_is_said_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pretend_gpu(monkeypatch, bf16=False)
    devices._tell_once.cache_clear()
    monkeypatch.setattr(devices.log, "propagate", True)
    for _ in range(3):
        computes_bf16(CUDA, "bf16")
    assert [record.getMessage().split()[0] for record in caplog.records] == ["no_bf16"]


def test_autocast_rounds_on_the_cpu_as_it_would_on_a_gpu() -> None:
    with autocast(CPU, "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
