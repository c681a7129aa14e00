"""What the published models of a run heard in their own training of the collections that a dataset was taken from."""

from __future__ import annotations

from collections.abc import Sequence

from common.config.dataset import DatasetSpec, Heard
from common.config.run import RunConfig
from common.models.registry import licensed_models, published_models


def heard_before(config: RunConfig, dataset: DatasetSpec) -> tuple[Heard, ...]:
    """Pairs of a model of the run and a collection that both it and the dataset were made from, sorted."""
    found = []
    for name in licensed_models(config):
        known = published_models().get(name)
        for collection, what in (known.trained_on if known else {}).items():
            if collection in dataset.recordings_of:
                found.append(Heard(model=name, collection=collection, what=what))
    return tuple(sorted(found, key=lambda each: (each.collection, each.model)))


def exposure_sentences(heard: Sequence[Heard], clips: int) -> list[str]:
    """One sentence a collection for readers of figures.

    Args:
        clips: number of test clips, all of which come from the dataset's collections.
    """
    sentences = []
    for collection in dict.fromkeys(each.collection for each in heard):
        models = [f"{each.model} ({each.what})" for each in heard if each.collection == collection]
        sentences.append(
            f"All {clips} test clips come from {collection}, on which published models of this run were trained: "
            f"{', '.join(models)}. They may have heard these recordings, so every figure may flatter."
        )
    return sentences
