"""Names of methods for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.methods import BEST_CLASSIC


def title(name: str, results: Mapping[str, Any]) -> str:
    """A method's name for people."""
    if name == BEST_CLASSIC:
        return "Best classic"
    return str(results["methods"].get(name, {}).get("title", name))
