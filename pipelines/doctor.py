"""Look at a dataset, and with KFP_HOST at the cluster, before anything is spent (`make doctor DATASET=…`)."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from common.config.dataset import DatasetSpec
from common.config.run import RunConfig, load_preset, with_llm_endpoint
from common.datasets_registry import resolve_dataset
from common.errors import ConfigError, SynthioError
from common.layouts import LAYOUTS
from common.layouts.located import root_of
from common.licences import check_use
from common.methods import LOSERS, Method, resolve_methods
from common.models import describe
from common.parallel import cpu_count
from components.plan.resolve import resolve_recipes
from components.prepare_dataset.doctor import examine
from pipelines.cluster import Connection
from pipelines.cluster_doctor import examine_cluster
from pipelines.console import print_and_exit
from pipelines.placement import load_profile


def estimate(config: RunConfig, methods: dict[str, Method], n_train: int, seeds: int) -> dict[str, Any]:
    """Work that a run will do, counted from its settings.

    Args:
        config: the run's configuration.
        methods: by name.
        n_train: number of training clips.
        seeds: number of replicates.

    Returns:
        Numbers of optimiser steps and of clips to generate, and where the preset states what they cost on a
        reference machine (`estimate` in the preset), minutes and gigabytes.
    """
    recipes = resolve_recipes(methods)
    alignments = {recipe.alignment for recipe in recipes} - {"none"}
    vanilla = any(method.recipe == LOSERS for method in methods.values())
    factors = config.augmentation_factors
    per_clip = max(config.losers_per_clip, max(factors) if vanilla else 0)
    rounds = [config.rounds if recipe.rounds is None else min(recipe.rounds, config.rounds) for recipe in recipes]
    generated = n_train * seeds * (per_clip + sum(max(factors) * (1 + r) for r in rounds))
    trained = sum(
        (1 if method.classic in ("none", "best") else 3) * (len(factors) if method.recipe else 1)
        for method in methods.values()
    )
    work = {
        "clips_generated_at_most": generated,
        "alignments": len(alignments) * seeds,
        "classifiers_trained": trained * seeds + 1,
    }
    if config.cost is None:
        return {**work, "minutes": None, "memory_gb": None}
    cost = config.cost
    cpu_s = (
        cost.pretraining_cpu_s
        + cost.fixed_cpu_s
        + cost.generate_cpu_s * generated
        + cost.align_cpu_s * work["alignments"]
        + cost.train_cpu_s * work["classifiers_trained"]
    )
    return {**work, "minutes": round(cpu_s / min(cpu_count(), 2) / 60, 1), "memory_gb": cost.memory_gb}


def _number(name: str, text: str) -> int:
    if text and not text.isdecimal():
        raise ConfigError(f"{name}={text}: expected a whole number")
    return int(text or 0)


def main() -> int:
    """Entry point of `make doctor`: exit status 0 = ready to run, 1 = something is wrong, 2 = cannot look."""
    parser = argparse.ArgumentParser(prog="make doctor", description=__doc__)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--n", default="")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--methods", default="")
    parser.add_argument("--overrides", default="")
    parser.add_argument("--llm-endpoint", default="")
    parser.add_argument("--profile", default="", help="with KFP_HOST; default: one-gpu")
    parser.add_argument("--store", default="", help="with KFP_HOST: the run store, s3://…")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        config = with_llm_endpoint(load_preset(options.preset, options.overrides), options.llm_endpoint)
        methods = resolve_methods(options.methods)
        spec = resolve_dataset(options.dataset)
        found = examine(spec, config.prepare_dataset, _number("N", options.n) or spec.n)
        work = estimate(config, methods, int(found.health["counts"].get("train", 0)), _number("SEEDS", options.seeds))
        models = describe(config)
        refused = _refused(config, spec)
        connection = Connection.from_environment()
        profile = load_profile(options.profile or "one-gpu")
        checks = [] if connection is None else list(examine_cluster(connection, profile, config, options.store))
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        told = {**found.to_dict(), "place": _place(spec), "use": config.use, "refused": refused, "models": models}
        told |= {"estimate": work, "cluster": [check.to_dict() for check in checks]}
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        print(found.to_text())
        print(f"  place      {_place(spec)}")
        print(f"  use        declared: {config.use}; {refused or 'no licence forbids it'}")
        print("\n".join(["published models:", *(f"  {line}" for line in models or ["none"])]))
        print(_estimate_text(options.preset, work))
        if checks:
            print("\n".join(["cluster:", *(f"  {check}" for check in checks)]))
    return 0 if found.ok and refused is None and not any(check.state == "problem" for check in checks) else 1


def _place(spec: DatasetSpec) -> str:
    """Where the data was found."""
    if spec.reader == "procedural_demo":
        return "built in"
    return str(root_of(spec) if spec.reader in LAYOUTS else spec.pushed or spec.labels or spec.audio)


def _refused(config: RunConfig, spec: DatasetSpec) -> str | None:
    try:
        check_use(config, spec)
    except ConfigError as error:
        return f"PROBLEM: {error}"
    return None


def _estimate_text(preset: str, work: dict[str, Any]) -> str:
    counted = (
        f"{work['alignments']} alignments, at most {work['clips_generated_at_most']} clips to generate, "
        f"{work['classifiers_trained']} classifiers to train"
    )
    if work["minutes"] is None:
        return f"estimate for preset {preset}: {counted}; time and memory of this preset were not measured"
    cost = f"about {work['minutes']} minutes and {work['memory_gb']} GB on this machine"
    return f"estimate for preset {preset}: {counted}; {cost}"


if __name__ == "__main__":
    print_and_exit(main)
