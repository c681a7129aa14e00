"""Images: every one named is a target of the Dockerfile, and every target keeps to the same rules."""

from __future__ import annotations

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from pipelines import sources
from pipelines.cluster import placement
from pipelines.cluster.images import build_command
from pipelines.cluster.placement import image, image_sources, load_profile
from tests.kit.once import Compiled

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
PARTS = {
    found.group(1): found.group(2)
    for found in re.finditer(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, flags=re.MULTILINE | re.DOTALL)
}
STAGES = sorted(path.parent.name.replace("_", "-") for path in (ROOT / "components").glob("*/component.py"))


@pytest.mark.parametrize("pipeline", ["synthio", "benchmark"])
def test_every_image_named_is_a_dockerfile_target(pipeline: str, compiled: Compiled) -> None:
    executors = compiled.documents(pipeline)[0]["deploymentSpec"]["executors"].values()
    for name in {executor["container"]["image"] for executor in executors}:
        assert name in {image(target) for target in PARTS}, name


def test_no_image_has_an_entry_point() -> None:
    assert not re.search(r"^(ENTRYPOINT|CMD)", DOCKERFILE, flags=re.MULTILINE)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_image_adds_its_own_sources_to_installed_packages_and_runs_unprivileged(stage: str) -> None:
    lines = [line for line in PARTS[stage].splitlines() if line and not line.startswith("#")]
    assert lines[0].endswith("/opt/sbom/python.cdx.json")
    folder = stage.replace("-", "_")
    copied = [line.split()[1] for line in lines[1:-1] if line.startswith("COPY ")]
    shipped = {"pretrain-t2a": "t2a", "pretrain-clap": "clap", "pretrain-classifier": "encoder"}
    models = [f"models/nano/{shipped[stage]}"] if stage in shipped else []
    assert copied == ["common", "components/__init__.py", f"components/{folder}", *models]
    assert len(lines) == len(copied) + 2
    assert lines[-1] == "USER 10001:10001"


def enters(target: str) -> set[str]:
    """The targets whose content can enter the image of `target`: what it is made from or copies from."""
    base = re.search(rf"^FROM (\S+) AS {re.escape(target)}$", DOCKERFILE, flags=re.MULTILINE)
    assert base is not None
    sources = {base.group(1), *re.findall(r"^COPY --from=(\S+)", PARTS[target], flags=re.MULTILINE)} & set(PARTS)
    return {target}.union(*(enters(source) for source in sources))


@pytest.mark.parametrize("stage", STAGES)
def test_the_tag_of_an_image_depends_on_every_file_that_is_copied_into_it(stage: str) -> None:
    hashed, seen = set(image_sources(stage.replace("-", "_"))), set()
    for target in enters(stage):
        for line in re.findall(r"^COPY (?!--from)(.*)$", PARTS[target], flags=re.MULTILINE):
            for name in [word for word in line.split()[:-1] if not word.startswith("--")]:
                source = ROOT / name
                files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
                assert files and {path for path in files if "__pycache__" not in path.parts} <= hashed, source
                seen.add(name)
    assert {"docker/install-pinned", "requirements.txt", "common"} < seen


def test_whatever_is_installed_can_come_from_an_index_of_ones_own() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "install-pinned " in line and line.startswith("RUN")]
    assert len(installs) > 5
    for line in installs:
        assert "--mount=type=secret,id=pip_conf,required=false" in line
        assert "--mount=type=secret,id=ca,required=false" in line
    assert not re.search(r"\bpip install\b", DOCKERFILE)


def test_the_base_is_pinned_by_digest_and_nothing_else_is_pulled() -> None:
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, flags=re.MULTILINE)
    for source in re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE):
        assert source in {"${BASE}", "${TEST_OF}", *PARTS}, source
    assert "# syntax=" not in DOCKERFILE, "a front end of the builder would be pulled, too"


def test_the_builders_command_gets_its_arguments_first_and_the_context_last() -> None:
    command = build_command("some builder --quiet", "plan", load_profile("one-gpu"), ["--build-arg", "TORCH=x"])
    assert command[:3] == ["some", "builder", "--quiet"] and command[-1] == str(ROOT)
    labels = {part.partition("=")[0] for part in command if part.startswith("org.opencontainers.image.")}
    assert {f"org.opencontainers.image.{name}" for name in ("version", "revision")} <= labels
    assert "TORCH=x" in command
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


def test_a_changed_stage_renames_its_own_image_only_and_a_docstring_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("common", "components", "docker", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    for module in (placement, sources):
        monkeypatch.setattr(module, "ROOT", tmp_path)

    def tags() -> dict[str, str]:
        placement.image_tag.cache_clear()
        return {stage: placement.image_tag(stage) for stage in placement.STAGES}

    def renamed(name: str, old: str, new: str) -> list[str]:
        before, path = tags(), tmp_path / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return [stage for stage, tag in tags().items() if tag != before[stage]]

    try:
        assert renamed("common/log.py", '"""', '"""Now: ') == []
        assert renamed("components/align_t2a/run.py", "\ndef run(", "\nCHANGED = True\ndef run(") == ["align_t2a"]
        assert renamed("docker/Dockerfile", "install-pinned jinja2", "install-pinned jinja2 pillow") == [
            *("report", "report_study", "record_night")
        ]
        assert renamed("requirements.txt", "numpy==", "numpy>=") == list(placement.STAGES)
    finally:
        monkeypatch.undo()
        tags()
