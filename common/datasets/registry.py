"""Resolution of a dataset's name, file or inline text to its `DatasetSpec`, and a fingerprint of its files."""

import difflib
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from common.audio.walk import escaped, is_text
from common.config.base import parse_yaml
from common.config.dataset import DatasetSpec
from common.datasets.listing import is_here, list_clips, root_of, where_to_get
from common.datasets.names import is_folder
from common.datasets.native import folder_with
from common.errors import ConfigError, unknown_name
from common.storage import ObjectStore, open_uri, whole_store
from common.storage.hashing import hash_file, hash_json

DATASETS_DIR = Path(__file__).parent
MAX_BYTES = 2**20
"""Size limit of a dataset YAML at an address."""


def dataset_names() -> tuple[str, ...]:
    """Names of the datasets in `common/datasets`."""
    return tuple(sorted(path.stem for path in DATASETS_DIR.glob("*.yaml")))


def resolve_dataset(source: str) -> DatasetSpec:
    """Resolve `source` to a dataset with absolute paths.

    Args:
        source: a registered name, the path or the `s3://` or `file://` address of a YAML file, the path of a folder
            with one sub-folder per class, or the YAML text itself (several lines, or JSON; paths absolute).

    Raises:
        ConfigError: no such dataset, or a field is missing, unknown or wrong.
        DataError: the system does not say whether there is such a folder.
    """
    if not is_text(source):
        raise ConfigError(
            f"dataset {escaped(source)}: the name is no Unicode text, which records cannot hold; rename it, or link to "
            "it under another name"
        )
    if not source.strip():
        raise ConfigError("no dataset is named; give its name, the path of a dataset YAML or of a folder in DATASET")
    if "\n" in source or source.lstrip().startswith("{"):
        return _parse(source, "the inline dataset", None)
    if source in dataset_names():
        return _read(DATASETS_DIR / f"{source}.yaml")
    if "://" in source:
        with open_uri(source) as file:
            return _parse(file.read(MAX_BYTES).decode(errors="replace"), source, None)
    path = Path(source).expanduser()
    if is_folder(path):
        return _validated({"name": _name(path.resolve().name), "audio": str(path)}, str(path), Path.cwd())
    if path.suffix.lower() in (".yaml", ".yml"):
        return _read(path)
    if path.is_file():
        raise ConfigError(
            f"dataset {source} is a file, but no dataset YAML; write a .yaml with the lines `name: …` and "
            f"`labels: {path.name}` beside it and give that"
        )
    error = unknown_name("dataset", source, dataset_names())
    raise ConfigError(f"{error}; or the path of a dataset YAML or of a folder with one sub-folder per class")


def find_dataset(source: str) -> DatasetSpec:
    """Resolve `source`, and look whether this machine, or the run store, has the dataset.

    A registered dataset that is not on this machine is taken from the run store, where `make push-data` puts it.

    Raises:
        ConfigError: there is no such dataset, or it is in neither place; the message says where to get it.
        StorageError: the store does not answer, or lacks the list of a pushed dataset.
    """
    spec = resolve_dataset(source)
    if spec.pushed is not None:
        with open_uri(spec.pushed):
            return spec
    to_cluster = f"for runs on a cluster: make push-data DATASET={spec.name} STORE=s3://… puts it where pods read"
    if spec.native and not is_here(spec):
        store = whole_store() if source in dataset_names() else None
        found = pushed_copy(source, store) if store is not None else None
        if found is None:
            raise ConfigError(f"{where_to_get(spec)}; {to_cluster}")
        return found
    for place in (spec.labels, spec.audio):
        if place is not None and not os.path.exists(place):
            raise ConfigError(f"dataset {spec.name}: {place} does not exist on this machine; {to_cluster}")
    return spec


def pushed_copy(name: str, store: ObjectStore) -> DatasetSpec | None:
    """The registered dataset `name` as `make push-data` put it into a run store; None = it did not."""
    key = f"datasets/{name}.yaml"
    if store.size(key) is None:
        return None
    return _parse(store.read_bytes(key).decode(errors="replace"), f"{store.uri}/{key}", None)


def fingerprint(spec: DatasetSpec) -> str:
    """SHA-256 (hex) over the label file, the size and modification time of every audio file, and what is left out.

    Raises:
        ConfigError: a published dataset is not on this machine.
        DataError: the label file or the folder cannot be read.
    """
    if spec.reader == "procedural_demo":
        return hashlib.sha256(b"procedural_demo").hexdigest()
    if spec.pushed is not None:
        return hashlib.sha256(spec.pushed.encode()).hexdigest()
    listing = list_clips(spec)
    files, rows = [], listing.rows
    for row in rows:
        try:
            stat = os.stat(row.path)
            files.append([row.source, stat.st_size, str(stat.st_mtime_ns)])
        except (OSError, ValueError):
            files.append([row.source, -1, ""])
    if spec.reader != "files":
        listed = sorted([row.source, *row.labels, row.split or "", row.group or ""] for row in rows)
        return hash_json([spec.reader, listed, sorted(files)])
    left_out = sorted([drop.source, drop.reason] for drop in listing.dropped)
    return hash_json([hash_file(spec.labels) if spec.labels else "", sorted(files), left_out, listing.ignored_files])


