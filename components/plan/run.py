"""Reads preset, dataset, methods and overrides, checks them, writes the settings of every stage."""

from __future__ import annotations

from typing import Any

from common.config.methods import Method, resolve_methods
from common.config.run import RunConfig, load_preset, with_llm_endpoint, with_reused_t2a
from common.datasets.registry import find_dataset
from common.errors import ConfigError
from common.learners.architectures import check_encoders
from common.log import event, get_logger
from common.models.licences import check_use
from common.models.registry import check_fetched, check_pinned
from common.storage import whole_store
from common.study.costs import check_budget, estimate
from components.plan.planning import resolve

log = get_logger("plan")


def run(
    dataset: str,
    preset: str,
    n: int,
    methods: str,
    replicates: int,
    overrides: str,
    data_version: str,
    reuse_t2a_from: str = "",
    llm_endpoint: str = "",
    budget: float = 0.0,
) -> tuple[dict[str, Any], ...]:
    """Settings of every stage, in the order of `PLANS`; arguments as in `component.py`.

    Raises:
        ConfigError: a name, number or setting is wrong, the dataset is not to be found, a licence forbids the declared
            use, the estimated cost exceeds the budget, or a model was not fetched.
        DataError: the folder of an encoder holds none that is supported.
        StorageError: the store does not respond.
    """
    spec = find_dataset(dataset)
    config = with_llm_endpoint(with_reused_t2a(load_preset(preset, overrides), reuse_t2a_from), llm_endpoint)
    check_pinned(config)
    check_use(config, spec)
    check_encoders(config)
    chosen = resolve_methods(methods, config.methods)
    _check_budget(budget, n or spec.n, spec.clip_s, preset, chosen, replicates, config)
    asked = {
        "preset": preset,
        "dataset": {"name": spec.name, "domain": spec.domain, "licence": spec.licence},
        "n": n or spec.n,
        "command": _command(spec.name, preset, n, methods, replicates, reuse_t2a_from, llm_endpoint, overrides),
    }
    plans = resolve(config, spec, n, chosen, replicates, asked, data_version)
    # Last, because the other checks ask no store.
    store = whole_store()
    check_fetched(config, preset, overrides, "", *([store.uri] if store else []))
    event(
        log,
        "planned",
        dataset=spec.name,
        preset=preset,
        n=n or spec.n,
        methods=",".join(chosen),
        seeds=replicates,
        data_version=data_version,
    )
    return tuple(plans.values())


def _check_budget(
    budget: float,
    n: int | None,
    clip_s: float,
    preset: str,
    methods: dict[str, Method],
    replicates: int,
    config: RunConfig,
) -> None:
    if not budget:
        return
    if not n:
        raise ConfigError("a budget needs n, the number of training clips, for the estimate: set it, or budget to 0")
    check_budget(estimate([n], preset, methods, replicates, clip_s=[clip_s], config=config), budget)


def _command(
    dataset: str, preset: str, n: int, methods: str, replicates: int, reuse: str, endpoint: str, overrides: str
) -> str:
    parts = [f"make run-pipeline DATASET={dataset} PRESET={preset}", f"SEEDS={replicates}"]
    parts += [f"N={n}"] if n else []
    parts += [f"METHODS={methods.replace(' ', ',')}"] if methods else []
    parts += [f"REUSE_T2A_FROM={reuse}"] if reuse else []
    parts += [f"LLM_ENDPOINT={endpoint}"] if endpoint else []
    parts += [f"OVERRIDES='{overrides}'"] if overrides else []
    return " ".join(parts)
