"""Files of published models: an exact record of each model, and the layout on this machine and in a store.

On a machine they have the layout of the hub's client, `models--owner--name/snapshots/<commit>`; beside the snapshots,
`<commit>.lock.json` records size and SHA-256 of every file. In a store the same record is
`models/models--owner--name/<commit>.json`, and the files are objects named by their content hash. Free of torch.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pydantic import Field, ValidationError, field_validator

from common.config.base import Frozen
from common.errors import DataError, StorageError
from common.log import event, get_logger
from common.storage import ObjectStore, hub_home, write_json
from common.storage.hashing import hash_file

log = get_logger("models")


class ModelFile(Frozen):
    """One file of a model."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    made_from: str | None = Field(default=None, description="published file that it was converted from")
    made_from_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")


class ModelRecord(Frozen):
    """All files of a model at one commit, as fetched."""

    model: str
    revision: str
    files: dict[str, ModelFile]

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, ModelFile]) -> dict[str, ModelFile]:
        for name in files:
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise ValueError(f"file {name!r} leads out of the model's folder")
        return files

    @property
    def bytes(self) -> int:
        """Total size of all files."""
        return sum(file.bytes for file in self.files.values())

    def fitting(self, patterns: Sequence[str]) -> dict[str, ModelFile]:
        """Select the files that match one of the patterns; see `fits`."""
        return {name: file for name, file in self.files.items() if fits(name, patterns)}


def fits(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file's name matches one of the patterns; `*` also matches slashes, as on the hub."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def hub_cache() -> Path:
    """Model cache of the hub's client on this machine (`HF_HOME`); also known where the client is not installed."""
    try:
        from huggingface_hub import constants
    except ImportError:
        return hub_home() / "hub"
    return Path(constants.HF_HUB_CACHE)


def _repository(model: str) -> str:
    return f"models--{model.replace('/', '--')}"


def snapshot(root: Path, model: str, revision: str) -> Path:
    """Folder of a model at a commit below `root`."""
    return root / _repository(model) / "snapshots" / revision


def record_path(root: Path, model: str, revision: str) -> Path:
    """Path of the record of a model at a commit below `root`."""
    return root / _repository(model) / f"{revision}.lock.json"


def read_record(root: Path, model: str, revision: str) -> ModelRecord | None:
    """Read the record of a model on this machine; None = it was not fetched.

    Raises StorageError: the record cannot be read.
    """
    path = record_path(root, model, revision)
    if not path.is_file():
        return None
    return _parsed(path.read_bytes(), str(path))


def _parsed(text: bytes, place: str) -> ModelRecord:
    try:
        return ModelRecord.model_validate_json(text)
    except ValidationError as error:
        raise StorageError(f"{place} is no record of a model: delete it and run make fetch-models again") from error


def write_record(root: Path, record: ModelRecord) -> None:
    """Write a record atomically."""
    write_json(record_path(root, record.model, record.revision), record.model_dump(mode="json", exclude_none=True))


def damage(folder: Path, files: Mapping[str, ModelFile]) -> Path | None:
    """First file that is missing or differs from its record; None if all match."""
    for name, file in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file.bytes or hash_file(path) != file.sha256:
            return path
    return None


def check(folder: Path, files: Mapping[str, ModelFile]) -> None:
    """Verify files against their record. Raises DataError: a file is missing or differs."""
    if (wrong := damage(folder, files)) is not None:
        raise DataError(
            f"{wrong} is missing or not the file that was fetched (its SHA-256 or size differs from the record): "
            f"delete {wrong.resolve()} and run make fetch-models again"
        )


def stored_record(store: ObjectStore, model: str, revision: str) -> ModelRecord | None:
    """Record of a model in a store; None = absent."""
    key = _record_key(model, revision)
    return None if store.size(key) is None else _parsed(store.read_bytes(key), f"{store.uri}/{key}")


def _record_key(model: str, revision: str) -> str:
    return f"models/{_repository(model)}/{revision}.json"


def _content_key(file: ModelFile) -> str:
    return f"models/sha256/{file.sha256[:2]}/{file.sha256}"


def put(store: ObjectStore, root: Path, record: ModelRecord) -> int:
    """Copy a model from this machine into a store; existing files are kept, the record is written last.

    Returns number of files copied.
    """
    copied = 0
    for name, file in record.files.items():
        if store.size(_content_key(file)) != file.bytes:
            store.upload(_content_key(file), snapshot(root, record.model, record.revision) / name)
            copied += 1
    store.write_bytes(
        _record_key(record.model, record.revision), record.model_dump_json(indent=2, exclude_none=True).encode()
    )
    return copied


def take(store: ObjectStore, record: ModelRecord, files: Mapping[str, ModelFile], root: Path) -> Path:
    """Copy files of a stored model below `root`; existing files are kept.

    Returns the model's folder. Raises StorageError: an object is missing or damaged.
    """
    folder = snapshot(root, record.model, record.revision)
    for name, file in files.items():
        if not (folder / name).is_file():
            event(log, "from_store", model=record.model, file=name, bytes=file.bytes)
            store.download(_content_key(file), folder / name, file.sha256)
    return folder
