"""Datasets and parameters of a run or a study, from a command's options, checked before anything starts."""

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.captions.secrets import check_key
from common.config.dataset import DatasetSpec
from common.config.methods import resolve_methods
from common.config.run import RunConfig, load_preset, with_llm_endpoint, with_reused_t2a
from common.datasets.listing import is_here, list_clips, where_to_get
from common.datasets.names import first_names
from common.datasets.registry import (
    check_training_clips,
    corpus_id_files,
    dataset_names,
    fingerprint,
    pushed_copy,
    resolve_dataset,
)
from common.errors import ConfigError
from common.models.licences import check_use
from common.models.registry import check_fetched, check_shipped
from common.storage import open_store
from common.study.cells import check_history, parse_cells
from components.plan.planning import check_corpus
from components.prepare_corpus.doctor import check_corpus_labels, named_labels
from components.pretrain_t2a.published import finished_model
from pipelines.cluster.api import Connection
from pipelines.cluster.placement import load_profile
from pipelines.commands.fetch_data import downloadable, fetch
from pipelines.commands.options import place

PARAMETER_BYTES = 16 * 1024
"""Longest text of a parameter. Arguments of a process end at 128 KiB, and a task gets several parameters in one."""
_MACRO = re.compile(r"\{\{|\[\[(?:RunUUID|ScheduledTime|CurrentTime|Index)\b")
"""Macros of Argo, and of KFP's API (backend/src/common/util/parameter_formatter.go in kubeflow/pipelines)."""


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

    Raises:
        ConfigError: one may not be downloaded, by its access, or since it is not `allowed`; nothing is fetched then.
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
    return {"dataset": _text(spec, wanted), "n": wanted.n, "data_version": fingerprint(spec)}


def cluster_parameters(wanted: Wanted, store: str) -> dict[str, Any]:
    """The same parameters of a run on a cluster, whose pods do not see this machine's files.

    A registered dataset is looked up in `store`; without one (empty) it goes by its name to the run's first task, which
    looks it up.

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
    return {"dataset": _text(spec, wanted), "n": wanted.n, "data_version": fingerprint(spec)}


def remark(wanted: Sequence[Wanted], preset: str, config: RunConfig) -> str | None:
    """A line for published datasets under a preset of small models made in the run; None = there is nothing to say."""
    names = list(dict.fromkeys(each.spec.name for each in wanted if each.spec.native))
    if not names or config.prepare_corpus.source != "procedural":
        return None
    return (
        f"note: preset {preset} is a demonstration, whose models hear built-in sounds alone: its figures say little "
        f"about {', '.join(names)}; PRESET=small takes published models"
    )


def _text(spec: DatasetSpec, wanted: Wanted) -> str:
    values = spec.model_dump(mode="json", exclude_none=True)
    # A report names the place in the command that makes it again; a registered dataset goes by its name.
    if wanted.source not in dataset_names() and "\n" not in wanted.source:
        values["given"] = wanted.source
    return yaml.safe_dump(values, sort_keys=True, allow_unicode=True)


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Check the options of `run-pipeline`, fetch a missing dataset, and convert them to the pipeline's parameters.

    Raises:
        ConfigError: a name or number is wrong, a licence forbids the use, or the dataset is to be had elsewhere.
        DataError: the dataset cannot be fetched or listed.
        StorageError: the dataset cannot be fetched.
    """
    config = with_reused_t2a(_config(options), options.reuse_t2a_from)
    config = with_llm_endpoint(config, options.llm_endpoint)
    wanted = want(options.dataset, number("N", options.n or "0", 0), config)
    reused = options.reuse_t2a_from
    if reused and "://" not in reused:
        reused = str(place(reused).resolve())
        if Connection.from_environment() is None:
            finished_model(reused)
    checked = {**_shared(options), "reuse_t2a_from": reused, "llm_endpoint": options.llm_endpoint}
    (parameters,) = _parameters([wanted], options, config)
    return checked | parameters


def _config(options: argparse.Namespace) -> RunConfig:
    """Check what a run and a study share; the chosen learners go into the overrides, which travel to the cluster."""
    names, options.learners = options.learners, ""
    if names := names.replace(",", " ").split():
        options.overrides = f"{options.overrides} train_classifier.learners.names=[{','.join(names)}]".strip()
    config = load_preset(options.preset, options.overrides)
    check_corpus(config, resolve_methods(options.methods, config.methods))
    for name in ("methods", "overrides", "reuse_t2a_from", "llm_endpoint"):
        check_parameter(name.upper(), getattr(options, name, ""))
    return config


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    """Parameters that a run and a study share."""
    seeds, budget = number("SEEDS", options.seeds, 1), dollars("BUDGET", options.budget)
    named = {name: getattr(options, name) for name in ("preset", "methods", "overrides")}
    return {**named, "seeds": seeds, "budget": budget}


