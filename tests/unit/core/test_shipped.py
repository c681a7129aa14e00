"""Models that come with the project: found by name, and refused when a file is missing, cut or changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import DataError
from common.models import registry, shipped
from common.models.files import ModelFile, ModelRecord
from common.storage.hashing import hash_file

NAME = "nano/clap"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of a shipped model of two files."""
    made = tmp_path / NAME
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(bytes(range(200)))
    files = {p.name: ModelFile(bytes=p.stat().st_size, sha256=hash_file(p)) for p in made.iterdir()}
    records = {NAME: ModelRecord(model=NAME, revision="1a2b", files=files)}
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    for module in (shipped, registry):
        monkeypatch.setattr(module, "shipped_models", lambda: records)
    return made


def test_a_shipped_model_is_located_by_name_and_is_no_hub_id(folder: Path) -> None:
    assert registry.locate(NAME, None) == folder
    assert not registry.is_published(NAME)


def _change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (Path.unlink, "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "has 150 bytes"),
        (_change_a_byte, "has 200 changed bytes"),
    ],
    ids=["missing", "cut", "one byte changed"],
)
def test_a_damaged_shipped_model_is_refused_with_the_remedy(
    folder: Path, harm: Callable[[Path], object], told: str
) -> None:
    harm(folder / "model.safetensors")
    with pytest.raises(
        DataError, match=f"model.safetensors {told}.*version 1a2b.*restore the project's folder models/"
    ):
        registry.locate(NAME, None)


def test_every_recorded_model_is_there_and_whole() -> None:
    for name in shipped.shipped_models():
        assert shipped.shipped_folder(name).is_dir()
