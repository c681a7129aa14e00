from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from common.errors import DataError
from common.runtime.work import Task, obtain
from common.storage import open_store, read_json, write_json
from common.storage.items import ItemStore
from common.training import LossFunction, Part, fit, is_main, launch
from tests.unit.training.small import DATA, Away, checkpoints, config, train


class Blocks(nn.Module):
    """A stem, a list of blocks and two heads; one weight is never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2)])
        # Without a bias: the contrastive loss does not depend on it, and Adam would follow the rounding.
        self.audio, self.text = nn.Linear(6, 3), nn.Linear(6, 3, bias=False)
        self.scale, self.unused = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.ones(2))
        self.register_buffer("seen", torch.zeros(1))

    def features(self, rows: Tensor) -> Tensor:
        hidden = self.stem(rows)
        for block in self.blocks:
            hidden = hidden + checkpoint(block, hidden, use_reentrant=False)
        return hidden


def regression(model: Blocks) -> LossFunction:
    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        rows = DATA[torch.randperm(64, generator=generator)[:16]][part.rows(16)]
        error = (model.audio(model.features(rows)).sum(1) - rows.prod(1)) ** 2
        return error.mean(), {"largest": float(error.detach().max())}

    return loss


def contrastive(model: Blocks) -> LossFunction:
    """Each row's two views against those of all rows of the micro-step."""

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, Mapping[str, float]]:
        rows = DATA[torch.randperm(64, generator=generator)[:16]]
        own = rows[part.rows(16)]
        views = [part.gather(head(model.features(own))) for head in (model.audio, model.text)]
        targets = torch.arange(len(views[0]))
        assert len(targets) == len(rows[part.gathered_rows(16)])
        return nn.functional.cross_entropy(model.scale * views[0] @ views[1].T, targets), {}

    return loss


LOSSES = {"regression": regression, "contrastive": contrastive}


@dataclass(frozen=True)
class Job:
    folder: Path
    loss: Literal["regression", "contrastive"] = "regression"
    accumulation: int = 1
    sharding: str = "none"
    steps: int = 8
    dies_at: int | None = None
    away_at: tuple[int, ...] = ()


def work(job: Job) -> None:
    model = Blocks()
    inner = LOSSES[job.loss](model)

    def loss(step: int, generator: torch.Generator, part: Part) -> Any:
        value, figures = inner(step, generator, part)
        if step == job.dies_at and part.index == part.count - 1:
            value = value * float("nan")
        return value, figures

    def evaluate(done: int) -> dict[str, float]:
        with torch.no_grad():
            return {"probe": float(model.audio(model.features(DATA)).sum())}

    settings = config(
        steps=8,
        batch_size=16,
        accumulation=job.accumulation,
        sharding=job.sharding,
        evaluate_every=4,
        record_every=2,
        max_grad_norm=0.5,
    )
    kept = Away(open_store(job.folder / "checkpoints"), job.away_at)
    curve = fit(
        model,
        loss,
        settings,
        seed=2,
        name="t",
        checkpoints=kept,
        evaluate=evaluate,
        best=lambda rows: int(rows[-1]["step"]),
    )
    if is_main():
        save_file(model.state_dict(), job.folder / "model.safetensors")
        write_json(job.folder / "curve.json", curve)


