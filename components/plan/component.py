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

    Args:
        dataset: a registered name, the s3:// address of a dataset YAML, or a dataset as inline YAML.
        preset: tiny, small, paper or smoke.
        n: number of training clips; 0 = the dataset's default.
        methods: comma-separated methods; empty = the preset's.
        seeds: number of replicates.
        reuse_t2a_from: folder or s3:// address of a text-to-audio model of an earlier run; empty = train one.
        llm_endpoint: address of an OpenAI-compatible server that writes the captions; empty = the preset's writer.
        budget: US dollars that the run may cost by estimate; 0 = no limit.
        overrides: space-separated section.field=value pairs.
        data_version: hash of the dataset's files, part of the cache key, so that changed files are read again.
        code_version: hash of this stage's source, part of the cache key.
    """
    from components.plan.run import run

    return run(
        dataset, preset, int(n), methods, int(seeds), overrides, data_version, reuse_t2a_from, llm_endpoint, budget
    )
