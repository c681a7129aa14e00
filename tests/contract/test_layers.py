"""The layering rules: what may import what."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from kfp.dsl import Metrics

from components import catalogue
from components.plan import planning
from components.plan.component import outputs

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
ENVIRONMENT = {
    *(
        "common/log.py",
        "common/storage/__init__.py",
        "common/storage/artifacts.py",
        "common/storage/s3_client.py",
        "common/captions/secrets.py",
    ),
    "common/runtime/devices.py",
    *("pipelines/commands/__init__.py", "pipelines/local/run.py", "pipelines/local/tasks.py"),
    *("pipelines/local/warm.py", "pipelines/local/warm_process.py"),
    *("pipelines/cluster/api.py", "contrib/nano/train.py"),
}
"""The files that read the environment."""
FOLDERS = ("common", "components", "pipelines", "contrib")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_catalogue_names_every_stage() -> None:
    assert sorted(catalogue.STAGES) == STAGES


def test_a_stage_is_known_by_its_component_and_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_stage").mkdir()
    (tmp_path / "toy_stage" / "component.py").write_text(
        '@component("Toy", "base")\ndef toy_stage(config: dict, code_version: str) -> None:\n    pass\n'
    )
    monkeypatch.setattr(catalogue, "__file__", str(tmp_path / "catalogue.py"))
    assert catalogue._read() == {"toy_stage": ("Toy", "base")}
    monkeypatch.setitem(planning.PLANS, "toy_stage", planning.PLANS["report"])
    assert outputs()._fields[-2:] == ("report", "toy_stage")


@pytest.mark.parametrize("stage", STAGES)
def test_component_imports_kfp_and_its_image_only(stage: str) -> None:
    module = ast.parse((ROOT / "components" / stage / "component.py").read_text(encoding="utf-8"))
    top = {node.module for node in module.body if isinstance(node, ast.ImportFrom)}
    assert top <= {"kfp", "kfp.dsl", "typing", "components.catalogue"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_figures_of_a_stage_reach_its_page(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"clips": 3, "score": 0.5}
    made = (figures, [], None) if stage == "report" else figures
    monkeypatch.setitem(sys.modules, f"components.{stage}.run", SimpleNamespace(run=lambda *_, **__: made))
    component = getattr(importlib.import_module(f"components.{stage}.component"), stage)
    names, metrics = inspect.signature(component.python_func).parameters, Metrics(uri="metrics")
    component.python_func(**{name: metrics if name == "metrics" else MagicMock() for name in names})
    assert metrics.metadata == (figures if "metrics" in names else {})


@pytest.mark.parametrize("stage", STAGES)
def test_only_component_imports_kfp_and_stages_do_not_import_each_other(stage: str) -> None:
    for path in (ROOT / "components" / stage).rglob("*.py"):
        names = imported(path)
        if path.name != "component.py":
            assert not [name for name in names if name == "kfp" or name.startswith("kfp.")], path
        own = {stage, "catalogue"} if path.name == "component.py" else {stage}
        others = [name for name in names if name.startswith("components.") and name.split(".")[1] not in own]
        assert not others, f"{path} imports {others}"


@pytest.mark.parametrize(
    ("folder", "above"),
    [
        ("common", {"components", "pipelines", "contrib", "kfp"}),
        ("components", {"pipelines", "contrib"}),
        ("pipelines", {"contrib"}),
    ],
)
def test_no_layer_imports_one_above_it(folder: str, above: set[str]) -> None:
    for path in sources(folder):
        wrong = [name for name in imported(path) if name.split(".")[0] in above]
        assert not wrong, f"{path} imports {wrong}"


def modules_imported_by(path: Path) -> Iterator[str]:
    """Modules of this project that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        for name in names:
            whole = f"{node.module}.{name}" if isinstance(node, ast.ImportFrom) else name
            yield whole if whole in MODULES else whole.rpartition(".")[0]


@pytest.mark.parametrize("depth", [99, 2], ids=["files", "rooms"])
def test_imports_run_in_no_circle(depth: int) -> None:
    """Neither files import each other in a circle, nor the folders of each layer."""

    def place(module: str) -> str:
        return ".".join(module.split(".")[:depth])

    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        own = {place(name) for name in modules_imported_by(path) if name in MODULES}
        graph.setdefault(place(module), set()).update(own - {place(module)})
    TopologicalSorter(graph).prepare()


def test_no_module_is_a_junk_drawer() -> None:
    names = {path.stem for folder in FOLDERS for path in sources(folder)}
    assert not names & {"utils", "util", "helpers", "misc"}


def test_the_environment_is_read_in_storage_and_entry_points_only() -> None:
    for folder in FOLDERS:
        for path in sources(folder):
            name = path.relative_to(ROOT).as_posix()
            if re.search(r"os\.(environ|getenv)", path.read_text(encoding="utf-8")):
                assert name in ENVIRONMENT, name


def test_shipped_code_holds_no_unsafe_call() -> None:
    unsafe = re.compile(
        r"(?<![\w.])(eval|exec)\(|torch\.load\(|import pickle|from pickle|\bpickle\.loads?\(|yaml\.load\((?!data, yaml\.CSafeLoader)|trust_remote_code=True|shell=True"
    )
    # The one place that reads a pickle of weights, named by its hash: make fetch-models, never a stage.
    allowed = {"common/models/conversion.py": 'torch.load(source, map_location="cpu", weights_only=True)'}
    for folder in FOLDERS:
        for path in sources(folder):
            text = path.read_text(encoding="utf-8")
            assert not unsafe.search(text.replace(allowed.get(path.relative_to(ROOT).as_posix(), "\0"), "")), path
    reader = "common.models.conversion"
    assert [name for name, path in MODULES.items() if reader in modules_imported_by(path)] == [
        "pipelines.commands.fetch_models"
    ]


def test_no_code_branches_on_a_presets_name() -> None:
    names = "|".join(path.stem for path in (ROOT / "common" / "config" / "presets").glob("*.yaml"))
    branch = re.compile(rf"preset\s*(==|!=|in)\s*[\[\(\"']+({names})")
    for folder in FOLDERS:
        for path in sources(folder):
            assert not branch.search(path.read_text(encoding="utf-8")), path
