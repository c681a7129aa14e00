"""Commands that build and push the images (`make images`, `make images push`)."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Sequence

from components.catalogue import LAYERS
from pipelines.cluster.placement import Profile, image
from pipelines.sources import ROOT

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def build_command(
    builder: str, layer: str, names: Sequence[str], extra: Sequence[str] = (), target: str = "stages"
) -> list[str]:
    """Command that builds `target` of the Dockerfile on one of its layers.

    Args:
        builder: program with its arguments, such as `docker build`; the context is passed last.
        extra: further arguments.
        target: the stages' code, or `test`.
    """
    labels = {"version": VERSION, "revision": _commit(), "title": f"synthio {layer}", "licenses": "Apache-2.0"}
    command = [*shlex.split(builder), "--file", str(ROOT / "docker" / "Dockerfile"), "--target", target]
    command += ["--build-arg", f"LAYER={layer}"]
    for key, value in labels.items():
        command += ["--label", f"org.opencontainers.image.{key}={value}"]
    for name in names:
        command += ["--tag", name]
    return [*command, *extra, str(ROOT)]


def push_commands(builder: str, profile: Profile) -> Iterator[list[str]]:
    """Commands that push every image, with the builder's engine (docker, podman or nerdctl), else with docker."""
    program = shlex.split(builder)[0]
    engine = program if re.search(r"(docker|podman|nerdctl)$", program) else "docker"
    for stages in LAYERS.values():
        yield [engine, "push", image(stages[0], profile)]


def _commit() -> str:
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"
