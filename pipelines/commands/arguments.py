"""Parameters of the pipelines from a command's options, checked before anything starts."""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.captions.secrets import check_key
from common.config.methods import resolve_methods
from common.config.run import RunConfig, load_preset, with_llm_endpoint, with_reused_t2a
from common.errors import ConfigError
from common.models.registry import check_fetched
from common.study.cells import check_history, parse_cells
from pipelines.cluster.api import Connection
from pipelines.commands.options import place
from pipelines.commands.wanted import Wanted, bring, cluster_parameters, local_parameters, remark, want

PARAMETER_BYTES = 16 * 1024
"""Longest text of a parameter. Arguments of a process end at 128 KiB, and a task gets several parameters in one."""
_MACRO = re.compile(r"\{\{|\[\[(?:RunUUID|ScheduledTime|CurrentTime|Index)\b")
"""Macros of Argo, and of KFP's API (backend/src/common/util/parameter_formatter.go in kubeflow/pipelines)."""


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Check the options of `run-pipeline`, fetch a missing dataset, and convert them to the pipeline's parameters.

    Raises:
        ConfigError: a name or number is wrong, a licence forbids the use, or the dataset is to be had elsewhere.
        DataError: the dataset cannot be fetched or listed.
        StorageError: the dataset cannot be fetched.
    """
    _learners(options)
    config = with_reused_t2a(load_preset(options.preset, options.overrides), options.reuse_t2a_from)
    config = with_llm_endpoint(config, options.llm_endpoint)
    resolve_methods(options.methods, config.methods)
    _check_texts(options)
    wanted = want(options.dataset, number("N", options.n or "0", 0), config)
    checked = {
        "preset": options.preset,
        "methods": options.methods,
        "seeds": number("SEEDS", options.seeds, 1),
        "reuse_t2a_from": _absolute(options.reuse_t2a_from),
        "llm_endpoint": options.llm_endpoint,
        "budget": dollars("BUDGET", options.budget),
        "overrides": options.overrides,
    }
    (parameters,) = _parameters([wanted], options, config)
    return checked | parameters


def _learners(options: argparse.Namespace) -> None:
    """Move the chosen learners into the overrides, which travel to the cluster."""
    names, options.learners = options.learners, ""
    if names := names.replace(",", " ").split():
        options.overrides = f"{options.overrides} train_classifier.learners.names=[{','.join(names)}]".strip()


def _parameters(wanted: Sequence[Wanted], options: argparse.Namespace, config: RunConfig) -> list[dict[str, Any]]:
    if line := remark(wanted, options.preset, config):
        print(line, flush=True)
    if Connection.from_environment() is not None:
        found = [cluster_parameters(each, options.store) for each in wanted]
    else:
        _check_local(options, config)
        bring(wanted, options.fetch == "1")
        found = [local_parameters(each) for each in wanted]
    for parameters in found:
        check_parameter("the dataset's YAML", parameters["dataset"])
    return found


def _check_texts(options: argparse.Namespace) -> None:
    for name in ("methods", "overrides", "reuse_t2a_from", "llm_endpoint"):
        check_parameter(name.upper(), getattr(options, name, ""))


def _absolute(text: str) -> str:
    return text if not text or "://" in text else str(place(text).resolve())


def _check_local(options: argparse.Namespace, config: RunConfig) -> None:
    """Refuse a run on this machine that would stop for want of a model or of the caption writer's key."""
    store = options.store or str(Path(options.runs) / "store")
    # Containers see the store alone.
    places = [store] if options.runner == "docker" else ["", store]
    check_fetched(config, options.preset, options.overrides, *places)
    check_writers(config, options.methods)


def check_writers(config: RunConfig, methods: str) -> None:
    """Refuse a run whose captions are written by a paid server without a key.

    Args:
        methods: comma-separated; a run without generated captions asks no writer.

    Raises ConfigError: the key is not set.
    """
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
    _learners(options)
    config = load_preset(options.preset, options.overrides)
    resolve_methods(options.methods, config.methods)
    _check_texts(options)
    numbers = [number("N", size, 0) for size in sizes]
    wanted = [want(dataset, n, config) for dataset, n in itertools.product(datasets, numbers)]
    parse_cells(json.dumps([{"dataset": each.source, "n": each.n} for each in wanted]))
    check_history(options.history)
    return wanted


def study_arguments(options: argparse.Namespace, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """Fetch what is missing of the cells' datasets, and convert the options to the benchmark pipeline's parameters.

    Raises:
        ConfigError: a number is wrong, or a dataset is to be had elsewhere.
        DataError: a dataset cannot be fetched or listed.
        StorageError: a dataset cannot be fetched.
    """
    checked = {
        "preset": options.preset,
        "methods": options.methods,
        "seeds": number("SEEDS", options.seeds, 1),
        "overrides": options.overrides,
        "budget": dollars("BUDGET", options.budget),
        "history": options.history,
    }
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
    """Parse a whole number of at least `least`.

    Raises ConfigError: `text` is no such number.
    """
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{name}={text}: expected a whole number of at least {least}")
    return int(text)


def dollars(name: str, text: str) -> float:
    """Parse an amount of US dollars of at least 0.

    Raises ConfigError: `text` is no such amount.
    """
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
