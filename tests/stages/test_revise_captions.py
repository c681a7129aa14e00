from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from common.captions.checks import contains_phrase
from common.captions.grammar import extract_elements
from common.config.methods import METHODS
from common.contracts.generation import Tally
from common.errors import DataError
from common.records.clips import Prompt, SyntheticClip, read_records, write_records
from common.records.text import normalize_label
from common.storage import read_json, write_json
from components.caption_clips.run import run as caption_clips
from components.revise_captions.run import run
from tests.kit.clips import generated_clip
from tests.kit.gold import CAPTION_LABELS, REPLICATES, caption_gold
from tests.unit.captions.stub import facts, good, serve

RECIPES = [METHODS["synthio"].recipe, METHODS["synthio_template"].recipe]
REFLECTED, ONE_ROUND_ONLY = (recipe.name for recipe in RECIPES if recipe)


def clip(
    recipe: str, replicate: int, source: str, index: int, round: int, caption: str, **fields: Any
) -> SyntheticClip:
    label_id = int(source[0])
    judged = {"clap_score": 0.123456, "clap_margin": -0.1, "reason": "score"}
    return generated_clip(
        recipe,
        replicate,
        source,
        index,
        round,
        label=CAPTION_LABELS[label_id],
        label_id=label_id,
        caption=caption,
        writer="grammar/1",
        **judged | fields,
    )


REJECTED = [
    clip(
        REFLECTED,
        replicate,
        source,
        1,
        0,
        f"a loud {normalize_label(CAPTION_LABELS[int(source[0])])} once with hiss in the background",
    )
    for replicate in REPLICATES
    for source in ("0-1", "0-2", "1-1", "2-2")
]
ACCEPTED = [
    clip(REFLECTED, replicate, "0-1", 0, 0, "a faint low dog bark over wind", reason=None) for replicate in REPLICATES
]

FIRST_ROUND = {"round": 0, "prompts": 9, "how": Tally(pieces=9).model_dump(mode="json")}


def config(**fields: Any) -> dict[str, Any]:
    return {
        "settings": {"writer": {"backend": "grammar"}, "pool_share": 1.0},
        "replicates": list(REPLICATES),
        "recipes": [recipe.model_dump(mode="json") for recipe in RECIPES if recipe],
        "rounds": 2,
        "domain": "test",
    } | fields


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    gold = caption_gold(tmp_path / "gold")
    caption_clips(
        str(gold),
        str(tmp_path / "captions"),
        str(tmp_path / "m.json"),
        config={"settings": {"backend": "acoustics"}, "replicates": list(REPLICATES)},
        code_version="v",
    )
    return tmp_path


def revise(
    folder: Path,
    rejected: list[SyntheticClip],
    accepted: list[SyntheticClip] = ACCEPTED,
    round: int = 1,
    name: str = "out",
    **fields: Any,
) -> tuple[list[Prompt], dict[str, Any]]:
    write_records(folder / "rejected/clips/metadata.jsonl", rejected)
    write_records(folder / "accepted/clips/metadata.jsonl", accepted)
    if not (folder / "previous").exists():
        write_json(folder / "previous" / "captions.json", {"writer": "w", "sources": {}, "rounds": [FIRST_ROUND]})
    paths = [str(folder / part) for part in ("gold", "captions", "previous", "accepted", "rejected", name)]
    figures = run(*paths, str(folder / f"{name}.json"), config=config(**fields), round=round, code_version="v")
    return read_records(folder / name / "prompts.jsonl", Prompt), figures


def test_only_rejected_clips_are_revised_and_keep_their_place(inputs: Path) -> None:
    prompts, figures = revise(inputs, REJECTED)
    assert [p.prompt_id for p in prompts] == sorted(c.clip_id[:-1] + "1" for c in REJECTED)
    for prompt in prompts:
        source = next(c for c in REJECTED if c.clip_id[:-1] == prompt.prompt_id[:-1])
        assert (prompt.round, prompt.index, prompt.label_id) == (1, source.index, source.label_id)
        assert contains_phrase(prompt.caption, prompt.label) and prompt.caption != source.caption
    assert figures["prompts"] == len(REJECTED)


def test_history_keeps_caption_score_and_reason_of_every_round(inputs: Path) -> None:
    first, _ = revise(inputs, REJECTED)
    again = [
        clip(
            p.recipe,
            p.replicate,
            p.source_clip_id,
            p.index,
            1,
            p.caption,
            history=p.history,
            clap_score=0.2,
            reason="margin",
        )
        for p in first
    ]
    second, _ = revise(inputs, again, round=2, name="second")
    for prompt in second:
        told = [(h["round"], h["score"], h["reason"]) for h in prompt.history]
        assert told == [(0, 0.123456, "score"), (1, 0.2, "margin")]
        assert prompt.history[0]["caption"].startswith("a loud") and prompt.history[1]["caption"] != prompt.caption


def test_a_revision_goes_beyond_the_accepted_pool(inputs: Path) -> None:
    prompts, _ = revise(inputs, REJECTED)
    for prompt in prompts:
        if prompt.label_id == 0:
            found = extract_elements(prompt.caption, [normalize_label(prompt.label)])
            assert not {"faint", "low", "wind", "loud", "once", "hiss"} & {*found.events, *found.scenes}


