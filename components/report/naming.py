"""Names of methods for people, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.methods import METHODS
from components.report.verdict import BEST_CLASSIC


def ordered(names: Sequence[str]) -> list[str]:
    """Method names in the order of the catalogue."""
    catalogue = list(METHODS)
    return sorted(names, key=lambda name: (catalogue.index(name) if name in METHODS else len(catalogue), name))


def title(name: str, results: Mapping[str, Any]) -> str:
    """A method's name for people."""
    if name == BEST_CLASSIC:
        return "Best classic"
    return str(results["methods"].get(name, {}).get("title", name))
