"""The training loop, shared by all models.

Everything random in step k is seeded by (seed, name, k), so the step number is the whole state of
the data position and of the random generators: a resumed run equals the unbroken one bit for bit on
the CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import NoReturn

from torch import nn

from common.config.base import OptimConfig
from common.errors import Interrupted
from common.log import Progress, event, get_logger
from common.runtime.devices import tf32
from common.runtime.interrupts import Interruption, sigterm
from common.runtime.timing import model_time
from common.storage.checkpoints import Checkpoints
from common.training.ema import Ema
from common.training.engine import Engine, LossFunction
from common.training.speed import Speed
from common.training.state import State

log = get_logger("training")

Rows = Sequence[Mapping[str, float]]


class Curve(list[dict[str, float]]):
    """Recorded rows of figures, with the training speed beside them.

    Attributes:
        best_step: the step that the model's final weights come from.
    """

    speed: dict[str, float]
    best_step: int


def fit(
    model: nn.Module,
    loss: LossFunction,
    config: OptimConfig,
    *,
    seed: int,
    name: str,
    checkpoints: Checkpoints | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    best: Callable[[Rows], int] | None = None,
    stop: Callable[[Rows], bool] | None = None,
) -> Curve:
    """Train the parameters of `model` that require a gradient; with EMA, the averages replace them at the end.

    In a process that `common.training.launch` or torchrun started, all processes train together, each
    on its part of every batch.

    Args:
        model: trained in place, on its current device.
        config: optimiser, schedule, steps.
        name: for log lines; enters every draw.
        checkpoints: store of unfinished training; None = none are stored. They are kept at the end; the caller
            clears them when the result is safe.
        evaluate: called in every process with the number of finished steps, every
            `config.evaluate_every` steps and at the end (with the EMA weights in place); the first
            process's figures join the curve.
        best: called with the curve after each evaluation. Returns the step to restore at the end: the
            current step, the previous best, or 0 (the start); None = keep the last step.
        stop: called with the curve after each evaluation; True ends the training.

    Raises:
        ConfigError: the batch cannot be split over processes and accumulation.
        DataError: loss or gradient is not finite (the message names the step), or the checkpoint is of
            another architecture.
        Interrupted: SIGTERM arrived; a checkpoint is stored.

    Returns one row `{"step": …, "loss": …, figures…}` every `config.record_every` steps (means over the steps since the
    last row).
    """
    with model_time(), sigterm() as interruption:
        engine = Engine(model, loss, config, seed, name)
        state = State(engine, Ema(engine.parameters, config.ema_decay))
        training = _Training(state, config, name, checkpoints, evaluate, best, stop)
        with tf32(engine.device, config.precision):
            curve = training.run(interruption)
        engine.finish()
        return curve


class _Training:
    def __init__(
        self,
        state: State,
        config: OptimConfig,
        name: str,
        checkpoints: Checkpoints | None,
        evaluate: Callable[[int], Mapping[str, float]] | None,
        best: Callable[[Rows], int] | None,
        stop: Callable[[Rows], bool] | None,
    ) -> None:
        self._state, self._config, self._name, self._checkpoints = state, config, name, checkpoints
        self._evaluate, self._best, self._stop = evaluate, best, stop
        self._speed = Speed(config.batch_size, state.engine.device, state.engine.waiting)

    def run(self, interruption: Interruption) -> Curve:
        """Train to the end, or until SIGTERM."""
        self._start()
        state, saved_at = self._state, time.monotonic()
        progress = Progress(log, self._name, self._config.steps, done=state.done)
        while not self._finished(interruption):
            due = time.monotonic() - saved_at > self._config.checkpoint_every_s and state.engine.is_main
            with self._speed.step():
                figures, flags = state.engine.step(state.done, {"due": due, "leave": interruption.requested})
                state.ema.update(state.done)
            state.done += 1
            state.window.append(figures)
            if flags["leave"]:
                self._leave(interruption)
            if flags["due"]:
                self._save()
                saved_at = time.monotonic()
            if state.engine.is_main:
                shown = {key: figures[key] for key in ("loss", "grad_norm")}
                progress.advance(**shown, **self._speed.figures())
        return self._end()

    def _start(self) -> None:
        if self._best is not None:
            self._state.keep_best()
        if self._checkpoints is not None:
            self._state.load(self._checkpoints)
        if self._state.done and self._state.engine.is_main:
            event(log, "resumed", name=self._name, step=self._state.done)

    def _finished(self, interruption: Interruption) -> bool:
        """Record and evaluate what is due at this step; return whether training is finished.

        Runs before the next step rather than after the last one, so that training resumed from a checkpoint of any step
        still does the recording and evaluation of that step.
        """
        state, config = self._state, self._config
        if not state.done:
            return False
        last = state.done == config.steps
        evaluating = self._evaluate is not None and (last or state.done % config.evaluate_every == 0)
        if (last or evaluating) and state.engine.any(interruption.requested):
            self._leave(interruption)
        figures = self._evaluated(interruption) if evaluating else {}
        if last or evaluating or state.done % config.record_every == 0:
            means = {key: sum(row[key] for row in state.window) / len(state.window) for key in state.window[-1]}
            state.curve.append({"step": float(state.done), **means, **figures})
            state.window = []
        if evaluating:
            self._keep_best()
            last = last or (self._stop is not None and self._stop(state.curve))
        return last

    def _evaluated(self, interruption: Interruption) -> dict[str, float]:
        state, figures = self._state, {}
        # Several processes must stop at the same place, which is between two steps.
        leaving = interruption.at_once() if state.engine.processes == 1 else nullcontext()
        try:
            with leaving, state.ema.in_place(), state.engine.callable_model():
                figures = dict(self._evaluate(state.done)) if self._evaluate is not None else {}
        except Interrupted:
            self._leave(interruption)
        return state.engine.share(figures)

    def _keep_best(self) -> None:
        state = self._state
        if self._best is None:
            return
        chosen = self._best(state.curve)
        if chosen == state.done:
            with state.ema.in_place():
                state.keep_best()
        elif chosen != state.best_step:
            raise ValueError(f"best chose step {chosen}; only {state.best_step} and {state.done} are at hand")

    def _save(self) -> None:
        if self._checkpoints is not None:
            self._state.save(self._checkpoints)

    def _leave(self, interruption: Interruption) -> NoReturn:
        self._save()
        self._state.engine.wait()
        saved = f" and {self._name} is saved at step {self._state.done}" if self._checkpoints is not None else ""
        raise interruption.error(saved)

    def _end(self) -> Curve:
        state = self._state
        if self._best is not None:
            state.restore_best()
        else:
            state.ema.apply()
        curve = Curve(state.curve)
        curve.speed = self._speed.figures()
        curve.best_step = state.done if self._best is None else state.best_step
        return curve


def best_by(figure: str, start: float | None = None) -> Callable[[Sequence[Mapping[str, float]]], int]:
    """Build the `best` of `fit` that picks the step with the largest `figure`, the first of equals.

    Without an evaluation that has it, the last step is picked.

    Args:
        figure: key in the curve's rows; only evaluations have it.
        start: value before training; competes as step 0.
    """

    def best(rows: Sequence[Mapping[str, float]]) -> int:
        measured = [(row[figure], int(row["step"])) for row in rows if figure in row]
        candidates = measured if start is None else [(start, 0), *measured]
        if not candidates:
            return int(rows[-1]["step"])
        return max(candidates, key=lambda candidate: candidate[0])[1]

    return best
