from typing import Any, NamedTuple

from components.catalogue import component


def outputs() -> Any:
    """One for the settings of each stage, in the order of `PLANS`."""
    from components.plan.planning import PLANS

    return NamedTuple("Plan", [(stage, dict) for stage in PLANS])


@component("Check settings", "base", additional_funcs=[outputs])
def plan(
    dataset: str,
    preset: str,
    n: int,
    methods: str,
    seeds: int,
    reuse_t2a_from: str,
    llm_endpoint: str,
    budget: float,
    overrides: str,
    data_version: str,
    code_version: str,
) -> outputs():
    """Resolve names to settings of every stage and check them all, before any GPU is used.

    The arguments are the parameters of the pipeline (`pipelines/dags/synthio.py`).
    """
    from components.plan.run import run

    return run(
        dataset, preset, int(n), methods, int(seeds), overrides, data_version, reuse_t2a_from, llm_endpoint, budget
    )
