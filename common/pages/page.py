"""Pages for people: one way to fill in their templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def page_environment(templates: Path, filters: Mapping[str, Callable[..., Any]] = {}) -> Environment:
    """Templates in which every value is escaped, and a name that nobody gave is an error.

    Args:
        templates: their folder.
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