def corpus_id_files(spec: DatasetSpec) -> tuple[str, ...]:
    """Files with the ids of AudioSet and Freesound clips in `spec` or in a registered dataset, sorted.

    Registered datasets that are not on this machine are left out, because nothing is evaluated on them here.

    Raises ConfigError: `spec` is not on this machine, or one of its files is missing.
    """
    for place in spec.corpus_ids:
        if spec.native and not is_folder(root_of(spec)):
            raise ConfigError(where_to_get(spec))
        if not _is_there(place):
            raise ConfigError(
                f"dataset {spec.name}: corpus_ids: {place} does not exist; without it the pretraining corpus would "
                "hold clips of the dataset"
            )
    registered = (place for name in dataset_names() for place in resolve_dataset(name).corpus_ids)
    return tuple(sorted({*spec.corpus_ids, *filter(_is_there, registered)}))


def _is_there(place: str) -> bool:
    # Files in a store are not checked here; the reader opens them.
    return "://" in place or os.path.isfile(place)


def check_training_clips(spec: DatasetSpec, n: int | None) -> None:
    """Refuse a number of training clips that is impossible by the list of clips alone.

    Bad clips, and a test split that is still to be drawn, leave fewer clips; `prepare_dataset` makes the final check.

    Raises:
        ConfigError: `n` is above the number of clips or below the number of classes.
        DataError: the dataset cannot be listed.
    """
    if n is None or spec.reader == "procedural_demo" or spec.pushed is not None:
        return
    rows = list_clips(spec).rows
    held = {"val"} if isinstance(spec.test, float) else {"val", "test"}
    available = sum(row.split not in held for row in rows)
    classes = 1 if spec.multi_label else len({row.label for row in rows})
    if not classes <= n <= available:
        raise ConfigError(
            f"n={n} training clips asked for; dataset {spec.name} lists {available} outside test and validation, in "
            f"{classes} classes: use N={classes} to N={available}, or leave N out"
        )


def _read(path: Path) -> DatasetSpec:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"cannot read dataset file {path}: {reason}; registered datasets: {', '.join(dataset_names())}"
        ) from error
    return _parse(text, str(path), path)


def _parse(text: str, where: str, path: Path | None) -> DatasetSpec:
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{where}: expected lines such as `name: digits` and `labels: digits.csv`, found {values!r:.80}"
        )
    if path is not None:
        values = {"name": _name(path.stem), **values}
    return _validated(values, where, path.resolve().parent if path is not None else None)


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:64] or "dataset"


def _validated(values: dict[str, Any], where: str, base: Path | None) -> DatasetSpec:
    # A command alone sets `given`, in the text that it hands to a run.
    known = [field for field in DatasetSpec.model_fields if field != "given" or base is None]
    for field, value in values.items():
        if field not in known:
            raise unknown_name(f"field of {where}", str(field), known)
        if isinstance(value, bool) and field in _NUMBERS:
            raise ConfigError(
                f"{where}: {field}: {_EXPECTED.get(field, 'expected a number')} (found {str(value).lower()}, as YAML "
                "reads yes, no, on and off)"
            )
    for field in ("labels", "audio", "root"):
        if isinstance(values.get(field), str):
            values = {**values, field: _absolute(values[field], f"{where}: {field}", base)}
    if isinstance(values.get("corpus_ids"), str):
        values = {**values, "corpus_ids": [values["corpus_ids"]]}
    try:
        spec = DatasetSpec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: {_named(first)}") from error
    # Resolved here, because later stages may run in another environment.
    if not spec.native:
        ids = tuple(
            place if "://" in place else _absolute(place, f"{where}: corpus_ids", base) for place in spec.corpus_ids
        )
        return spec.model_copy(update={"corpus_ids": ids})
    root = root_of(spec)
    ids = tuple(str((folder_with(root, place) or root) / place) for place in spec.corpus_ids)
    return spec.model_copy(update={"root": root, "corpus_ids": ids})


def _absolute(place: str, where: str, base: Path | None) -> str:
    full = Path(place).expanduser()
    if base is None and not full.is_absolute():
        raise ConfigError(f"{where}: {place!r} must be an absolute path")
    found = os.path.normpath((base or Path("/")) / full)
    if not is_text(found):
        raise ConfigError(f"{where}: {escaped(found)} is no Unicode text, which records cannot hold; rename the folder")
    return found


_NUMBERS = frozenset({"test", "n", "clip_s"})
_EXPECTED = {
    "n": "expected a whole number of at least 1",
    "clip_s": "expected seconds above 0",
    "string_too_short": "expected some text, or leave the line out",
    "test": "expected `split` or a fraction between 0 and 1 such as 0.2",
    "namestring_pattern_mismatch": "expected a letter or digit, then at most 63 letters, digits, '.', '-' and '_'",
    "tuple_type": "expected a list such as [dog, rain]",
    "bool_parsing": "expected true or false",
}
"""What a field, or one with a mistake of pydantic's type, should hold."""


def _named(error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    message = re.sub(r"^(Input|String) should (be|have) ", "expected ", message)
    message = _EXPECTED.get(field + error["type"], _EXPECTED.get(field, _EXPECTED.get(error["type"], message)))
    found = f" (found {error['input']!r:.80})" if field and error["type"] != "missing" else ""
    near = difflib.get_close_matches(field, DatasetSpec.model_fields, n=1)
    return f"{near[0] if near else field}: {message}{found}" if field else message
