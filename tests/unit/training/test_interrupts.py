from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from common.errors import Interrupted, SynthioError
from common.runtime.parallel import run_items
from common.training import launch
from common.training.state import Ema
from tests.unit.training.small import checkpoints, equal, train
from tests.unit.training.test_processes import Job

pytestmark = pytest.mark.e2e

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch with one thread: those of OpenMP do not survive a fork, and the child would wait for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def terminate_at(last: int) -> Callable[[int], None]:
    return lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == last else None


def test_sigterm_saves_within_the_step_and_raises(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="test is saved at step 7"):
        train(tmp_path, before=terminate_at(5), optim={"checkpoint_every_s": 1e9})
    assert signal.getsignal(signal.SIGTERM) is handler
    resumed, curve = train(tmp_path)
    unbroken, expected = train()
    assert equal(resumed, unbroken)
    assert curve == expected


def test_sigterm_in_a_long_evaluation_does_not_wait_for_its_end(tmp_path: Path) -> None:
    calls = []

    def evaluate(done: int) -> dict[str, float]:
        calls.append(done)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            calls.append("went on")
        return {"probe": 1.0}

    with pytest.raises(Interrupted, match="saved at step 8"):
        train(tmp_path, evaluate=evaluate, optim={"checkpoint_every_s": 1e9, "evaluate_every": 4})
    assert calls == [4, 8]
    resumed, curve = train(tmp_path, evaluate=evaluate, optim={"evaluate_every": 4})
    assert calls == [4, 8, 8, 12]
    assert equal(resumed, train()[0])
    assert [row["step"] for row in curve if "probe" in row] == [4, 8, 12]


@pytest.mark.parametrize("call", [1, 2])
def test_sigterm_while_weights_and_averages_are_exchanged_saves_neither_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    swap, halves = Ema.swap, []

    def in_halves(self: Ema) -> None:
        averages = self.averages
        try:
            for half in (slice(2), slice(2, None)):
                self.averages = dict(list(averages.items())[half])
                swap(self)
                halves.append(half)
                if len(halves) == 2 * call - 1:
                    os.kill(os.getpid(), signal.SIGTERM)
        finally:
            self.averages = averages

    def evaluate(done: int) -> dict[str, float]:
        return {"probe": 1.0}

    monkeypatch.setattr(Ema, "swap", in_halves)
    with pytest.raises(Interrupted):
        train(tmp_path, evaluate=evaluate, optim={"checkpoint_every_s": 1e9, "evaluate_every": 4})
    assert equal(train(tmp_path, evaluate=evaluate, optim={"evaluate_every": 4})[0], train()[0])


def in_child(work: Callable[[], object]) -> int | None:
    """The exit code of a process that does `work`; 3 for an expected failure, as the command line gives."""

    def run() -> None:
        try:
            work()
        except SynthioError:
            os._exit(3)
        os._exit(0)

    process = FORK.Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode


@pytest.mark.parametrize("last", [0, 11])
def test_sigterm_in_the_first_or_last_step_ends_non_zero_and_loses_nothing(tmp_path: Path, last: int) -> None:
    assert in_child(lambda: train(tmp_path, before=terminate_at(last), optim={"checkpoint_every_s": 1e9})) == 3
    with checkpoints(tmp_path).latest() as found:
        assert found is not None and found[0] >= last + 1
    assert equal(train(tmp_path)[0], train()[0])


def test_training_that_is_killed_at_twenty_random_moments_ends_bit_equal(tmp_path: Path) -> None:
    steps = {"steps": 400}
    expected, curve = train(optim=steps)
    rng = random.Random(0)

    def work(told: Any) -> None:
        optim = {**steps, "checkpoint_every_s": 0.003}
        model, rows = train(tmp_path / "work", before=told.send, optim=optim)
        assert rows == curve
        save_file(model.state_dict(), tmp_path / "model.safetensors")

    def newest() -> int:
        with checkpoints(tmp_path / "work").latest() as found:
            return found[0] if found else 0

    for _ in range(20):
        at_kill = newest()
        receiver, told = FORK.Pipe(duplex=False)
        process = FORK.Process(target=work, args=(told,))
        process.start()
        told.close()
        assert receiver.recv() == at_kill, "more was lost than the work since the last checkpoint"
        for _ in range(rng.randrange(25)):
            receiver.recv()
        time.sleep(0.004 * rng.random())
        process.kill()
        process.join()
    assert 0 < newest() < 400
    assert in_child(lambda: work(SimpleNamespace(send=lambda step: None))) == 0
    resumed = load_file(tmp_path / "model.safetensors")
    assert all(resumed[key].equal(value) for key, value in expected.state_dict().items())


def terminates(task: tuple[Job, int]) -> None:
    job, parent = task

    def before(step: int) -> None:
        if step == 3:
            os.kill(parent, signal.SIGTERM)
        time.sleep(0.05)

    train(job.folder, before=before, optim={"checkpoint_every_s": 1e9, "steps": 1000, "batch_size": 8})


def test_sigterm_to_the_process_that_launched_others_saves_in_them_and_raises(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        launch(terminates, (Job(tmp_path), os.getpid()), 2)
    with checkpoints(tmp_path).latest() as found:
        assert found is not None and 3 < found[0] < 100


def pool_item(item: tuple[Path, int, int]) -> None:
    folder, number, parent = item

    def before(step: int) -> None:
        if step == 3 and number == 0:
            os.kill(parent, signal.SIGTERM)
        time.sleep(0.05)

    train(folder / str(number), before=before, optim={"checkpoint_every_s": 1e9, "steps": 1000})


def test_sigterm_ends_a_pool_of_trainings_and_each_is_saved(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        list(run_items(pool_item, [(tmp_path, number, os.getpid()) for number in range(6)], workers=2))
    # The second worker may not have begun yet when the signal comes.
    assert "0" in {path.name for path in tmp_path.iterdir()} <= {"0", "1"}
    for path in tmp_path.iterdir():
        with checkpoints(path).latest() as found:
            assert found is not None
