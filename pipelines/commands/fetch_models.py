"""Download a preset's published models at pinned commits and verify their hashes (`make fetch-models PRESET=…`).

Every file is checked against the hub's size and hash and recorded; stages load only recorded files. All models are
looked at before the first byte: what the hub lists, access, licences and free disk.
"""

import argparse
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.run import load_preset
from common.errors import ConfigError, DataError, StorageError, one_line
from common.models.conversion import convert_pickle
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
from common.models.licences import check_use
from common.models.registry import Conversion, access, check_hashes, check_listed, listed, named_models, pinned
from common.storage import open_store
from common.storage.hashing import hash_file

OPTIONS = {"--preset": ..., "--overrides": "", "--store": ""}

SPARE_BYTES = 2**30
"""Disk space that must stay free."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")


@dataclass(frozen=True)
class Listing:
    """Files of a model that belong on this machine, as the hub lists them."""

    model: str
    revision: str
    files: dict[str, Any]
    convert: Conversion | None = None
    """One of the files, a pickle that is converted and not kept; None = safetensors are published."""

    @property
    def bytes(self) -> int:
        """Bytes that are still to be sent."""
        folder = snapshot(hub_cache(), self.model, self.revision)
        return sum(int(file.size) for name, file in self.files.items() if not (folder / name).is_file())

    @property
    def room(self) -> int:
        """Bytes of disk that fetching takes at most."""
        return self.bytes + (int(self.files[self.convert.file].size) if self.convert else 0)

    @property
    def gated(self) -> bool:
        """Whether the licence must be accepted on the model's page."""
        return listed(self.model).gated


def fetched(model: str, asked: str | None) -> ModelRecord | None:
    """Record of a model on this machine, whose files were verified; None = it is absent, or a file is damaged.

    It is that of the commit `asked` for; None = the one in `models.yaml`.

    Raises:
        ConfigError: no commit is known.
        DataError: a file differs from the one in `models.yaml`.
    """
    cache, revision = hub_cache(), pinned(model, asked)
    record = read_record(cache, model, revision)
    if record is None:
        return None
    check_listed(record)
    folder = snapshot(cache, model, revision)
    wrong = damage(folder, record.files)
    if wrong is not None:
        _forget(wrong)
        return None
    for pickle in filter(None, (file.made_from for file in record.files.values())):
        _forget(folder / pickle)
    return record


def look(model: str, asked: str | None) -> Listing:
    """Ask the hub what it lists, and whether it gives that to this user; no file is sent. `asked` as in `fetched`.

    Raises:
        ConfigError: no commit is known, the hub denies access, or it has no such model or commit.
        DataError: the model has no safetensors and no pickle in `models.yaml`, or a file is listed with another hash.
        StorageError: the hub does not answer.
    """
    revision = pinned(model, asked)
    known = listed(model)
    is_listed = known.revision == revision
    with _told(model, revision):
        from huggingface_hub import HfApi, RepoFile, get_hf_file_metadata, get_token, hf_hub_url

        if known.gated and not get_token():
            raise ConfigError(f"{model}: no HF_TOKEN. {access(model)}")
        tree = HfApi().list_repo_tree(model, recursive=True, revision=revision)
        files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
        listing = _chosen(model, revision, files, known.convert if is_listed else None)
        if is_listed:
            # Small files are listed with git's hash alone; they are compared when they are here.
            check_hashes(model, {name: file.lfs.sha256 for name, file in files.items() if file.lfs}, found_only=True)
        # Listings are open where files are not: ask for the head of one.
        get_hf_file_metadata(hf_hub_url(model, min(listing.files), revision=revision), retry_on_errors=True)
    return listing


def _chosen(model: str, revision: str, files: dict[str, Any], convert: Conversion | None) -> Listing:
    wanted = listed(model).files
    chosen = {name: file for name, file in files.items() if fits(name, wanted) and not name.endswith(PICKLES)}
    if any(name.endswith(".safetensors") for name in chosen):
        return Listing(model, revision, chosen)
    if convert is not None and convert.file in files:
        return Listing(model, revision, chosen | {convert.file: files[convert.file]}, convert)
    pickled = sorted(name for name in files if name.endswith(PICKLES))
    found = f"only {', '.join(pickled[:3])}" if pickled else "no weights at all"
    raise DataError(
        f"{model} at commit {revision} publishes no safetensors, {found}; pickles are never loaded: name another "
        "commit or model, or convert it and name the folder"
    )


