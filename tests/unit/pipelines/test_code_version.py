"""The version of a stage's code changes with what the code does, and with nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import sources
from pipelines.dags import code_version as module

ROOT = Path(__file__).resolve().parents[3]
SHARED = """\
\"\"\"Shared code.\"\"\"

FACTOR = 2
\"\"\"By which everything is multiplied.\"\"\"


def twice(value: int = 1) -> int:
    \"\"\"The value times the factor.\"\"\"
    # Exact for whole numbers.
    return value * FACTOR


class Total:
    \"\"\"A sum.\"\"\"

    @property
    def value(self) -> int:
        \"\"\"The sum.\"\"\"
        return twice(3)
"""


def clear() -> None:
    module._imports.cache_clear()
    sources.meaning.cache_clear()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of stages and common code, in which `common/shared.py` is imported by `plan`."""
    for folder in ("common", "components"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "common" / "shared.py").write_text(SHARED, encoding="utf-8")
    user = tmp_path / "components" / "plan" / "run.py"
    user.write_text(user.read_text(encoding="utf-8") + "\nfrom common.shared import Total\n", encoding="utf-8")
    for patched in (module, sources):
        monkeypatch.setattr(patched, "ROOT", tmp_path)
    clear()
    yield tmp_path
    clear()


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    clear()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Shared code.", "Code, shared."),
        ('"""The sum."""\n', ""),
        ("By which everything", "By which each value"),
        ("# Exact for whole numbers.", "# Whole numbers stay whole."),
        ("    # Exact for whole numbers.\n", ""),
        ("return value * FACTOR", "return (\n        value\n        * FACTOR\n    )"),
        ("FACTOR = 2\n", "\n\nFACTOR   =   2\n"),
    ],
    ids=["module docstring", "docstring gone", "constant docstring", "comment", "comment gone", "lines", "spaces"],
)
def test_a_docstring_a_comment_or_the_formatting_changes_no_version(copy: Path, old: str, new: str) -> None:
    before = module.code_version("plan")
    edited(copy / "common" / "shared.py", old, new)
    assert module.code_version("plan") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return value * FACTOR", "return value + FACTOR"),
        ("value: int = 1", "value: int = 2"),
        ("    @property\n", ""),
        ("FACTOR = 2", "FACTOR = 3"),
        ("return twice(3)", 'return twice(len("abc"))'),
    ],
    ids=["function", "default value", "decorator", "constant", "expression"],
)
def test_any_change_of_behaviour_changes_the_version(copy: Path, old: str, new: str) -> None:
    before = module.code_version("plan"), module.code_version("judge_night")
    edited(copy / "common" / "shared.py", old, new)
    assert module.code_version("plan") != before[0]
    assert module.code_version("judge_night") == before[1], "it does not import the module"


def test_a_text_that_the_code_uses_is_no_docstring(copy: Path) -> None:
    before = module.code_version("plan")
    edited(copy / "common" / "shared.py", "return twice(3)", 'return {"text": 3}["text"]')
    changed = module.code_version("plan")
    edited(copy / "common" / "shared.py", '{"text": 3}["text"]', '{"word": 3}["word"]')
    assert len({before, changed, module.code_version("plan")}) == 3


def test_the_values_of_a_stages_yaml_count_and_its_comments_do_not(copy: Path) -> None:
    book = copy / "common" / "captions" / "prompts.yaml"
    before = module.code_version("augment_captions")
    book.write_text("# A remark.\n" + book.read_text(encoding="utf-8"), encoding="utf-8")
    clear()
    assert module.code_version("augment_captions") == before
    edited(book, "system:", "system_2:")
    assert module.code_version("augment_captions") != before


def test_a_module_that_is_imported_by_name_counts(copy: Path) -> None:
    before = module.code_version("synthesize_audio")
    backend = copy / "common" / "diffusion" / "stable_audio_small.py"
    backend.write_text(backend.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    clear()
    assert module.code_version("synthesize_audio") != before


def test_editing_a_stage_changes_that_stage_only(copy: Path) -> None:
    before = {stage: module.code_version(stage) for stage in ("plan", "align_t2a", "report")}
    path = copy / "components" / "align_t2a" / "run.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    clear()
    after = {stage: module.code_version(stage) for stage in before}
    assert [stage for stage in before if before[stage] != after[stage]] == ["align_t2a"]


def test_presets_datasets_and_the_list_of_models_are_settings_and_no_code(copy: Path) -> None:
    stages = ("plan", "prepare_dataset", "pretrain_t2a")
    before = [module.code_version(stage) for stage in stages]
    for name in ("config/presets/tiny.yaml", "datasets/esc50.yaml", "models/models.yaml"):
        path = copy / "common" / name
        path.write_text(path.read_text(encoding="utf-8") + "\nmore: 1\n", encoding="utf-8")
    clear()
    assert [module.code_version(stage) for stage in stages] == before
