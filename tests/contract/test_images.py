"""Images: every one named stands on a layer of the Dockerfile, and holds what its stages need."""

from __future__ import annotations

import ast
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from components.catalogue import LAYERS, LOCAL_REGISTRY, LOCAL_TAG, STAGES, layer_of
from pipelines import sources
from pipelines.cluster import placement
from pipelines.cluster.placement import image_sources
from pipelines.commands.images import build_command
from tests.kit.once import Compiled

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
PARTS = {
    found.group(1): found.group(2)
    for found in re.finditer(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL)
}


@pytest.mark.parametrize("pipeline", ["synthio", "benchmark"])
def test_every_image_named_is_a_layer_of_the_dockerfile(pipeline: str, compiled: Compiled) -> None:
    executors = compiled.documents(pipeline)[0]["deploymentSpec"]["executors"].values()
    named = {executor["container"]["image"] for executor in executors}
    assert named <= {f"{LOCAL_REGISTRY}/{layer}:{LOCAL_TAG}" for layer in PARTS}, named


def test_every_stage_runs_in_one_image() -> None:
    assert sorted(stage for stages in LAYERS.values() for stage in stages) == sorted(STAGES)


def test_no_image_has_an_entry_point() -> None:
    assert not re.search(r"^(ENTRYPOINT|CMD)", DOCKERFILE, flags=re.MULTILINE)


def test_an_image_adds_a_bill_and_the_sources_to_installed_packages_and_runs_unprivileged() -> None:
    assert "FROM ${LAYER} AS stages\n" in DOCKERFILE
    assert [line for line in PARTS["stages"].splitlines() if line and not line.startswith("#")] == [
        "COPY --from=bill /bill.cdx.json /opt/sbom/python.cdx.json",
        *("COPY common /app/common", "COPY components /app/components", "USER 10001:10001"),
    ]


def test_the_stages_that_pretrain_and_no_others_hold_the_shipped_models() -> None:
    assert [name for name, part in PARTS.items() if "models/nano" in part] == ["nano"]
    assert {stage for stage in STAGES if layer_of(stage) == "nano"} == {
        stage for stage in STAGES if stage.startswith("pretrain_")
    }


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_runs_on_a_layer_with_the_packages_that_its_modules_import(stage: str) -> None:
    models = {"torch", "transformers", "sklearn", "safetensors", "tokenizers", "accelerate"}
    imported = imports_of(stage)
    assert not models & imported or layer_of(stage) != "base"
    assert "diffusers" not in imported or layer_of(stage) in ("diffusion", "nano")


def imports_of(stage: str) -> set[str]:
    """Top names of what a stage's modules, and those of `common` that they import, take from elsewhere at their head."""
    found, seen, queue = set[str](), set[Path](), list((ROOT / "components" / stage).glob("*.py"))
    while queue:
        path = queue.pop()
        if path in seen or path.name == "component.py":
            continue
        seen.add(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    place = ROOT.joinpath(*name.split("."))
                    queue += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_the_tag_of_an_image_depends_on_every_file_that_is_copied_into_it(layer: str) -> None:
    names = {path.relative_to(ROOT).as_posix() for path in image_sources(layer)}
    assert {"docker/install-pinned", "requirements.txt", "common/log.py", "components/align_t2a/loss.py"} <= names
    assert any(name.startswith("models/nano/") for name in names) == (layer == "nano")
    assert not any(name.startswith(("tests/", "pipelines/")) for name in names)


def test_whatever_is_installed_can_come_from_an_index_of_ones_own() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "install-pinned " in line and line.startswith("RUN")]
    assert len(installs) >= 5
    for line in installs:
        assert "--mount=type=secret,id=pip_conf,required=false" in line
        assert "--mount=type=secret,id=ca,required=false" in line
    assert not re.search(r"\bpip install\b", DOCKERFILE)


def test_the_base_is_pinned_by_digest_and_nothing_else_is_pulled() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, flags=re.MULTILINE)
    for source in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE):
        assert source in {"${BASE}", "${LAYER}", *PARTS}, source
    assert "# syntax=" not in DOCKERFILE, "a front end of the builder would be pulled, too"


def test_the_builders_command_gets_its_arguments_first_and_the_context_last() -> None:
    command = build_command("some builder --quiet", "torch", ["a/b:c"], ["--build-arg", "TORCH=x"])
    assert command[:3] == ["some", "builder", "--quiet"] and command[-1] == str(ROOT)
    labels = {part.partition("=")[0] for part in command if part.startswith("org.opencontainers.image.")}
    assert {f"org.opencontainers.image.{name}" for name in ("version", "revision")} <= labels
    assert {"TORCH=x", "LAYER=torch", "a/b:c"} <= set(command)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"org.opencontainers.image.version={project['version']}" in command
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)$", changes, flags=re.MULTILINE)[1] == project["version"]  # type: ignore[index]


def test_the_context_of_a_build_is_a_list_of_what_may_enter() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*" and {"**/.*", "**/__pycache__"} <= set(lines)
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in [part for part in line.split()[1:-1] if not part.startswith("--") and part != "."]
    }
    assert all(any(source == name or source.startswith(f"{name}/") for name in allowed) for source in copied)


def test_changed_code_renames_the_images_and_a_docstring_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("common", "components", "docker", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    for module in (placement, sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)

    def tags() -> dict[str, str]:
        placement.image_tag.cache_clear()
        return {layer: placement.image_tag(layer) for layer in LAYERS}

    def renamed(name: str, old: str, new: str) -> list[str]:
        before, path = tags(), tmp_path / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return [layer for layer, tag in tags().items() if tag != before[layer]]

    try:
        assert renamed("common/log.py", '"""', '"""Now: ') == []
        assert renamed(
            "docker/Dockerfile", "install-pinned audiomentations", "install-pinned audiomentations pillow"
        ) == ["augmentation"]
        assert renamed("docker/Dockerfile", "install-pinned diffusers", "install-pinned pillow diffusers") == [
            *("diffusion", "nano")
        ]
        assert renamed("models/nano/clap/config.json", "{", "{ ") == ["nano"]
        assert renamed("components/align_t2a/run.py", "\ndef run(", "\nCHANGED = True\ndef run(") == list(LAYERS)
        assert renamed("requirements.txt", "numpy==", "numpy>=") == list(LAYERS)
    finally:
        monkeypatch.undo()
        tags()
