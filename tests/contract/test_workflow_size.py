"""The state of a run stays below what Argo stores, by an estimate from the compiled files."""

from __future__ import annotations

from typing import Any

import pytest

from components.plan.planning import PLANS
from components.plan.run import run as plan
from pipelines.cluster.placement import load_profile, profile_names
from tests.kit.once import Compiled
from tests.kit.workflow import LIMIT, workflow_bytes

MARGIN = 1.3
"""The estimate was compared with another one, not with objects of a cluster."""


@pytest.fixture(scope="module")
def configs() -> dict[str, Any]:
    """The settings that each stage gets."""
    return dict(zip(PLANS, plan("demo", "tiny", 0, "", 3, "", ""), strict=True))


@pytest.mark.parametrize("name", [name for name in profile_names() if load_profile(name).cluster])
def test_a_study_of_as_many_cells_as_a_profile_allows_fits(
    name: str, compiled: Compiled, configs: dict[str, Any]
) -> None:
    cells = load_profile(name).cells_per_run
    assert workflow_bytes(compiled.documents("benchmark", name), cells, configs) * MARGIN < LIMIT
    assert workflow_bytes(compiled.documents("synthio", name), 1, configs) * MARGIN < LIMIT
    assert cells >= 4, "the nightly study has three cells"


def test_what_grows_is_the_state_of_the_cells(compiled: Compiled, configs: dict[str, Any]) -> None:
    documents = compiled.documents("benchmark", "one-gpu")
    one, two, nine = (workflow_bytes(documents, cells, configs) for cells in (1, 2, 9))
    assert 6.5 < (nine - one) / (two - one) < 9 and nine > LIMIT
    assert workflow_bytes(documents, 2, configs, wrapped=False) < two
