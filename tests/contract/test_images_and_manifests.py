"""Images and manifests: every image named is a Dockerfile target, every overlay renders."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.compile import compile_pipeline
from pipelines.placement import image

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE))
OVERLAYS = sorted(path.parent for path in (ROOT / "manifests" / "overlays").glob("*/kustomization.yaml"))


def test_every_image_named_is_a_dockerfile_target(tmp_path: Path) -> None:
    document = next(yaml.safe_load_all(compile_pipeline(tmp_path / "p.yaml").read_text(encoding="utf-8")))
    executors = document["deploymentSpec"]["executors"].values()
    for name in {executor["container"]["image"] for executor in executors}:
        assert name in {image(target) for target in TARGETS}, name


def test_no_image_has_an_entry_point() -> None:
    assert not re.search(r"^(ENTRYPOINT|CMD)", DOCKERFILE, flags=re.MULTILINE)


def test_every_stage_image_runs_as_an_unprivileged_user() -> None:
    for stage in (path.parent.name.replace("_", "-") for path in (ROOT / "components").glob("*/component.py")):
        part = DOCKERFILE.split(f" AS {stage}\n")[1].split("\nFROM ")[0]
        assert "USER 10001:10001" in part, stage


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_overlay_renders(overlay: Path) -> None:
    rendered = subprocess.run(["kubectl", "kustomize", str(overlay)], check=True, capture_output=True, text=True).stdout
    assert {document["kind"] for document in yaml.safe_load_all(rendered)} >= {"Namespace", "ConfigMap"}
