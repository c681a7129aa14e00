"""Jinja environment of all HTML pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(templates: Path, filters: Mapping[str, Callable[..., Any]] = {}) -> Environment:
    """Build an environment in which every value is escaped and an undefined name is an error.

    Args:
        templates: folder of the templates.
        filters: by name, for values.
    """
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= filters
    return environment