def test_rounds_end_at_the_runs_and_at_the_recipes_own_number(inputs: Path) -> None:
    template = [clip(ONE_ROUND_ONLY, 0, "0-1", 0, 0, "sound of a dog bark")]
    assert [p.recipe for p in revise(inputs, [*REJECTED[:1], *template])[0]] == [REFLECTED]
    late = [clip(REFLECTED, 0, "0-1", 0, 2, "sound of a dog bark")]
    assert revise(inputs, late, round=3)[0] == []
    assert revise(inputs, REJECTED, rounds=0)[0] == []


def test_clips_of_other_rounds_and_replicates_are_left_alone(inputs: Path) -> None:
    caption = "sound of a dog bark"
    older = [clip(REFLECTED, 0, "0-2", 3, 0, caption), clip(REFLECTED, 7, "0-2", 3, 1, caption)]
    assert revise(inputs, older, round=2)[0] == []


def test_a_round_with_nothing_to_do_takes_no_second_and_no_writer(inputs: Path) -> None:
    start = time.monotonic()
    settings = {"writer": {"backend": "endpoint", "endpoint": {"base_url": "http://127.0.0.1:9/v1"}}}
    prompts, figures = revise(inputs, [], settings=settings)
    assert time.monotonic() - start < 1
    assert prompts == [] and figures["prompts"] == 0
    assert (inputs / "out" / "prompts.jsonl").read_bytes() == b""


def test_the_order_of_clips_changes_nothing(inputs: Path, run_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = revise(inputs, REJECTED)
    monkeypatch.setenv("SYNTHIO_STORE", str(run_store / "fresh"))
    assert revise(inputs, REJECTED[::-1], ACCEPTED[::-1], name="other")[0] == first


def test_no_caption_of_a_label_is_written_twice(inputs: Path) -> None:
    many = [clip(REFLECTED, 0, "0-1", n, 0, "a loud dog bark once") for n in range(15)]
    prompts, _ = revise(inputs, many)
    assert len({p.caption for p in prompts}) == 15
    assert not {p.caption for p in prompts} & {c.caption for c in (*many, *ACCEPTED)}


def test_an_llm_gets_caption_score_and_the_accepted_pool_of_the_label(inputs: Path) -> None:
    with serve(good) as stub:
        settings = {"writer": {"backend": "endpoint", "endpoint": {"base_url": stub.url, "model": "stub"}}}
        prompts, figures = revise(inputs, REJECTED, settings=settings)
        asked = [facts(r) for r in stub.requests if r["response_format"]["json_schema"]["name"] == "revise"]
    assert len(asked) == len(REJECTED) and figures["requests"] == len(stub.requests)
    assert all(a["score"] == 0.123 and a["caption"].startswith("a loud") for a in asked)
    assert all(a["events"] == ["loud and close"] and a["scenes"] == ["a small room"] for a in asked)
    assert {p.writer for p in prompts} == {"endpoint:stub"}


def test_the_account_of_captions_goes_on_round_by_round(inputs: Path) -> None:
    revise(inputs, REJECTED)
    (inputs / "previous").rename(inputs / "before")
    (inputs / "out").rename(inputs / "previous")
    revise(inputs, [], round=2)
    account = read_json(inputs / "out" / "captions.json")
    assert account["writer"] == "w" and [row["round"] for row in account["rounds"]] == [0, 1, 2]
    assert [row["prompts"] for row in account["rounds"]] == [9, len(REJECTED), 0]
    assert account["rounds"][1]["how"]["pieces"] > len(REJECTED)


def test_a_rerun_asks_nobody_and_tells_the_same_cost(inputs: Path) -> None:
    with serve(good) as stub:
        writer = {"backend": "endpoint", "endpoint": {"base_url": stub.url, "model": "stub"}}
        settings = {"writer": writer}
        writer["endpoint"]["price_per_million_output"] = 3.0
        first, spent = revise(inputs, REJECTED, settings=settings)
        sent = len(stub.requests)
        second, again = revise(inputs, REJECTED, name="again", settings=settings)
        assert len(stub.requests) == sent == spent["requests"] > 0
    assert first == second
    assert again["requests"] == 0 and again["cost_paid"] == 0 < spent["cost_paid"]
    assert again["cost"] == spent["cost"] == pytest.approx(spent["cost_paid"])


def test_a_rejected_clip_of_several_labels_keeps_all_of_them(tmp_path: Path) -> None:
    caption_gold(tmp_path / "gold", further=True)
    write_records(tmp_path / "captions" / "captions.jsonl", [])
    rejected = [clip(REFLECTED, 0, "0-1", 0, 0, "a dog bark in rain", further_labels=(CAPTION_LABELS[2],))]
    [prompt], _ = revise(tmp_path, rejected, accepted=[])
    assert prompt.further_labels == (CAPTION_LABELS[2],)
    assert contains_phrase(prompt.caption, CAPTION_LABELS[0]) and contains_phrase(prompt.caption, CAPTION_LABELS[2])
    assert prompt.caption != "a dog bark in rain"


def test_clips_of_another_run_are_refused(inputs: Path) -> None:
    with pytest.raises(DataError, match="'none-plain-all'"):
        revise(inputs, [clip("none-plain-all", 0, "0-1", 0, 0, "a dog bark")])
