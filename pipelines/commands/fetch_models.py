"""Download a preset's published models at pinned commits and verify their hashes (`make fetch-models PRESET=…`).

Every file is checked against the hub's size and hash and recorded; stages load only recorded files.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.run import load_preset
from common.errors import ConfigError, DataError, StorageError
from common.models.files import (
    ModelFile,
    ModelRecord,
    damage,
    fits,
    hub_cache,
    put,
    read_record,
    snapshot,
    write_record,
)
from common.models.registry import (
    access,
    check_listed,
    fetched_patterns,
    named_models,
    pinned_revision,
    published_models,
)
from common.storage import open_store
from common.storage.hashing import hash_file

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
SPARE_BYTES = 2**30
"""Disk space that must stay free."""


@dataclass(frozen=True)
class Fetched:
    """A model on this machine.

    Attributes:
        record: record of its files.
        new: whether this call downloaded it.
    """

    record: ModelRecord
    new: bool


def fetch_model(model: str, asked: str | None) -> Fetched:
    """Download one model to this machine's cache with the hub's client; a recorded model is verified and kept.

    Complete files are not downloaded again.

    Args:
        model: hub id.
        asked: commit; None = the one in `models.yaml`.

    Raises:
        ConfigError: no commit is known, the hub denies access, or it has no such model or commit.
        DataError: the model has no safetensors, or a file differs from the one that the hub lists.
        StorageError: the hub does not answer, or the disk is full; the same call resumes.
    """
    revision, cache = pinned_revision(model, asked), hub_cache()
    if revision is None:
        raise ConfigError(f"{model} has no known commit: set its revision to one, so that every run gets the same")
    record = read_record(cache, model, revision)
    if record is not None:
        check_listed(record)
        wrong = damage(snapshot(cache, model, revision), record.files)
        if wrong is None:
            return Fetched(record, new=False)
        _forget(wrong)
    known = published_models().get(model)
    with _told(model, revision):
        from huggingface_hub import get_token, snapshot_download

        if known is not None and known.gated and not get_token():
            raise ConfigError(f"{model}: no HF_TOKEN. {access(model)}")
        listed = _listed(model, revision)
        _check_room(model, cache, snapshot(cache, model, revision), listed)
        folder = snapshot_download(model, revision=revision, allow_patterns=sorted(listed), max_workers=2)
    made = ModelRecord(model=model, revision=revision, files=_verified(Path(folder), listed))
    check_listed(made)
    write_record(cache, made)
    return Fetched(made, new=True)


def _listed(model: str, revision: str) -> dict[str, Any]:
    """Entries of the hub's listing for the files to download, by name."""
    from huggingface_hub import HfApi, RepoFile

    tree = HfApi().list_repo_tree(model, recursive=True, revision=revision)
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    patterns = fetched_patterns(model)
    listed = {name: file for name, file in files.items() if fits(name, patterns) and not name.endswith(PICKLES)}
    pickled = sorted(name for name in files if name.endswith(PICKLES))
    if not any(name.endswith(".safetensors") for name in listed):
        found = f"only {', '.join(pickled[:3])}" if pickled else "no weights at all"
        raise DataError(
            f"{model} at commit {revision} publishes no safetensors, {found}; pickles are never loaded: name another "
            "commit or model, or convert it and name the folder"
        )
    return listed


def _check_room(model: str, cache: Path, folder: Path, listed: dict[str, Any]) -> None:
    needed = sum(file.size for name, file in listed.items() if not (folder / name).is_file()) + SPARE_BYTES
    place = next(path for path in (cache, *cache.parents) if path.is_dir())
    if (free := shutil.disk_usage(place).free) < needed:
        raise StorageError(
            f"{place} has {free / 2**30:.1f} GiB free; {model} needs {needed / 2**30:.1f} GiB, of which one to spare. "
            "Free some space, or name another folder with HF_HOME"
        )


def _verified(folder: Path, listed: dict[str, Any]) -> dict[str, ModelFile]:
    """Check size and hash of every file against the hub's listing: SHA-256, or git's blob hash for small files."""
    found = {}
    for name, entry in sorted(listed.items()):
        path = folder / name
        size, sha256 = path.stat().st_size, hash_file(path)
        if entry.lfs is not None:
            right = sha256 == entry.lfs.sha256
        else:
            blob = hashlib.sha1(f"blob {size}\0".encode() + path.read_bytes(), usedforsecurity=False)
            right = blob.hexdigest() == entry.blob_id
        if not right or size != entry.size:
            _forget(path)
            raise DataError(
                f"{path} is not the file that the hub lists ({size} bytes, sha256 {sha256[:12]}…); it was deleted: run "
                "the same command again"
            )
        found[name] = ModelFile(bytes=size, sha256=sha256)
    return found


def _forget(path: Path) -> None:
    """Delete a damaged file and the content that it links to, so that it is downloaded again."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextmanager
def _told(model: str, revision: str) -> Iterator[None]:
    """Context that turns the client's errors into SynthioErrors that say what to do."""
    import httpx2
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    again = "run the same command again: files that are whole are kept"
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise ConfigError(
            f"{model} is not in the cache, and HF_HUB_OFFLINE=1 forbids to fetch it: unset it, or fetch where there is "
            "a network and copy HF_HOME, or take STORE= there"
        ) from error
    except HFValidationError as error:
        raise ConfigError(f"{model} is no hub id: {_line(error)}") from error
    except GatedRepoError as error:
        raise ConfigError(f"the hub refuses {model}: {access(model)}") from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"the hub has {model}, but no commit {revision}: correct its revision") from error
    except RepositoryNotFoundError as error:
        raise ConfigError(
            f"the hub has no model {model}, or not for this user: check its name. {access(model)}"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ConfigError(f"the hub refuses {model} (status {status}): {access(model)}") from error
        raise StorageError(f"the hub answers {status} for {model} (commit {revision}): {again}") from error
    except (OSError, httpx2.HTTPError) as error:
        raise StorageError(
            f"cannot fetch {model} (commit {revision}): {type(error).__name__}: {_line(error)}; check network "
            f"and disk, then {again}"
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--preset", required=True)
    parser.add_argument("--overrides", default="", help="as for the run: they may name other models")
    parser.add_argument(
        "--store", default="", help="s3://bucket/prefix of the run store: copy the models there as well"
    )


def run(options: argparse.Namespace) -> int:
    """Fetch all models and print their state; exit status 0 = all are there, 2 = one is not, with what to do."""
    models = named_models(load_preset(options.preset, options.overrides))
    if not models:
        print(f"preset {options.preset} needs no published models")
    for model, asked in sorted(models.items()):
        fetched = fetch_model(model, asked)
        record, state = fetched.record, "fetched" if fetched.new else "is there, verified"
        print(f"{model}@{record.revision[:12]}: {state}, {len(record.files)} files, {record.bytes / 2**30:.2f} GiB")
        if options.store:
            copied = put(open_store(options.store), hub_cache(), record)
            print(f"  {options.store}: {copied} files copied, {len(record.files) - copied} were there")
    return 0
