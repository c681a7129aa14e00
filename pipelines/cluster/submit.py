"""Start a run of a compiled pipeline on a cluster, and follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.errors import ConfigError
from pipelines.cluster.api import Cluster
from pipelines.cluster.placement import load_profile

DEFAULT_PROFILE = "one-gpu"


def cluster_profile(name: str) -> str:
    """The profile's name, or the default one; ConfigError when it is for this machine."""
    profile = name or DEFAULT_PROFILE
    if not load_profile(profile).cluster:
        raise ConfigError(f"profile {profile} is for this machine, but KFP_HOST is set: unset it, or PROFILE=one-gpu")
    return profile


def submit(
    cluster: Cluster,
    pipeline: str,
    package: Path,
    experiment: str,
    arguments: dict[str, Any],
    follow: bool,
    fresh: bool = False,
) -> int:
    """Start a run and print its page.

    Args:
        cluster: the API.
        pipeline: its name there.
        package: the compiled pipeline.
        experiment: that the run belongs to.
        arguments: the pipeline's parameters.
        follow: wait until the run ends.
        fresh: whether the package takes no task's result from an earlier run.

    Returns:
        0, or with `follow` the exit status of the run.

    Raises:
        ConfigError: the API refuses.
        StorageError: the API does not answer.
    """
    run_id = cluster.start(cluster.version(pipeline, package), experiment, arguments)
    print(f"run: {cluster.url(run_id)}", flush=True)
    status = cluster.follow(run_id, lambda line: print(line, flush=True)) if follow else 0
    if status and not fresh:
        print("if a task lacks an input that is gone from the store: the same command with FRESH=1 makes it anew")
    return status
