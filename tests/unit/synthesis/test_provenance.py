from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import DataError
from common.records.provenance import PROVENANCE, copy_provenance, read_provenance, write_provenance
from common.storage import write_json
from components.synthesize_audio.clips import model_account
from tests.kit.clips import account


def test_what_is_written_is_read_and_an_unknown_clip_is_refused(tmp_path: Path) -> None:
    write_provenance(tmp_path, [account("a"), account("b", "wind\n")])
    assert read_provenance(tmp_path, "b") == account("b", "wind\n")
    with pytest.raises(DataError, match="has no clip 'c'"):
        read_provenance(tmp_path, "c")


def test_chosen_lines_of_several_folders_are_copied_as_they_stand_by_clip_id(tmp_path: Path) -> None:
    write_provenance(tmp_path / "first", [account("a"), account("c"), account("e")])
    write_provenance(tmp_path / "second", [account("b"), account("d")])
    (tmp_path / "none").mkdir()
    chosen = {tmp_path / "first": ["e", "a"], tmp_path / "second": ["d"], tmp_path / "none": ["z"]}
    copy_provenance(tmp_path / "new", chosen)
    write_provenance(tmp_path / "expected", [account("a"), account("d"), account("e")])
    assert (tmp_path / "new" / PROVENANCE).read_bytes() == (tmp_path / "expected" / PROVENANCE).read_bytes()


def test_a_published_models_licence_is_part_of_what_its_folder_says(tmp_path: Path) -> None:
    assert model_account(tmp_path) == {}
    write_json(tmp_path / "training.json", {"start": "random", "revision": None, "curve": []})
    assert model_account(tmp_path) == {"start": "random"}
    write_json(tmp_path / "training.json", {"start": "stabilityai/stable-audio-open-1.0", "revision": "f" * 40})
    assert model_account(tmp_path)["licence"] and model_account(tmp_path)["revision"] == "f" * 40
