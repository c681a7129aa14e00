"""What a run is declared for, against the licences of what goes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.config.dataset import DatasetSpec
from common.config.run import load_preset
from common.datasets.registry import dataset_names, resolve_dataset
from common.errors import ConfigError
from common.models.licences import check_use, licensed_parts, permits
from common.models.registry import PublishedModel
from components.evaluate_classifier.model_card import licence_lines
from components.plan.run import run as plan

AST = "pretrain_classifier.checkpoint=someone/ast"
ALLOWED = {
    "research": {"research"},
    "non-commercial": {"research", "non-commercial"},
    None: {"research", "non-commercial"},
}


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Registers one published model whose licence allows a use."""

    def register(use: str | None, restrictions: str = "none beyond the licence") -> None:
        entry = {"revision": "0" * 40, "revision_seen": "nowhere", "licence": "Some-NC", "gated": False}
        model = PublishedModel.model_validate({**entry, "restrictions": restrictions, "sha256": {}, "use": use})
        monkeypatch.setattr("common.models.registry.published_models", lambda: {"someone/ast": model})

    return register


def dataset(use: str = "any", licence: str = "CC0-1.0") -> DatasetSpec:
    return DatasetSpec.model_validate({"name": "own", "audio": "/clips", "use": use, "licence": licence})


@pytest.mark.parametrize("declared", ["research", "non-commercial", "commercial"])
@pytest.mark.parametrize("permitted", ["research", "non-commercial", "any", None])
def test_a_licence_permits_its_own_use_and_every_lesser_one(permitted: Any, declared: Any) -> None:
    assert permits(permitted, declared) == (permitted == "any" or declared in ALLOWED[permitted])


def test_a_model_whose_licence_forbids_the_declared_use_is_refused(publish: Any) -> None:
    publish("non-commercial")
    check_use(load_preset("smoke", f"{AST} use=non-commercial"), dataset())
    with pytest.raises(ConfigError, match=r"commercial use, which is not allowed by the licence of model someone/ast"):
        check_use(load_preset("smoke", f"{AST} use=commercial"), dataset())


def test_a_dataset_whose_licence_forbids_the_declared_use_is_refused() -> None:
    check_use(load_preset("smoke"), dataset("research"))
    for use in ("non-commercial", "commercial"):
        with pytest.raises(ConfigError, match=r"the licence of dataset own .*research only"):
            check_use(load_preset("smoke", f"use={use}"), dataset("research"))


def test_an_unknown_licence_is_no_ground_for_commercial_use(publish: Any, caplog: pytest.LogCaptureFixture) -> None:
    publish("any")
    unknown = "pretrain_classifier.checkpoint=someone/else"
    check_use(load_preset("smoke", unknown), dataset())
    with pytest.raises(ConfigError, match=r"model someone/else .not known: what it allows is not known"):
        check_use(load_preset("smoke", f"{unknown} use=commercial"), dataset())
    with pytest.raises(ConfigError, match=r"dataset own .not stated"):
        check_use(load_preset("smoke", "use=commercial"), dataset(licence="not stated"))


def test_plan_refuses_before_anything_is_trained_and_hands_the_licences_to_evaluation(tmp_path: Path) -> None:
    text = f"name: own\naudio: {tmp_path}\nlicence: CC-BY-NC-4.0\nuse: non-commercial\n"
    with pytest.raises(ConfigError, match=r"CC-BY-NC-4.0: non-commercial use only"):
        plan(text, "smoke", 0, "", 2, "use=commercial", "v")
    *_, evaluation, _ = plan(text, "smoke", 0, "", 2, "use=non-commercial", "v")
    assert evaluation["use"] == "non-commercial"
    assert evaluation["licences"][0]["licence"] == "CC-BY-NC-4.0" and evaluation["licences"][0]["kind"] == "dataset"


def test_the_model_card_names_the_licences_of_what_went_into_the_model(publish: Any) -> None:
    publish("any", "below a revenue limit")
    config = load_preset("smoke", f"{AST} caption_clips.backend=audio_llm")
    parts = licensed_parts(config, dataset("research"))
    assert {part.kind for part in parts} == {"dataset", "classifier", "generation"}
    plain, synthetic = licence_lines(parts, False), licence_lines(parts, True)
    assert "dataset own: CC0-1.0; allows research use" in plain and "below a revenue limit" in plain
    assert len(plain.splitlines()) == 2 and len(synthetic.splitlines()) == len(parts) == 3


@pytest.mark.parametrize("name", dataset_names())
def test_every_registered_dataset_may_be_used_for_research(name: str) -> None:
    check_use(load_preset("smoke"), resolve_dataset(name))
