from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipelines import code_version as module

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("common", "components"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module._imports.cache_clear()
    yield tmp_path
    module._imports.cache_clear()


def edit(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")
    module._imports.cache_clear()


def test_editing_a_stage_changes_that_stage_only(copy: Path) -> None:
    before = {stage: module.code_version(stage) for stage in ("plan", "align_t2a", "report")}
    edit(copy / "components" / "align_t2a" / "run.py")
    after = {stage: module.code_version(stage) for stage in before}
    assert [stage for stage in before if before[stage] != after[stage]] == ["align_t2a"]


def test_editing_shared_code_changes_the_stages_that_import_it(copy: Path) -> None:
    stages = ("align_t2a", "synthesize_audio", "augment_captions")
    before = {stage: module.code_version(stage) for stage in stages}
    edit(copy / "common" / "diffusion" / "sampling.py")
    after = {stage: module.code_version(stage) for stage in stages}
    assert before["synthesize_audio"] != after["synthesize_audio"]
    assert before["augment_captions"] == after["augment_captions"]
