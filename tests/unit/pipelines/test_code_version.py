"""The version of a stage's code changes with what the code does, and with nothing else."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import sources

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


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of stages and common code, in which `common/shared.py` is imported by `plan`."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("common", "components"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "common" / "shared.py").write_text(SHARED, encoding="utf-8")
    user = root / "components" / "plan" / "run.py"
    user.write_text(user.read_text(encoding="utf-8") + "\nfrom common.shared import Total\n", encoding="utf-8")
    return root


@pytest.fixture
def copy(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The copy, as it was before each test."""
    monkeypatch.setattr(sources, "ROOT", tree)
    yield tree
    for path, text in BEFORE.items():
        path.write_text(text, encoding="utf-8")
    BEFORE.clear()


BEFORE: dict[Path, str] = {}
"""What a test changed."""


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    rewritten(path, text.replace(old, new, 1))


def rewritten(path: Path, text: str) -> None:
    BEFORE.setdefault(path, path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")


NEUTRAL = {
    "module docstring": ("Shared code.", "Code, shared."),
    "docstring gone": ('"""The sum."""\n', ""),
    "constant's docstring": ("By which everything", "By which each value"),
    "comment": ("# Exact for whole numbers.", "# Whole numbers stay whole."),
    "lines": ("return value * FACTOR", "return (\n        value\n        * FACTOR\n    )"),
    "spaces": ("FACTOR = 2\n", "\n\nFACTOR   =   2\n"),
}


def test_a_docstring_a_comment_or_the_formatting_changes_no_version(copy: Path) -> None:
    before = sources.code_version("plan")
    for old, new in NEUTRAL.values():
        edited(copy / "common" / "shared.py", old, new)
    assert sources.code_version("plan") == before


@pytest.mark.parametrize("kind", NEUTRAL)
def test_the_meaning_of_a_module_is_that_of_its_code(kind: str) -> None:
    old, new = NEUTRAL[kind]
    trees = [ast.dump(sources.without_docstrings(text)) for text in (SHARED, SHARED.replace(old, new, 1))]
    assert old in SHARED and trees[0] == trees[1]


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
    before = sources.code_version("plan"), sources.code_version("judge_study")
    edited(copy / "common" / "shared.py", old, new)
    assert sources.code_version("plan") != before[0]
    assert sources.code_version("judge_study") == before[1], "it does not import the module"


def test_a_text_that_the_code_uses_is_no_docstring(copy: Path) -> None:
    before = sources.code_version("plan")
    edited(copy / "common" / "shared.py", "return twice(3)", 'return {"text": 3}["text"]')
    changed = sources.code_version("plan")
    edited(copy / "common" / "shared.py", '{"text": 3}["text"]', '{"word": 3}["word"]')
    assert len({before, changed, sources.code_version("plan")}) == 3


def test_the_values_of_a_stages_yaml_count_and_its_comments_do_not(copy: Path) -> None:
    book = copy / "common" / "captions" / "prompts.yaml"
    before = sources.code_version("augment_captions")
    rewritten(book, "# A remark.\n" + book.read_text(encoding="utf-8"))
    assert sources.code_version("augment_captions") == before
    edited(book, "system:", "system_2:")
    assert sources.code_version("augment_captions") != before


def test_a_module_that_is_imported_by_name_counts(copy: Path) -> None:
    before = sources.code_version("synthesize_audio")
    backend = copy / "common" / "diffusion" / "backends" / "stable_audio_small.py"
    rewritten(backend, backend.read_text(encoding="utf-8") + "\nCHANGED = True\n")
    assert sources.code_version("synthesize_audio") != before


def test_an_edited_augmentation_trains_classifiers_anew_and_no_model_that_generates(copy: Path) -> None:
    stages = ("prepare_corpus", "pretrain_t2a", "pretrain_clap", "pretrain_classifier", "align_t2a", "train_classifier")
    before = {stage: sources.code_version(stage) for stage in stages}
    path = copy / "common" / "config" / "augmentations.py"
    rewritten(path, path.read_text(encoding="utf-8") + "\nCHANGED = True\n")
    assert [stage for stage in stages if before[stage] != sources.code_version(stage)] == ["train_classifier"]


def test_editing_a_stage_changes_that_stage_only(copy: Path) -> None:
    before = {stage: sources.code_version(stage) for stage in ("plan", "align_t2a", "report")}
    path = copy / "components" / "align_t2a" / "run.py"
    rewritten(path, path.read_text(encoding="utf-8") + "\nCHANGED = True\n")
    after = {stage: sources.code_version(stage) for stage in before}
    assert [stage for stage in before if before[stage] != after[stage]] == ["align_t2a"]


def test_presets_datasets_and_the_list_of_models_are_settings_and_no_code(copy: Path) -> None:
    stages = ("plan", "prepare_dataset", "pretrain_t2a")
    before = [sources.code_version(stage) for stage in stages]
    for name in ("config/presets/tiny.yaml", "datasets/esc50.yaml", "models/models.yaml"):
        path = copy / "common" / name
        rewritten(path, path.read_text(encoding="utf-8") + "\nmore: 1\n")
    assert [sources.code_version(stage) for stage in stages] == before
