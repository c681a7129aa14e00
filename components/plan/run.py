"""Reads preset, dataset, methods and overrides, checks them, writes the settings of every stage."""

from shlex import quote
from typing import Any

from common.config.methods import resolve_methods
from common.config.run import load_preset, with_llm_endpoint, with_reused_t2a
from common.datasets.registry import dataset_names, find_dataset
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
    check_encoders(config.train_classifier.learners.encoders)
    chosen = resolve_methods(methods, config.methods)
    clips = n or spec.n
    if budget:
        if not clips:
            raise ConfigError("a budget needs n, the number of training clips, for the estimate: set n, or budget=0")
        check_budget(estimate([clips], preset, chosen, replicates, clip_s=[spec.clip_s], config=config), budget)
    asked = {
        "preset": preset,
        "dataset": {"name": spec.name, "domain": spec.domain, "licence": spec.licence},
        "n": clips,
        "command": _command(
            spec.given or (spec.name if spec.name in dataset_names() else f"{spec.name}.yaml"),
            preset,
            n,
            methods,
            replicates,
            reuse_t2a_from,
            llm_endpoint,
            overrides,
        ),
    }
    plans = resolve(config, spec, n, chosen, replicates, asked, data_version)
    # Last, because the other checks ask no store.
    store = whole_store()
    check_fetched(config, preset, overrides, "", *([store.uri] if store else []))
    told = {"dataset": spec.name, "preset": preset, "n": clips, "methods": ",".join(chosen), "seeds": replicates}
    event(log, "planned", **told, data_version=data_version)
    return tuple(plans.values())


def _command(
    dataset: str, preset: str, n: int, methods: str, replicates: int, reuse: str, endpoint: str, overrides: str
) -> str:
    given = {
        "N": str(n or ""),
        "METHODS": methods.replace(" ", ","),
        "REUSE_T2A_FROM": reuse,
        "LLM_ENDPOINT": endpoint,
        "OVERRIDES": overrides,
    }
    parts = [f"make run-pipeline DATASET={quote(dataset)} PRESET={preset} SEEDS={replicates}"]
    return " ".join([*parts, *(f"{name}={quote(value)}" for name, value in given.items() if value)])
