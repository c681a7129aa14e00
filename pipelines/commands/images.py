"""Build the container images that stages run in (`make images`), or push them (`make images push REGISTRY=…`)."""

import argparse
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator, Sequence

from common.errors import ConfigError, unknown_name
from components.catalogue import LAYERS, LOCAL_REGISTRY, STAGES, layer_of, local_image
from pipelines.cluster.placement import Profile, image, load_profile
from pipelines.sources import ROOT, commit

OPTIONS = {
    **{"action": ..., "--builder": "docker build", "--profile": "local", "--registry": "", "--arguments": ""},
    "--stages": "",
}


def run(options: argparse.Namespace) -> int:
    """Build or push the images one after another; exit status 0 = done, 2 = a command failed or an option is wrong."""
    profile = load_profile(options.profile)
    if options.registry:
        profile = profile.model_copy(update={"registry": options.registry})
    # Other machines tell images apart by content.
    profile = profile.model_copy(update={"tag": None})
    if options.action == "push" and profile.registry == LOCAL_REGISTRY:
        raise ConfigError("no registry to push to: make images push REGISTRY=registry.example.com/synthio")
    _run(list(_commands(options, profile)))
    return 0


def _commands(options: argparse.Namespace, profile: Profile) -> Iterator[list[str]]:
    if options.action == "push":
        yield from push_commands(options.builder, profile)
        return
    stages = [name.replace("-", "_") for name in options.stages.split(",") if name] or list(STAGES)
    for stage in stages:
        if stage not in STAGES:
            raise unknown_name("stage", stage, STAGES)
    for layer in sorted({layer_of(stage) for stage in stages}, key=list(LAYERS).index):
        first = LAYERS[layer][0]
        # By content for clusters, and by the fixed name for this machine.
        names = (image(first, profile), local_image(first))
        yield build_command(options.builder, layer, names, shlex.split(options.arguments))


def _run(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        print(f"$ {shlex.join(command)}", flush=True)
        try:
            status = subprocess.run(command).returncode
        except OSError as error:
            raise ConfigError(
                f"cannot run {command[0]}: {error.strerror}; install docker, or name another one with IMAGE_BUILDER="
            ) from error
        if status:
            raise ConfigError(f"{shlex.join(command[:2])} ended with status {status}; its output above says why")


VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]


def build_command(
    builder: str, layer: str, names: Sequence[str], extra: Sequence[str] = (), target: str = "stages"
) -> list[str]:
    """Command that builds `target` of the Dockerfile on one of its layers, by a builder such as `docker build`."""
    revision = commit() or "unknown"
    labels = {"version": VERSION, "revision": revision, "title": f"synthio {layer}", "licenses": "Apache-2.0"}
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
