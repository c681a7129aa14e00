"""Build and push the images of the stages (`make images`, `make images push`)."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence

from common.errors import ConfigError, SynthioError
from pipelines.placement import LOCAL_REGISTRY, LOCAL_TAG, ROOT, STAGES, Profile, image, load_profile, target_of

VERSION = "0.1.0"


def names(target: str, profile: Profile) -> tuple[str, str]:
    """The names that the image of `target` gets: by content under the profile's prefix, and the one of this machine."""
    return image(target, profile), f"{LOCAL_REGISTRY}/{target}:{LOCAL_TAG}"


def build_command(builder: str, target: str, profile: Profile, extra: Sequence[str] = ()) -> list[str]:
    """The command that builds one image: `builder`, its arguments, the context last."""
    labels = {"version": VERSION, "revision": _commit(), "title": f"synthio {target}", "licenses": "Apache-2.0"}
    command = [*shlex.split(builder), "--file", str(ROOT / "docker" / "Dockerfile"), "--target", target]
    for key, value in labels.items():
        command += ["--label", f"org.opencontainers.image.{key}={value}"]
    for name in names(target, profile):
        command += ["--tag", name]
    return [*command, *extra, str(ROOT)]


def push_commands(builder: str, profile: Profile) -> Iterator[list[str]]:
    """The commands that push every image: the builder's own program, or docker."""
    program = shlex.split(builder)[0]
    engine = program if re.search(r"(docker|podman|nerdctl)$", program) else "docker"
    for stage in STAGES:
        yield [engine, "push", image(target_of(stage), profile)]


def main() -> int:
    """Entry point of `make images` and `make push`."""
    parser = argparse.ArgumentParser(prog="make images", description=__doc__)
    parser.add_argument("action", choices=("build", "push"))
    parser.add_argument("--builder", default="docker build", help="IMAGE_BUILDER: takes arguments, then the context")
    parser.add_argument("--profile", default="local", help="its registry is the images' prefix")
    parser.add_argument("--registry", default="", help="another prefix; the profile that you compile with must name it")
    parser.add_argument("--arguments", default="", help="further arguments, such as --build-arg TORCH=…")
    parser.add_argument("--stages", default="", help="comma-separated; default: all")
    options = parser.parse_args()
    try:
        profile = load_profile(options.profile)
        if options.registry:
            profile = profile.model_copy(update={"registry": options.registry})
        # Images are made for places that tell them apart by content.
        profile = profile.model_copy(update={"tag": None})
        if options.action == "push" and profile.registry == LOCAL_REGISTRY:
            raise ConfigError("no registry to push to: make images push REGISTRY=registry.example.com/synthio")
        _run(list(_commands(options, profile)))
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _commands(options: argparse.Namespace, profile: Profile) -> Iterator[list[str]]:
    if options.action == "push":
        yield from push_commands(options.builder, profile)
        return
    stages = [name for name in options.stages.split(",") if name] or STAGES
    unknown = sorted({name.replace("-", "_") for name in stages} - set(STAGES))
    if unknown:
        raise ConfigError(f"unknown stage {unknown[0]}; stages are {', '.join(STAGES)}")
    for stage in stages:
        yield build_command(options.builder, target_of(stage), profile, shlex.split(options.arguments))


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


def _commit() -> str:
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else "unknown"


if __name__ == "__main__":
    sys.exit(main())
