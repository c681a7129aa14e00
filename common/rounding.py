"""Rounding of results before they are written."""

from __future__ import annotations

from typing import Any


def rounded(value: Any, places: int = 6) -> Any:
    """`value` (JSON) with every float in it rounded, so that files do not differ in the last bits."""
    if isinstance(value, float):
        return round(value, places) + 0.0
    if isinstance(value, dict):
        return {key: rounded(item, places) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, places) for item in value]
    return value
