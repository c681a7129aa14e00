"""Datasets of a run or a study: checked, fetched where they are missing, and written as parameters of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from common.config.dataset import DatasetSpec
from common.config.run import RunConfig
from common.datasets.listing import is_here, where_to_get
from common.datasets.registry import check_training_clips, dataset_names, fingerprint, pushed_copy, resolve_dataset
from common.errors import ConfigError
from common.models.licences import check_use
from common.storage import open_store
from pipelines.commands.fetch_data import downloadable, fetch


@dataclass(frozen=True)
class Wanted:
    """A dataset as the user named it, with the number of its training clips; 0 = the dataset's default."""

    source: str
    spec: DatasetSpec
    n: int

    @property
    def missing(self) -> bool:
        """Whether it is a published dataset that is not on this machine."""
        return self.spec.native and not is_here(self.spec)


def want(source: str, n: int, config: RunConfig) -> Wanted:
    """Resolve a dataset and check what can be checked before its clips are there.

    Raises ConfigError: there is no such dataset, or its licence forbids the run's use.
    """
    spec = resolve_dataset(source)
    check_use(config, spec)
    return Wanted(source, spec, n)


def bring(wanted: Sequence[Wanted], allowed: bool) -> None:
    """Fetch the published datasets that are not on this machine, each announced in a line.

    Args:
        allowed: False = a missing one is an error.

    Raises:
        ConfigError: one may not be downloaded, by its access or by the user's word; nothing is fetched then.
        DataError: an archive is not the expected one.
        StorageError: a server does not answer, or the disk is full; the same call resumes.
    """
    missing = {each.spec.name: each.spec for each in wanted if each.missing}
    for spec in missing.values():
        if not downloadable(spec):
            raise ConfigError(where_to_get(spec))
        if not allowed:
            raise ConfigError(f"{where_to_get(spec)}. FETCH=0 forbids to fetch it now")
    for spec in missing.values():
        found = fetch(spec)
        print(f"{spec.name} is in {found.root}: {found.clips} clips", flush=True)


def local_parameters(wanted: Wanted) -> dict[str, Any]:
    """The parameters `dataset`, `n` and `data_version` of a run on this machine.

    Raises:
        ConfigError: the number of training clips is impossible.
        DataError: the dataset cannot be listed.
    """
    # Resolved again, since a dataset that was fetched has files now which its specification names.
    spec = resolve_dataset(wanted.source)
    check_training_clips(spec, wanted.n or spec.n)
    return {"dataset": _text(spec), "n": wanted.n, "data_version": fingerprint(spec)}


def cluster_parameters(wanted: Wanted, store: str) -> dict[str, Any]:
    """The same parameters of a run on a cluster, whose pods do not see this machine's files.

    A registered dataset is looked up in `store`; without one it goes by its name, and the run's first task looks it up.

    Args:
        store: address of the run store; empty = not given.

    Raises ConfigError: pods cannot read the dataset.
    """
    spec: DatasetSpec | None = wanted.spec
    if wanted.spec.reader != "procedural_demo" and wanted.spec.pushed is None:
        registered = wanted.source in dataset_names()
        if registered and not store.startswith("s3://"):
            return {"dataset": wanted.source, "n": wanted.n, "data_version": ""}
        spec = pushed_copy(wanted.source, open_store(store)) if registered else None
    if spec is None:
        place = store if store.startswith("s3://") else "s3://…"
        raise ConfigError(
            f"pods cannot read dataset {wanted.spec.name} from this machine: put it into the store with make push-data "
            f"DATASET={wanted.source} STORE={place}, and give the address that it prints as DATASET="
        )
    return {"dataset": _text(spec), "n": wanted.n, "data_version": fingerprint(spec)}


def remark(wanted: Sequence[Wanted], preset: str, config: RunConfig) -> str | None:
    """A line for published datasets under a preset of small models made in the run; None = there is nothing to say."""
    names = list(dict.fromkeys(each.spec.name for each in wanted if each.spec.native))
    if not names or config.prepare_corpus.source != "procedural":
        return None
    return (
        f"note: preset {preset} is a demonstration, whose models hear built-in sounds alone: its figures say little "
        f"about {', '.join(names)}; PRESET=small takes published models"
    )


def _text(spec: DatasetSpec) -> str:
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=True, allow_unicode=True)
