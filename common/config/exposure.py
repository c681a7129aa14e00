"""What a published model was trained on, as far as it meets a dataset."""

from __future__ import annotations

from typing import Literal

from common.config.base import Frozen

Learnt = Literal["audio with labels", "audio with captions"]
"""What a model was given of a collection."""


class Heard(Frozen):
    """A model and a collection that both it and the dataset were made from."""

    model: str
    collection: str
    what: Learnt