def _parameters(wanted: Sequence[Wanted], options: argparse.Namespace, config: RunConfig) -> list[dict[str, Any]]:
    if line := remark(wanted, options.preset, config):
        print(line, flush=True)
    if Connection.from_environment() is not None:
        found = [cluster_parameters(each, options.store) for each in wanted]
    else:
        store = options.store or str(Path(options.runs) / "store")
        open_store(store)
        if options.profile:
            load_profile(options.profile)
        # Containers see the store alone.
        places = [store] if options.runner == "docker" else ["", store]
        check_fetched(config, options.preset, options.overrides, *places)
        if "" in places:
            check_shipped(config)
        check_writers(config, options.methods)
        bring(wanted, options.fetch == "1")
        for each in wanted:
            _check_captions(each, config, options.methods)
        found = [local_parameters(each) for each in wanted]
    for parameters in found:
        check_parameter("the dataset's YAML", parameters["dataset"])
    return found


def _check_captions(wanted: Wanted, config: RunConfig, methods: str) -> None:
    """Check, where captions of the corpus are on this machine, what the whole run would fail without.

    Raises:
        ConfigError: all methods take corpus clips by label, and the captions name no class.
        DataError: a classifier is to be trained on the labels of a corpus that has none; or the captions are refused.
    """
    spec = resolve_dataset(wanted.source)
    by_label = all(method.of_label for method in resolve_methods(methods, config.methods).values())
    if config.pretrain_classifier.optim is not None:
        check_corpus_labels(config.prepare_corpus, config.seed, corpus_id_files(spec))
    if by_label and spec.reader != "procedural_demo" and spec.pushed is None:
        labels = sorted({label for row in list_clips(spec).rows for label in row.labels})
        named = named_labels(config.prepare_corpus, labels, True, config.seed, corpus_id_files(spec))
        if named and not any(named[0].values()):
            raise ConfigError(
                f"all methods of this run take corpus clips by label, and the captions of the corpus name none of the "
                f"classes of {spec.name} ({first_names(labels, 5)}): name other methods in METHODS too, such as gold"
            )


def check_writers(config: RunConfig, methods: str) -> None:
    """Raise ConfigError for a run whose captions are written by a paid server without a key."""
    chosen = resolve_methods(methods, config.methods).values()
    recipes = [method.recipe for method in chosen if method.recipe is not None]
    if all(recipe.captions == "template" for recipe in recipes):
        return
    for writer in (config.augment_captions.writer, config.revise_captions.writer):
        if writer.backend == "endpoint":
            check_key(writer.endpoint)


def study_request(options: argparse.Namespace) -> list[Wanted]:
    """The cells that the options of `benchmark` ask for, before any dataset is fetched.

    Raises ConfigError: a name or number is wrong, or a licence forbids the use.
    """
    datasets, sizes = _listed(options.datasets), _listed(options.n) or ["0"]
    if not datasets:
        raise ConfigError("DATASETS is empty; name at least one, such as DATASETS=demo")
    config = _config(options)
    numbers = [number("N", size, 0) for size in sizes]
    wanted = [want(dataset, n, config) for dataset, n in itertools.product(datasets, numbers)]
    parse_cells(json.dumps([{"dataset": each.source, "n": each.n} for each in wanted]))
    check_history(options.history)
    return wanted


def study_arguments(options: argparse.Namespace, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """Fetch what is missing of the cells' datasets, and convert the options to the benchmark pipeline's parameters.

    Raises as `pipeline_arguments`.
    """
    checked = {**_shared(options), "history": options.history}
    cells = _parameters(wanted, options, load_preset(options.preset, options.overrides))
    return checked | {"cells": json.dumps(cells, sort_keys=True)}


def check_parameter(name: str, text: str) -> None:
    """Check a text that becomes a parameter of a pipeline.

    Raises ConfigError: the text is too long, or holds what KFP or Argo replaces by something else.
    """
    if len(text.encode()) > PARAMETER_BYTES:
        raise ConfigError(
            f"{name} has {len(text.encode())} bytes; a run carries at most {PARAMETER_BYTES} in a parameter: shorten it"
        )
    if found := _MACRO.search(text):
        raise ConfigError(f"{name} holds {found[0]!r}, which Kubeflow replaces by something else; write it otherwise")


def number(name: str, text: str, least: int) -> int:
    """Parse a whole number from `least` on, of at most nine digits. Raises ConfigError: `text` is no such number."""
    if not text.isdecimal() or len(text) > 9 or int(text) < least:
        raise ConfigError(f"{name}={text:.30}: expected a whole number of at least {least}, of nine digits at most")
    return int(text)


def dollars(name: str, text: str) -> float:
    """Parse an amount of US dollars of at least 0. Raises ConfigError: `text` is no such amount."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name}={text}: expected US dollars, 0 or more")
    return value


def _listed(text: str) -> list[str]:
    """Names with commas or spaces between; a path with spaces stays whole."""
    parts = [part.strip() for part in text.split(",")]
    return [name for part in parts for name in ([part] if place(part).exists() else part.split()) if name]
