"""What a run is for, and what the licences of its parts allow."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.config.base import Frozen

DeclaredUse = Literal["research", "non-commercial", "commercial"]
"""What a run's models and clips are for, from the least that licences allow to the most."""
PermittedUse = Literal["research", "non-commercial", "any"]
"""The widest use that a licence allows, in the same order."""


class LicensedPart(Frozen):
    """A dataset or published model that goes into a run."""

    name: str
    kind: Literal["dataset", "classifier", "generation"] = Field(
        description="the labelled clips; what the classifier starts from; what takes part in making clips"
    )
    licence: str
    use: PermittedUse | None = Field(description="the widest allowed; null = not known")
    conditions: str = Field(default="", description="of the licence, in words")
