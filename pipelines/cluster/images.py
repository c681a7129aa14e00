"""Commands that build and push the stages' images (`make images`, `make images push`)."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Sequence

from components.catalogue import STAGES, local_image, target_of
from pipelines.cluster.placement import Profile, image
from pipelines.sources import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def build_command(builder: str, stage: str, profile: Profile, extra: Sequence[str] = ()) -> list[str]:
    """Command that builds a stage's image.

    The image gets two names: one by content under the profile's prefix, and the local name.

    Args:
        builder: program with its arguments, such as `docker build`; the context is passed last.
        stage: name of the stage.
        profile: gives the prefix of the name.
        extra: further arguments.
    """
    target = target_of(stage)
    labels = {"version": VERSION, "revision": _commit(), "title": f"synthio {target}", "licenses": "Apache-2.0"}
    command = [*shlex.split(builder), "--file", str(ROOT / "docker" / "Dockerfile"), "--target", target]
    for key, value in labels.items():
        command += ["--label", f"org.opencontainers.image.{key}={value}"]
    for name in (image(stage, profile), local_image(stage)):
        command += ["--tag", name]
    return [*command, *extra, str(ROOT)]


def push_commands(builder: str, profile: Profile) -> Iterator[list[str]]:
    """Commands that push every image, with the builder's engine (docker, podman or nerdctl), else with docker."""
    program = shlex.split(builder)[0]
    engine = program if re.search(r"(docker|podman|nerdctl)$", program) else "docker"
    for stage in STAGES:
        yield [engine, "push", image(stage, profile)]


def _commit() -> str:
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"
