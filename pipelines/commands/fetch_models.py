"""Download a preset's published models at pinned commits and verify their hashes (`make fetch-models PRESET=…`).

Every file is checked against the hub's size and hash and recorded; stages load only recorded files. All models are
looked at before the first byte: what the hub lists, access, licences and free disk.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence

from common.config.run import load_preset
from common.errors import StorageError
from common.models.files import ModelRecord, hub_cache, put
from common.models.licences import check_models_use
from common.models.registry import named_models, published_models
from common.storage import open_store
from pipelines.local.hub import Listing, fetch, fetched, look

OPTIONS = {"--preset": ..., "--overrides": "", "--store": ""}

SPARE_BYTES = 2**30
"""Disk space that must stay free."""


def plan_fetch(models: dict[str, str | None]) -> tuple[list[ModelRecord], list[Listing]]:
    """Sort models into those on this machine and those to fetch: gated ones first, then the smallest.

    Args:
        models: hub ids with commits; None = the one in `models.yaml`.

    Raises:
        ConfigError: no commit is known, the hub denies access, or it has no such model or commit.
        DataError: a model has no safetensors, or a file differs from the one in `models.yaml`.
        StorageError: the hub does not answer, or the disk has no room for all of them.

    Returns records of models that are here and verified, and listings of the others.
    """
    here, wanted = [], []
    for model, asked in sorted(models.items()):
        record = fetched(model, asked)
        if record is not None:
            here.append(record)
        else:
            wanted.append(look(model, asked))
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
        known = published_models().get(listing.model)
        licence = f"{known.licence} ({known.restrictions})" if known else "licence: see its page"
        lines.append(f"  {listing.model}@{listing.revision[:12]}: {_size(listing.bytes)}; {licence}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Fetch all models and print their state; exit status 0 = all are there, 2 = one is not, with what to do."""
    config = load_preset(options.preset, options.overrides)
    models = named_models(config)
    if not models:
        print(f"preset {options.preset} needs no published models")
    check_models_use(config)
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
