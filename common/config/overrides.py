"""Settings from YAML values and `section.field=value` overrides, with errors in one line."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from common.config.base import Frozen
from common.errors import ConfigError, unknown_name

Settings = TypeVar("Settings", bound=Frozen)


class _Begun(dict[str, Any]):
    """A section that was null and has got some fields; whether it has all that it needs, validation says."""


def with_overrides(settings: Settings, overrides: str) -> Settings:
    """Apply space-separated `section.field=value` pairs, values in YAML, such as `align_t2a.optim.steps=50 rounds=1`.

    Raises ConfigError: unknown field (the message lists near ones), or a bad value.
    """
    if not overrides.split():
        return settings
    values = settings.model_dump()
    for pair in overrides.split():
        _override(values, pair)
        # A later override may make this one valid, so ignore errors here; a valid state gains new defaults.
        with suppress(ValidationError):
            values = type(settings).model_validate(copy.deepcopy(values)).model_dump()
    return validated(type(settings), values, f"overrides {overrides!r}")


def _override(values: dict[str, Any], pair: str) -> None:
    path, separator, text = pair.partition("=")
    if not separator:
        raise ConfigError(f"override {pair!r} is no section.field=value, for example align_t2a.beta=100")
    node: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        if not isinstance(node, dict) or (key not in node and not isinstance(node, _Begun)):
            where = ".".join(keys[:depth]) or "the run"
            known = node if isinstance(node, dict) else []
            raise unknown_name(f"override (field of {where})", key, known)
        if depth == len(keys) - 1:
            try:
                node[key] = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigError(
                    f"override {pair!r}: its value is no valid YAML; put text in double quotes"
                ) from error
        elif node.get(key) is None:
            node[key] = _Begun()
        node = node[key]


def validated(kind: type[Settings], values: dict[str, Any], where: str, secret: bool = False) -> Settings:
    """Settings of a kind from their values.

    Raises ConfigError: a value is wrong; the message names the first one.
    """
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the run"
        found = "" if secret else f" (found {first.get('input')!r:.80})"
        raise ConfigError(f"{where}: {field}: {first['msg']}{found}") from (None if secret else error)
    # Settings travel as JSON, which has neither.
    for field, value in _leaves(config.model_dump()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: {field}: expected a finite number (found {value})")
    return config


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested settings with their paths, such as `align_t2a.optim.steps`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value
