"""Run the pipeline on a cluster: compile, upload or find the version, start the run, follow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError
from pipelines.cluster import Cluster, Connection
from pipelines.compile import compile_pipeline
from pipelines.placement import load_profile

PACKAGE = Path(__file__).resolve().parent.parent / "build" / "synthio.yaml"
PIPELINE = "synthio"
DEFAULT_PROFILE = "one-gpu"


def submit(connection: Connection, arguments: dict[str, Any], profile: str, follow: bool, fresh: bool = False) -> int:
    """Start a run of the pipeline and print its page.

    Args:
        connection: the API.
        arguments: the pipeline's parameters.
        profile: where the stages run; empty = `one-gpu`.
        follow: wait until the run ends.
        fresh: take no task's result from an earlier run.

    Returns:
        0, or with `follow` the exit status of the run.

    Raises:
        ConfigError: the profile is for this machine, or the API refuses.
        StorageError: the API does not answer.
    """
    profile = profile or DEFAULT_PROFILE
    if not load_profile(profile).cluster:
        raise ConfigError(f"profile {profile} is for this machine, but KFP_HOST is set: unset it, or PROFILE=one-gpu")
    package = compile_pipeline(PACKAGE, profile, fresh)
    cluster = Cluster(connection)
    dataset = str(yaml.safe_load(arguments["dataset"])["name"])
    run_id = cluster.start(cluster.version(PIPELINE, package), dataset, arguments)
    print(f"run: {cluster.url(run_id)}", flush=True)
    status = cluster.follow(run_id, lambda line: print(line, flush=True)) if follow else 0
    if status and not fresh:
        print("if a task lacks an input that is gone from the store: the same command with FRESH=1 makes it anew")
    return status
