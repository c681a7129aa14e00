"""The commands that build and push images."""

from __future__ import annotations

import re

import pytest

from components.catalogue import LAYERS
from pipelines.cluster.placement import load_profile
from pipelines.commands import main
from pipelines.commands.images import build_command, push_commands


def test_the_builder_gets_its_arguments_first_and_the_context_last() -> None:
    command = build_command("podman build --squash", "torch", ["x/torch:dev"], ["--build-arg", "TORCH=torch"])
    assert command[:3] == ["podman", "build", "--squash"]
    assert command[command.index("--target") + 1] == "stages" and "LAYER=torch" in command
    assert command[-3:-1] == ["--build-arg", "TORCH=torch"] and not command[-1].startswith("-")


def test_every_image_is_pushed_under_the_registry_of_the_profile() -> None:
    profile = load_profile("one-gpu").model_copy(update={"registry": "registry.example.com/team"})
    pushed = [command[-1] for command in push_commands("docker build", profile)]
    assert len(set(pushed)) == len(pushed) == len(LAYERS) and all(
        name.startswith("registry.example.com/team/") for name in pushed
    )


def test_stages_are_built_as_the_images_they_run_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images", "build", "--builder", "echo", "--stages", "plan,align-t2a,report,record_cell"]) == 0
    layers = re.findall(
        r"^\$ echo .*LAYER=(\w+) .*--tag localhost/synthio/(\w+):dev", capsys.readouterr().out, re.MULTILINE
    )
    assert layers == [(name, name) for name in ("base", "torch", "diffusion")]


def test_pushing_without_a_registry_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", "push"]) == 2 and "REGISTRY=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"), [(["--stages", "nothing"], "unknown stage"), (["--builder", "no-such"], "IMAGE_BUILDER")]
)
def test_a_build_that_cannot_be_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["images", "build", *arguments]) == 2 and said in capsys.readouterr().err
