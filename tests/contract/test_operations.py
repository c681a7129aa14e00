"""docs/OPERATIONS.md: messages that operators look up are those of the code, and its figures those of the tables."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from common.config.methods import resolve_methods
from common.config.run import load_preset
from common.study.cost_table import costs
from common.study.costs import estimate

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")


def table(section: str, number: int = 0) -> list[list[str]]:
    """The rows of a section's table, without its head."""
    part = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    body = next(text for text in part if text.startswith(section))
    tables = re.findall(r"(?:^\|.*\n)+", body, flags=re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|\n").split(" | ")] for row in tables[number].splitlines()[2:]]


@cache
def literals() -> tuple[str, ...]:
    """Every text in the code; `…` for what is filled in."""
    found = []
    for folder in ("common", "components", "pipelines"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values))  # type: ignore[misc]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return tuple(found)


ROWS = table("Nights") + table("When something goes wrong")
MESSAGES = [message for row in ROWS for message in re.findall(r"`([^`]+)`", row[0])]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_to_look_up_is_one_of_the_code(message: str) -> None:
    pattern = re.compile(".*".join(re.escape(part) for part in re.split(r"\s*…\s*", message)), flags=re.DOTALL)
    assert len(message) > 10 and any(pattern.search(text) for text in literals()), message


def test_there_are_messages_and_each_has_a_remedy() -> None:
    rows = ROWS + table("When something goes wrong", 1)
    assert len(MESSAGES) > 25 and all(len(row) == 3 and all(row) for row in rows)


def test_what_a_run_takes_is_what_the_table_of_costs_says() -> None:
    rows = table("What a run takes")
    assert {row[0].strip("`") for row in rows} == set(costs().presets)
    for name, unit, clips, hours, store, _ in rows:
        preset = name.strip("`")
        cost = estimate([int(clips)], preset, resolve_methods("", load_preset(preset).methods), 3)
        assert unit == costs().presets[preset].unit
        assert float(hours) == pytest.approx(cost.hours, abs=0.05)
        assert float(store.removesuffix(" GB")) == pytest.approx(cost.storage_gb, rel=0.05, abs=0.06)


def test_every_path_target_and_overlay_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z][a-z0-9-]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for path in set(re.findall(r"`((?:manifests|pipelines|common|docs)/[\w./-]+)`", TEXT)):
        assert (ROOT / path).exists(), path
    overlays = {path.parent.name for path in (ROOT / "manifests").glob("overlays/*/kustomization.yaml")}
    assert overlays == {row[0].strip("`") for row in _overlays()}


def _overlays() -> list[list[str]]:
    start = TEXT.index("| overlay | for |")
    rows = TEXT[start:].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip().strip("|").split(" | ")] for row in rows]


def test_the_fields_of_the_ui_are_the_pipelines_parameters_in_their_order() -> None:
    source = ast.parse((ROOT / "pipelines" / "dags" / "synthio.py").read_text(encoding="utf-8"))
    (function,) = [n for n in ast.walk(source) if isinstance(n, ast.FunctionDef) and n.name == "synthio"]
    assert [argument.arg for argument in function.args.args] == [row[0].strip("`") for row in table("In the UI")]


def test_secrets_and_their_keys_are_those_of_the_examples() -> None:
    named = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[1])) for row in table("Secrets")}
    assert named == {
        path.name.split(".")[0]: set(yaml.safe_load(path.read_text(encoding="utf-8"))["stringData"])
        for path in (ROOT / "manifests" / "secrets").glob("*.yaml.example")
    }
