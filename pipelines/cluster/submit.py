"""Submission of a compiled pipeline to a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from common.errors import ConfigError, SynthioError
from pipelines.cluster.api import Cluster
from pipelines.cluster.placement import load_profile

DEFAULT_PROFILE = "one-gpu"


def cluster_profile(name: str) -> str:
    """Return the profile's name, or the default one for an empty name.

    Raises ConfigError: the profile is unknown, or for this machine only.
    """
    profile = name or DEFAULT_PROFILE
    if not load_profile(profile).cluster:
        raise ConfigError(f"profile {profile} is for this machine, but KFP_HOST is set: unset it, or PROFILE=one-gpu")
    return profile


def task_names(package: Path) -> set[str]:
    """Names and titles of the tasks of a compiled pipeline that run a stage."""
    spec = next(yaml.load_all(package.read_text(encoding="utf-8"), yaml.CSafeLoader))
    names = set()
    for part in (spec["root"], *spec["components"].values()):
        for name, task in part.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                names |= {name, task["taskInfo"]["name"]}
    return names


def submit(
    cluster: Cluster,
    pipeline: str,
    package: Path,
    experiment: str,
    arguments: dict[str, Any],
    follow: bool,
    fresh: bool = False,
) -> int:
    """Start a run, print the URL of its page, and optionally follow it.

    Args:
        follow: wait until the run ends.
        fresh: whether the package was compiled without caching; selects the hint after a failure.

    Raises:
        ConfigError: the API refuses.
        StorageError: the API does not answer.

    Returns 0, or with `follow` the exit status of the run.
    """
    run_id = cluster.start(cluster.version(pipeline, package), experiment, arguments)
    print(f"run: {cluster.url(run_id)}", flush=True)
    status = 0
    if follow:
        try:
            status = cluster.follow(run_id, lambda line: print(line, flush=True), tasks=task_names(package))
        except SynthioError as error:
            raise type(error)(f"{error}; the run itself goes on: {cluster.url(run_id)}") from error
    if status and not fresh:
        print("if a task lacks an input that is gone from the store: the same command with FRESH=1 makes it anew")
    return status