def results(job: Job, processes: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    job.folder.mkdir(exist_ok=True)
    launch(work, job, processes)
    return load_file(job.folder / "model.safetensors"), read_json(job.folder / "curve.json")


def assert_alike(one: Any, two: Any) -> None:
    for key in one[0]:
        torch.testing.assert_close(one[0][key], two[0][key], atol=1e-4, rtol=1e-4)
    for first, second in zip(one[1], two[1], strict=True):
        shared = first.keys() - {"largest"}
        assert [first[key] for key in shared] == pytest.approx([second[key] for key in shared], abs=1e-4)


@pytest.mark.parametrize(
    ("sharding", "loss", "accumulation"),
    [
        ("fsdp", "regression", 2),
        pytest.param("none", "contrastive", 1, marks=pytest.mark.e2e),
        pytest.param("none", "regression", 1, marks=pytest.mark.e2e),
        pytest.param("none", "regression", 2, marks=pytest.mark.e2e),
        pytest.param("fsdp", "regression", 1, marks=pytest.mark.e2e),
        pytest.param("fsdp", "contrastive", 1, marks=pytest.mark.e2e),
    ],
)
def test_two_processes_match_one_with_twice_the_batch(
    tmp_path: Path, loss: Any, accumulation: int, sharding: str
) -> None:
    one = results(Job(tmp_path / "one", loss), 1)
    two = results(Job(tmp_path / "two", loss, accumulation, sharding), 2)
    assert_alike(one, two)


@pytest.mark.e2e
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_go_on_as_if_they_had_never_stopped(tmp_path: Path, sharding: str) -> None:
    whole = results(Job(tmp_path / "whole", sharding=sharding), 2)
    with pytest.raises(DataError, match="loss of step 6 is nan"):
        results(Job(tmp_path / "broken", sharding=sharding, dies_at=6), 2)
    with checkpoints(tmp_path / "broken/checkpoints").latest() as found:
        assert found is not None and found[0] == 6
    resumed = results(Job(tmp_path / "broken", sharding=sharding), 2)
    assert all(torch.equal(whole[0][key], resumed[0][key]) for key in whole[0])
    assert whole[1] == resumed[1]


def test_processes_go_on_together_while_the_store_is_away(tmp_path: Path) -> None:
    here = results(Job(tmp_path / "here", sharding="fsdp"), 2)
    away = results(Job(tmp_path / "away", sharding="fsdp", away_at=(2, 3, 7, 8)), 2)
    assert all(torch.equal(here[0][key], away[0][key]) for key in here[0]) and here[1] == away[1]
    with checkpoints(tmp_path / "away/checkpoints").latest() as found:
        assert found is not None and found[0] == 6


@pytest.mark.e2e
def test_a_checkpoint_of_shards_holds_whole_tensors_for_any_number_of_processes(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        results(Job(tmp_path / "a", sharding="fsdp", dies_at=6), 2)
    assert_alike(results(Job(tmp_path / "a"), 1), results(Job(tmp_path / "b"), 1))


def test_a_contrastive_batch_is_one_micro_step_of_all_processes(tmp_path: Path) -> None:
    one = results(Job(tmp_path / "one", "contrastive", 2), 1)
    assert_alike(one, results(Job(tmp_path / "two", "contrastive", 2), 2))


def fails(rank: str) -> None:
    if is_main() == (rank == "first"):
        raise DataError(f"the {rank} one found bad data")
    torch.distributed.barrier()


@pytest.mark.parametrize("rank", ["first", "second"])
def test_the_error_of_a_process_is_raised_and_the_others_end(rank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("common.training.launch"), "GRACE_S", 0.3)
    with pytest.raises(DataError, match=f"the {rank} one found bad data"):
        launch(fails, rank, 2)
    assert not multiprocessing.active_children()


def dies(_: None) -> None:
    if not is_main():
        os.kill(os.getpid(), signal.SIGKILL)
    torch.distributed.barrier()


def test_a_process_that_is_killed_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("common.training.launch"), "GRACE_S", 0.3)
    with pytest.raises(RuntimeError):
        launch(dies, None, 2)


def as_torchrun_does(job: Job, rank: int, port: int) -> None:
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in where.items()}, MASTER_ADDR="127.0.0.1")
    launch(work, job, 1)


@pytest.mark.e2e
def test_processes_that_torchrun_started_join_each_other(tmp_path: Path) -> None:
    expected = results(Job(tmp_path / "two"), 2)
    (tmp_path / "torchrun").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    arguments = [(Job(tmp_path / "torchrun"), rank, port) for rank in range(2)]
    ranks = [context.Process(target=as_torchrun_does, args=each) for each in arguments]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    found = load_file(tmp_path / "torchrun" / "model.safetensors")
    assert all(torch.equal(found[key], expected[0][key]) for key in found)


def train_item(root: str, cache: str, pause_s: float, ended: Any) -> None:
    torch.set_num_threads(1)
    os.environ["SYNTHIO_CACHE"] = cache
    store, key = ItemStore("stage", "v1", root), {"seed": 1}

    def make(folder: Path) -> None:
        steps, before = {"steps": 80}, lambda step: time.sleep(pause_s)
        model, _ = train(kept=store.checkpoints(**key), optim=steps, before=before)
        save_file(model.state_dict(), folder / "model.safetensors")

    try:
        item = obtain(Task(store, key, make))
        ended.put(load_file(item / "model.safetensors")["0.weight"].tolist())
    except Exception as error:
        ended.put(f"{type(error).__name__}: {error}")


@pytest.mark.e2e
@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_runs_that_train_one_item_at_once_all_end_with_it(
    tmp_path: Path, scheme: str, request: pytest.FixtureRequest
) -> None:
    root = str(tmp_path / "store") if scheme == "file" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"
    context = multiprocessing.get_context("spawn")
    ended = context.Queue()
    runs = [
        context.Process(target=train_item, args=(root, str(tmp_path / f"cache-{pause_s}"), pause_s, ended))
        for pause_s in (0.0, 0.01, 0.03)
    ]
    for run in runs:
        run.start()
    first, *others = (ended.get(timeout=120) for _ in runs)
    for run in runs:
        run.join()
    assert isinstance(first, list) and others == [first, first]
    assert not list(open_store(root).list("stage/work/"))