def fetch(listing: Listing) -> ModelRecord:
    """Download a model to this machine's cache with the hub's client, verify, convert and record it.

    Files that are whole are not downloaded again.

    Raises:
        ConfigError: the hub denies access.
        DataError: a file differs from the one that the hub lists, or the pickle asks for code.
        StorageError: the hub does not answer, or the disk is full; the same call resumes.
    """
    model, revision, cache = listing.model, listing.revision, hub_cache()
    with _told(model, revision):
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, revision=revision, allow_patterns=sorted(listing.files), max_workers=2))
        files = _verified(folder, listing.files)
        if listing.convert is not None:
            files[listing.convert.to] = _converted(folder, files.pop(listing.convert.file), listing.convert)
        made = ModelRecord(model=model, revision=revision, files=dict(sorted(files.items())))
        check_listed(made)
        write_record(cache, made)
    if listing.convert is not None:
        _forget(folder / listing.convert.file)
    return made


def _converted(folder: Path, weights: ModelFile, convert: Conversion) -> ModelFile:
    if weights.sha256 != convert.sha256:
        _forget(folder / convert.file)
        raise DataError(
            f"{folder / convert.file} has sha256 {weights.sha256}, models.yaml says {convert.sha256}: it was deleted "
            "and not read; check the revision"
        )
    target = folder / convert.to
    convert_pickle(folder / convert.file, target)
    return ModelFile(
        bytes=target.stat().st_size, sha256=hash_file(target), made_from=convert.file, made_from_sha256=weights.sha256
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
    """Delete a file and the content that it links to, so that it is downloaded again where it is wanted."""
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
        raise ConfigError(f"{model} is no hub id: {one_line(error)}") from error
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
            f"cannot fetch {model} (commit {revision}): {type(error).__name__}: {one_line(error)}; check network "
            f"and disk, then {again}"
        ) from error


def plan_fetch(models: dict[str, str | None]) -> tuple[list[ModelRecord], list[Listing]]:
    """Sort models, hub ids with commits, into those on this machine and those to fetch: gated first, then the smallest.

    Raises:
        ConfigError: no commit is known, the hub denies access, or it has no such model or commit.
        DataError: a model has no safetensors, or a file differs from the one in `models.yaml`.
        StorageError: the hub does not answer, or the disk has no room for all of them.

    Returns records of models that are here and verified, and listings of the others.
    """
    found = {model: fetched(model, asked) for model, asked in sorted(models.items())}
    here = [record for record in found.values() if record is not None]
    wanted = [look(model, models[model]) for model, record in found.items() if record is None]
    wanted.sort(key=lambda listing: (not listing.gated, listing.bytes, listing.model))
    _check_room(wanted)
    return here, wanted


def _check_room(wanted: Sequence[Listing]) -> None:
    if not wanted:
        return
    cache = hub_cache()
    needed = sum(listing.room for listing in wanted) + SPARE_BYTES
    place = next(path for path in (cache, *cache.parents) if path.is_dir())
    if (free := shutil.disk_usage(place).free) < needed:
        names = ", ".join(listing.model for listing in wanted)
        raise StorageError(
            f"{place} has {_size(free)} free; {names} need{'s' if len(wanted) == 1 else ''} {_size(needed)}, of which "
            "1 GiB to spare. Free some space, or name another folder with HF_HOME"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _announced(wanted: Sequence[Listing]) -> str:
    lines = [f"to fetch: {_size(sum(listing.bytes for listing in wanted))} into {hub_cache()}"]
    for listing in wanted:
        size, terms = _size(listing.bytes), listed(listing.model).terms
        lines.append(f"  {listing.model}@{listing.revision[:12]}: {size}; {terms}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Fetch all models and print their state; exit status 0 = all are there, 2 = one is not, with what to do."""
    config = load_preset(options.preset, options.overrides)
    models = named_models(config)
    if not models:
        print(f"preset {options.preset} needs no published models")
    check_use(config)
    here, wanted = plan_fetch(models)
    for record in here:
        _done(record, "is there, verified", options.store)
    if wanted:
        print(_announced(wanted), flush=True)
    for listing in wanted:
        _done(fetch(listing), "fetched", options.store)
    return 0


def _done(record: ModelRecord, state: str, store: str) -> None:
    converted = [f"{name} converted from {file.made_from}" for name, file in record.files.items() if file.made_from]
    size = _size(record.bytes)
    print("; ".join([f"{record.model}@{record.revision[:12]}: {state}, {len(record.files)} files, {size}", *converted]))
    if store:
        copied = put(open_store(store), hub_cache(), record)
        print(f"  {store}: {copied} files copied, {len(record.files) - copied} were there", flush=True)
