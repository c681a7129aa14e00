"""Figures of a benchmark: a table for people, JSON for comparison. Ratios are against a peer of the same run."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.runtime.parallel import cpu_count

FOLDER = Path("build/bench")


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its target.

    Attributes:
        figure: what is measured.
        value: None where this machine cannot measure it; then `reason` says why.
        op: how `value` compares with `target` when the target is met.
        target: the figure to reach.
        unit: of `value` and `target`, for example `x` for a ratio.
        ours: what was measured of this project, in words with unit.
        peer: what it was measured against, in words with unit.
        reason: why there is no value, or what one should know of it.
    """

    figure: str
    value: float | None
    op: Literal[">=", "<="]
    target: float
    unit: str
    ours: str = ""
    peer: str = ""
    reason: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when it was not measured."""
        if self.value is None:
            return None
        return self.value >= self.target if self.op == ">=" else self.value <= self.target


def machine() -> str:
    """The machine in words: processor, cores that this process may use, accelerator, torch."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{model}, {cpu_count()} cores{device}, torch {torch.__version__}"


def publish(name: str, figures: Sequence[Figure], folder: Path = FOLDER) -> Path:
    """Print the table and write `<folder>/<name>.json`; returns its path."""
    where = machine()
    rows = [{**asdict(figure), "machine": where} for figure in figures]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{name} on {where}\n\n{table(figures)}\n\n{path}")
    return path


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | measured | target | met | ours | peer | note |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.3g} {figure.unit}"
        met = {None: "-", True: "yes", False: "**no**"}[figure.met]
        target = f"{'at least' if figure.op == '>=' else 'at most'} {figure.target:g} {figure.unit}"
        lines.append(
            f"| {figure.figure} | {value} | {target} | {met} | {figure.ours} | {figure.peer} | {figure.reason} |"
        )
    return "\n".join(lines)
