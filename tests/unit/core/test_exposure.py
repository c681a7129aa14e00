"""Where a published model heard the recordings that a dataset was taken from, report and model card say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.config.dataset import DatasetSpec
from common.config.run import load_preset
from common.datasets.registry import dataset_names, resolve_dataset
from common.models.registry import exposure_sentences, heard_before, published_models
from components.plan.planning import PLANS
from components.plan.run import run

STABLE_AUDIO, CLAP = "stabilityai/stable-audio-open-1.0", "laion/clap-htsat-unfused"
LARGER_CLAP = "laion/larger_clap_general"
AST = "MIT/ast-finetuned-audioset-10-10-0.4593"


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("esc50", [(CLAP, "Freesound"), (LARGER_CLAP, "Freesound"), (STABLE_AUDIO, "Freesound")]),
        ("urbansound8k", [(CLAP, "Freesound"), (LARGER_CLAP, "Freesound"), (STABLE_AUDIO, "Freesound")]),
        ("fsd50k", [(CLAP, "Freesound"), (LARGER_CLAP, "Freesound"), (STABLE_AUDIO, "Freesound")]),
        ("dcase2017_task4", [(AST, "AudioSet"), (CLAP, "AudioSet"), (LARGER_CLAP, "AudioSet")]),
        ("gtzan", []),
        ("demo", []),
    ],
)
def test_the_models_of_small_heard_what_public_datasets_were_taken_from(
    dataset: str, expected: list[tuple[str, str]]
) -> None:
    found = heard_before(load_preset("small"), resolve_dataset(dataset))
    assert [(each.model, each.collection) for each in found] == expected


def test_models_trained_in_the_run_heard_nothing_and_users_may_name_collections(tmp_path: Path) -> None:
    own = DatasetSpec(name="own", audio=tmp_path, recordings_of=("AudioSet", "Somewhere else"))
    assert heard_before(load_preset("smoke"), own) == ()
    found = heard_before(load_preset("small"), own)
    assert {each.model: each.what for each in found}[AST] == "audio with labels"
    (sentence,) = exposure_sentences(found, 12)
    assert sentence.startswith("All 12 test clips come from AudioSet") and f"{AST} (audio with labels)" in sentence
    assert exposure_sentences((), 12) == []


def test_collections_are_spelt_alike_in_both_lists() -> None:
    heard = {collection for model in published_models().values() for collection in model.trained_on}
    taken = {collection for name in dataset_names() for collection in resolve_dataset(name).recordings_of}
    assert taken and taken <= heard


def test_plan_tells_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.plan.run.check_fetched", lambda *_: None)
    monkeypatch.setattr("components.plan.run.find_dataset", resolve_dataset)
    plans = dict(zip(PLANS, run("esc50", "small", 0, "gold", 1, "", ""), strict=True))
    received = PLANS["evaluate_classifier"].model_validate(plans["evaluate_classifier"])
    assert {each.model for each in received.heard} == {CLAP, LARGER_CLAP, STABLE_AUDIO}  # type: ignore[attr-defined]
