"""The layering rules: what may import what."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))


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


def test_there_are_seventeen_stages_of_a_run_three_of_a_study_and_two_of_a_night() -> None:
    assert len(STAGES) == 22


@pytest.mark.parametrize("stage", STAGES)
def test_component_imports_kfp_and_its_image_only(stage: str) -> None:
    module = ast.parse((ROOT / "components" / stage / "component.py").read_text(encoding="utf-8"))
    top = {node.module for node in module.body if isinstance(node, ast.ImportFrom)}
    assert top <= {"kfp", "kfp.dsl", "typing", "pipelines.placement"}


@pytest.mark.parametrize("stage", STAGES)
def test_only_component_imports_kfp_and_stages_do_not_import_each_other(stage: str) -> None:
    for path in (ROOT / "components" / stage).rglob("*.py"):
        names = imported(path)
        if path.name != "component.py":
            assert not [name for name in names if name == "kfp" or name.startswith("kfp.")], path
        others = [name for name in names if name.startswith("components.") and name.split(".")[1] != stage]
        assert not others, f"{path} imports {others}"


def test_common_imports_neither_stages_nor_pipelines() -> None:
    for path in sources("common"):
        wrong = [name for name in imported(path) if name.split(".")[0] in ("components", "pipelines", "kfp")]
        assert not wrong, f"{path} imports {wrong}"


def test_no_module_is_a_junk_drawer() -> None:
    names = {path.stem for folder in ("common", "components", "pipelines") for path in sources(folder)}
    assert not names & {"utils", "util", "helpers", "misc"}


def test_compiling_imports_no_model_library_and_reads_no_environment() -> None:
    code = """
import sys
from pipelines.compile import compile_pipeline
from pathlib import Path
import tempfile
compile_pipeline(Path(tempfile.mkdtemp()) / "p.yaml")
loaded = [m for m in ("torch", "transformers", "diffusers") if m in sys.modules]
assert not loaded, loaded
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/")}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
    for path in [*sources("pipelines"), *(ROOT / "components").glob("*/component.py")]:
        if path.name not in ("run.py", "cluster.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"os\.(environ|getenv)", text), path


def test_the_environment_is_read_in_storage_and_entry_points_only() -> None:
    allowed = {"common/storage/objects.py", "common/storage/s3_client.py", "pipelines/run.py", "pipelines/cluster.py"}
    for folder in ("common", "components", "pipelines"):
        for path in sources(folder):
            name = path.relative_to(ROOT).as_posix()
            if name not in allowed and re.search(r"os\.(environ|getenv)", path.read_text(encoding="utf-8")):
                assert name.endswith("captions/secrets.py"), name


def test_shipped_code_holds_no_unsafe_call() -> None:
    unsafe = re.compile(
        r"(?<![\w.])(eval|exec)\(|torch\.load\(|\bpickle\b|yaml\.load\(|trust_remote_code=True|shell=True"
    )
    for folder in ("common", "components", "pipelines"):
        for path in sources(folder):
            assert not unsafe.search(path.read_text(encoding="utf-8")), path


def test_no_code_branches_on_a_presets_name() -> None:
    names = "|".join(path.stem for path in (ROOT / "common" / "presets").glob("*.yaml"))
    branch = re.compile(rf"preset\s*(==|!=|in)\s*[\[\(\"']+({names})")
    for folder in ("common", "components", "pipelines"):
        for path in sources(folder):
            assert not branch.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("stage", STAGES)
def test_stage_files_stay_small(stage: str) -> None:
    lines = {
        path.name: path.read_text(encoding="utf-8").count("\n") for path in (ROOT / "components" / stage).glob("*.py")
    }
    assert lines.get("run.py", 0) <= 120
    assert all(count <= 400 for count in lines.values()), lines
