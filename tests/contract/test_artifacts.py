"""docs/ARTIFACTS.md is made from the models, and its examples are of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from common.contracts.base import read
from common.contracts.gold import Splits
from common.errors import DataError
from tests.kit.artifact_pages import CONTRACTS, examples_of, page

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ARTIFACTS.md").read_text(encoding="utf-8")


def test_the_page_is_that_of_the_models() -> None:
    assert page(examples_of(TEXT)) == TEXT, "make it again: python -m tests.kit.artifact_pages docs/ARTIFACTS.md"


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_example_is_of_its_model_and_the_model_writes_the_same_again(name: str) -> None:
    example = examples_of(TEXT)[name]
    again = to_jsonable_python(TypeAdapter(CONTRACTS[name]).validate_python(example))
    assert json.dumps(again, sort_keys=True) == json.dumps(example, sort_keys=True)


def test_a_bad_file_says_what_was_found_where_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text('{"replicates": {"0": {"train": 3, "val": []}}, "oracle": [], "shared_gold": true}')
    with pytest.raises(DataError, match=r"splits.json is no Splits: at replicates.0.train, .*list; found '3'.*again"):
        read(Splits, path)
