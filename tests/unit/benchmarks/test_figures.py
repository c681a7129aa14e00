"""Benchmark figures."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.figures import Figure, publish, table


def test_a_figure_is_met_by_its_own_comparison() -> None:
    assert Figure("rate", 3.0, ">=", 2.5, "x").met is True
    assert Figure("memory", 3.0, "<=", 2.5, "x").met is False
    assert Figure("gpu", None, ">=", 200, "clips/s", reason="no GPU").met is None


def test_published_figures_hold_every_key_and_the_machine(tmp_path: Path) -> None:
    path = publish("example", [Figure("gpu", None, ">=", 200, "clips/s", reason="no GPU")], tmp_path)
    (row,) = json.loads(path.read_text())
    assert set(row) == {"figure", "value", "op", "target", "unit", "ours", "peer", "machine", "reason"}
    assert row["value"] is None and row["reason"] and "torch" in row["machine"]


def test_a_missed_target_stands_out_in_the_table() -> None:
    assert "**no**" in table([Figure("memory", 3.0, "<=", 2.5, "x")])
