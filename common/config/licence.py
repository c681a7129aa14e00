"""Declared use of a run, the uses that the licences of its parts permit, and what published models were trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.config.base import Frozen

DeclaredUse = Literal["research", "non-commercial", "commercial"]
"""Intended use of a run's models and clips, from the one that needs the fewest rights to the most."""
PermittedUse = Literal["research", "non-commercial", "any"]
"""Widest use that a licence permits, in the same order."""


class LicensedPart(Frozen):
    """A dataset or published model used by a run."""

    name: str
    kind: Literal["dataset", "classifier", "generation"] = Field(
        description="the labelled clips; what the classifier starts from; what takes part in making clips"
    )
    licence: str
    use: PermittedUse | None = Field(description="the widest allowed; null = not known")
    conditions: str = Field(default="", description="of the licence, in words")


Learnt = Literal["audio with labels", "audio with captions"]
"""What a model was given of a collection."""


class Heard(Frozen):
    """A model and a collection that both it and the dataset were made from."""

    model: str
    collection: str
    what: Learnt
