"""Every JSON artifact with its model."""

from __future__ import annotations

from typing import Any

from common.contracts import gold

CONTRACTS: dict[str, Any] = {
    "gold/dataset.json": gold.Dataset,
    "gold/splits.json": gold.Splits,
    "gold/health.json": gold.Health,
    "test/health.json": gold.HeldOutHealth,
}
"""By artifact and file, in the order of a run."""
