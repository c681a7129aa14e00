"""`make check-gpu`: the same code at toy size on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks import gpu
from tests.benchmarks.figures import Figure, publish
from tests.benchmarks.gpu import BEGIN, DOCS, END, PARTS, TOY, check, main, together, write_rows

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_gpu_one_line_says_that_it_needs_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(TOY, tmp_path, tmp_path / "docs.md") == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: make check-gpu needs a CUDA GPU") and said.err.count("\n") == 1
    assert not said.out and not list(tmp_path.iterdir())


def test_every_part_runs_at_toy_size_and_gets_its_row(tmp_path: Path) -> None:
    figures, failed = check(TOY)
    assert not failed, [figure.reason for figure in figures]
    measured = [figure for figure in figures if figure.value is not None]
    assert len(measured) >= len(PARTS) and all(figure.ours for figure in measured)
    assert [figure.reason for figure in figures if figure.value is None] == ["one GPU on this machine"]
    rows = json.loads(publish("gpu", figures, tmp_path).read_text())
    assert len(rows) == len(figures) and rows[0]["machine"]


@pytest.mark.e2e
def test_two_processes_pretrain_together() -> None:
    (figure,) = together(TOY, processes=2)
    assert figure.value is not None and figure.value > 0


def test_a_part_that_fails_or_comes_too_late_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(sizes: gpu.Sizes) -> None:
        raise RuntimeError("CUDA out of memory")

    fine = Figure("fine", 2.0, ">=", 1.0, "x", "ours")
    monkeypatch.setattr(gpu, "PARTS", {"broken": breaks, "fine": lambda sizes: [fine]})
    figures, failed = check(TOY, ("broken", "fine"))
    assert failed == ["broken"] and figures[1] is fine
    assert figures[0].reason == "failed: RuntimeError: CUDA out of memory"
    late, failed = check(TOY, ("fine",), last_start_s=-1.0)
    assert not failed and late[0].value is None and "left out" in late[0].reason


def test_the_table_takes_the_place_of_the_last_one_in_the_docs(tmp_path: Path) -> None:
    docs = tmp_path / "docs.md"
    docs.write_text((ROOT / DOCS).read_text(encoding="utf-8"), encoding="utf-8")
    for value in (1.5, 2.5):
        write_rows([Figure("speed", value, ">=", 2.0, "x", "ours", "peer")], "a GPU", docs)
    text = docs.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert "| speed | 2.5 x | at least 2 x | yes | ours | peer |" in text and "1.5 x" not in text
    assert text.split(END)[1] == (ROOT / DOCS).read_text(encoding="utf-8").split(END)[1]
