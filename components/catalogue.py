"""Catalogue of the stages: what the decorator of each component says of it.

The arguments of components that mean the same everywhere: `config` has the settings, resolved by `plan`, `code_version`
is the hash of the stage's source, part of KFP's cache key, and `metrics` are figures for the run's page.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCAL_REGISTRY, LOCAL_TAG = "localhost/synthio", "dev"


def component(title: str, layer: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a stage's KFP component: its task's title, and the layer of the Dockerfile that it runs on."""
    from kfp import dsl

    return lambda stage: dsl.component(
        stage, base_image=f"{LOCAL_REGISTRY}/{layer}:{LOCAL_TAG}", install_kfp_package=False, **options
    )


def _read() -> dict[str, tuple[str, str]]:
    # Read, not imported: kfp takes a second.
    found = {}
    for path in sorted(Path(__file__).parent.glob("*/component.py")):
        stage = next(
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef) and node.name == path.parent.name
        )
        title, layer = (ast.literal_eval(argument) for argument in stage.decorator_list[0].args)  # type: ignore[attr-defined]
        found[stage.name] = title, layer
    return found


_FOUND = _read()
STAGES = {stage: title for stage, (title, _) in _FOUND.items()}
"""Every stage with its task title on a run's page."""
LAYERS = {
    layer: tuple(stage for stage in _FOUND if _FOUND[stage][1] == layer)
    for layer in ("base", "torch", "diffusion", "augmentation", "nano")
}
"""Every image, named by its layer of the Dockerfile, with its stages; those on `base` import no model library."""


def layer_of(stage: str) -> str:
    """Layer of the Dockerfile, and name of the image, that a stage runs in."""
    return _FOUND[stage][1]


def local_image(stage: str) -> str:
    """Name that `make images` gives on this machine to the image that a stage runs in."""
    return f"{LOCAL_REGISTRY}/{layer_of(stage)}:{LOCAL_TAG}"
