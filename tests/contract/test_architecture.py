"""docs/ARCHITECTURE.md and docs/COMMANDS.md: pictures, table of the stages and commands are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from components.catalogue import STAGES, layer_of
from pipelines.dags.compile import PIPELINES
from tests.kit.flowchart import MARKED, fenced, picture
from tests.kit.once import Compiled

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
TABLE = TEXT.partition("\n## The stages\n")[2].partition("\n## ")[0]
ROWS = {
    cells[0].strip("`"): cells
    for line in TABLE.splitlines()
    if line.startswith("| `") and (cells := [cell.strip() for cell in line.strip("|").split(" | ")])
}


@pytest.fixture(scope="module")
def specs(compiled: Compiled) -> dict[str, Any]:
    """The specification of each pipeline, compiled for this machine."""
    return {name: compiled.documents(name)[0] for name in PIPELINES}


def test_the_pictures_are_those_of_the_compiled_pipelines(specs: dict[str, Any]) -> None:
    shown = {match[2]: match[0][len(match[1]) : -len(match[3])] for match in MARKED.finditer(TEXT)}
    assert set(shown) == set(PIPELINES)
    for name, spec in specs.items():
        assert shown[name] == fenced(spec), (
            f"docs/ARCHITECTURE.md shows another {name} pipeline than the compiled one; draw it again: "
            "python -m tests.kit.flowchart docs/ARCHITECTURE.md"
        )


def test_a_picture_has_every_task_and_folds_the_rounds(specs: dict[str, Any]) -> None:
    drawn = picture(specs["synthio"])
    for name in specs["synthio"]["root"]["dag"]["tasks"]:
        if not name.startswith("self-reflection-round"):
            assert re.search(rf"^  {name.replace('-', '_')}\[", drawn, flags=re.MULTILINE), name
    assert drawn.count("subgraph") == 1
    assert "Self-reflection, round 1 to 3" in drawn
    assert "train_classifier -->|classifiers| evaluate_classifier" in drawn


def test_only_evaluation_and_no_other_box_has_an_arrow_of_the_test_split(specs: dict[str, Any]) -> None:
    arrows = [line.split() for line in picture(specs["synthio"]).splitlines() if re.search(r"\|.*\btest\b.*\|", line)]
    assert [(arrow[0], arrow[-1]) for arrow in arrows] == [("prepare_dataset", "evaluate_classifier")]


def test_every_stage_has_one_row() -> None:
    assert sorted(ROWS) == sorted(STAGES)
    assert all(len(cells) == 5 and all(cells) for cells in ROWS.values())


@pytest.mark.parametrize("stage", STAGES)
def test_the_file_with_the_idea_is_there_and_of_the_stage(stage: str) -> None:
    files = re.findall(r"`([^`]+)`", ROWS[stage][3])
    assert files
    for name in files:
        assert name.startswith(f"components/{stage}/") and (ROOT / name).is_file(), name


@pytest.mark.parametrize("stage", STAGES)
def test_the_image_is_that_of_the_catalogue(stage: str) -> None:
    assert ROWS[stage][4] == f"`{layer_of(stage)}`"


@pytest.mark.parametrize("stage", STAGES)
def test_a_row_names_the_artifacts_that_the_stage_reads_and_writes(stage: str, specs: dict[str, Any]) -> None:
    parts = {
        re.sub(r"-\d+$", "", name.removeprefix("comp-")).replace("-", "_"): part
        for spec in specs.values()
        for name, part in spec["components"].items()
        if "executorLabel" in part
    }
    shown = {"system.HTML", "system.Markdown", "system.Metrics", "system.ClassificationMetrics"}
    for name, artifact in parts[stage].get("outputDefinitions", {}).get("artifacts", {}).items():
        if artifact["artifactType"]["schemaTitle"] not in shown:
            assert f"`{name}`" in ROWS[stage][2], name
    same = {"clap": "finetuned", "previous": "of the round before", "losers": "`losers`"}
    if stage != "report":
        for name in parts[stage].get("inputDefinitions", {}).get("artifacts", {}):
            assert f"`{name}`" in ROWS[stage][1] or same.get(name, "?") in ROWS[stage][1], name
    else:
        assert f"and {len(parts[stage]['inputDefinitions']['artifacts']) - 1} artifacts" in ROWS[stage][1]


def test_every_path_that_is_named_exists() -> None:
    for path in set(re.findall(r"`((?:common|components|pipelines|tests|docker|docs|manifests)/[\w./-]+)`", TEXT)):
        assert (ROOT / path).exists(), path


def test_the_words_of_the_glossary_are_explained() -> None:
    words = set(re.findall(r"^\| (\w+) \|", TEXT.partition("## Glossary")[2], flags=re.MULTILINE))
    assert words >= {
        *("gold", "losers", "vanilla", "oracle", "recipe", "replicate", "round", "cell", "night", "factor", "aligned"),
        *("accepted", "method", "preset", "profile", "item", "store", "artifact"),
    }


def test_every_target_and_variable_of_the_makefile_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = (ROOT / "docs" / "COMMANDS.md").read_text(encoding="utf-8")
    for target in re.findall(r"^([a-z0-9-]+):.*## ", makefile, flags=re.MULTILINE):
        assert f"`make {target}`" in commands, target
    for variable in re.findall(r"^([A-Z_]+) \?=", makefile, flags=re.MULTILINE):
        assert f"`{variable}" in commands, variable
