"""Models that come with the project, below `models/`: small ones that `make nano` trains.

`records.yaml` lists size and SHA-256 of each of their files. It is part of a stage's code version, so that other
weights under the same name are another model to every cache.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import yaml

from common.errors import DataError
from common.models.files import ModelRecord, damage

FOLDER = Path(__file__).resolve().parents[3] / "models"
RECORDS = Path(__file__).with_name("records.yaml")


@cache
def shipped_models() -> Mapping[str, ModelRecord]:
    """Records by name, such as `nano/clap`: the model's folder below `models/`."""
    entries = yaml.safe_load(RECORDS.read_text(encoding="utf-8")) or {}
    return {name: ModelRecord.model_validate({"model": name, **entry}) for name, entry in entries.items()}


def shipped_folder(model: str) -> Path:
    """Folder of a shipped model, whose files are verified. Raises DataError: a file is missing, cut or changed."""
    record, folder = shipped_models()[model], FOLDER / model
    if (wrong := damage(folder, record.files)) is not None:
        expected = record.files[wrong.relative_to(folder).as_posix()]
        size = wrong.stat().st_size if wrong.is_file() else None
        found = "is missing" if size is None else f"has {size} {'changed ' if size == expected.bytes else ''}bytes"
        raise DataError(
            f"{wrong} {found}; {model}, version {record.revision}, has it with {expected.bytes} bytes and SHA-256 "
            f"{expected.sha256[:12]}…: restore the project's folder models/ (git checkout -- models), or take an image "
            "that holds it"
        )
    return folder
