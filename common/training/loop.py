"""The training loop, shared by all models.

Everything random in step k is seeded by (seed, name, k), so the step number is the whole state of
the data position and of the random generators: a resumed run equals the unbroken one bit for bit on
the CPU.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import nn

from common.config.base import OptimConfig
from common.errors import Interrupted
from common.log import Progress, event, get_logger
from common.runtime.devices import tf32
from common.runtime.interrupts import Interruption, sigterm
from common.runtime.timing import Stopwatch, model_time
from common.storage import unless_away
from common.storage.checkpoints import Checkpoints
from common.training.engine import Engine, LossFunction, means
from common.training.state import Ema, State

log = get_logger("training")

Rows = Sequence[Mapping[str, float]]


class Curve(list[dict[str, float]]):
    """Recorded rows of figures, with the training speed beside them."""

    speed: dict[str, float]
    best_step: int
    """The step that the model's final weights come from."""

    @property
    def best(self) -> dict[str, float]:
        """Row of `best_step`, which is not 0."""
        return next(row for row in self if row["step"] == self.best_step)


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
        name: for log lines; enters every draw.
        checkpoints: of unfinished training; the caller clears them when the result is safe.
        evaluate: called in every process with the number of finished steps, every `config.evaluate_every` steps and at
            the end (with the EMA weights in place); the first process's figures join the curve.
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
        training = _Training(state, config, name, checkpoints, evaluate, best, stop, interruption)
        if engine.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(engine.device)
        with tf32(engine.device, config.precision):
            curve = training.run()
        engine.finish()
        return curve


@dataclass
class _Training:
    state: State
    config: OptimConfig
    name: str
    checkpoints: Checkpoints | None
    evaluate: Callable[[int], Mapping[str, float]] | None
    best: Callable[[Rows], int] | None
    stop: Callable[[Rows], bool] | None
    interruption: Interruption
    steps: int = 0
    """Done in this process, in the time of `stepping`: evaluation and checkpoints between steps do not count."""
    stepping: Stopwatch = field(default_factory=Stopwatch)

    def run(self) -> Curve:
        """Train to the end, or until SIGTERM."""
        self._start()
        state, saved_at = self.state, time.monotonic()
        progress = Progress(log, self.name, self.config.steps, done=state.done)
        while not self._finished():
            due = time.monotonic() - saved_at > self.config.checkpoint_every_s and state.engine.is_main
            with self.stepping.running():
                figures, flags = state.engine.step(state.done, {"due": due, "leave": self.interruption.requested})
                state.ema.update(state.done)
            state.done += 1
            self.steps += 1
            state.window.append(figures)
            if flags["leave"]:
                self._leave()
            if flags["due"]:
                with unless_away(log, f"the checkpoint of {self.name} at step {state.done}"):
                    self._save()
                saved_at = time.monotonic()
            if state.engine.is_main:
                shown = {key: figures[key] for key in ("loss", "grad_norm")}
                progress.advance(**shown, **self._speed())
        return self._end()

    def _start(self) -> None:
        if self.best is not None:
            self.state.keep_best()
        if self.checkpoints is not None:
            self.state.load(self.checkpoints)
        if self.state.done and self.state.engine.is_main:
            event(log, "resumed", name=self.name, step=self.state.done)

    def _finished(self) -> bool:
        """Record and evaluate what is due at this step; return whether training is finished.

        Runs before the next step rather than after the last one, so that training resumed from a checkpoint of any step
        still does the recording and evaluation of that step.
        """
        state, config = self.state, self.config
        if not state.done:
            return False
        last = state.done == config.steps
        evaluating = self.evaluate is not None and (last or state.done % config.evaluate_every == 0)
        if (last or evaluating) and state.engine.any(self.interruption.requested):
            self._leave()
        figures = self._evaluated() if evaluating else {}
        if last or evaluating or state.done % config.record_every == 0:
            state.curve.append({"step": float(state.done), **means(state.window), **figures})
            state.window = []
        if evaluating:
            self._keep_best()
            last = last or (self.stop is not None and self.stop(state.curve))
        return last

    def _evaluated(self) -> dict[str, float]:
        state, figures = self.state, {}
        # Several processes must stop at the same place, which is between two steps.
        leaving = self.interruption.at_once() if state.engine.processes == 1 else nullcontext()
        try:
            # The interruption innermost: weights that are exchanged in part must not be saved.
            with state.ema.in_place(), state.engine.callable_model(), leaving:
                figures = dict(self.evaluate(state.done)) if self.evaluate is not None else {}
        except Interrupted:
            self._leave()
        return state.engine.share(figures)

    def _keep_best(self) -> None:
        state = self.state
        if self.best is None:
            return
        chosen = self.best(state.curve)
        if chosen == state.done:
            with state.ema.in_place():
                state.keep_best()
        elif chosen != state.best_step:
            raise ValueError(f"best chose step {chosen}; only {state.best_step} and {state.done} are at hand")

    def _save(self) -> None:
        if self.checkpoints is not None:
            self.state.save(self.checkpoints)

    def _leave(self) -> NoReturn:
        self._save()
        self.state.engine.wait()
        saved = f" and {self.name} is saved at step {self.state.done}" if self.checkpoints is not None else ""
        raise self.interruption.error(saved)

    def _speed(self) -> dict[str, float]:
        """`clips_per_s`, `wait_share` (for data), on a GPU `gpu_gib` (peak); for the log, never for artifacts."""
        engine, wall_s = self.state.engine, max(self.stepping.seconds, 1e-9)
        clips_per_s = self.steps * self.config.batch_size / wall_s
        figures = {"clips_per_s": clips_per_s, "wait_share": engine.waiting.seconds / wall_s}
        if engine.device.type == "cuda":
            figures["gpu_gib"] = torch.cuda.max_memory_allocated(engine.device) / 2**30
        return figures

    def _end(self) -> Curve:
        state = self.state
        if self.best is not None:
            state.restore_best()
        else:
            state.ema.swap()
        curve = Curve(state.curve)
        curve.speed = self._speed()
        curve.best_step = state.done if self.best is None else state.best_step
        return curve


def best_by(figure: str, start: float | None = None, smallest: bool = False) -> Callable[[Rows], int]:
    """Build the `best` of `fit` that picks the step with the largest or smallest `figure`; without any the last step.

    The value before training, `start`, competes as step 0, and wins among equals, as earlier steps do.
    """

    def best(rows: Rows) -> int:
        candidates = [] if start is None else [(start, 0)]
        candidates += [(row[figure], int(row["step"])) for row in rows if figure in row]
        return max(candidates or [(0.0, int(rows[-1]["step"]))], key=lambda told: -told[0] if smallest else told[0])[1]

    return best
