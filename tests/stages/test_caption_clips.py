from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.captions.checks import contains_phrase
from common.errors import DataError
from common.records.clips import Caption, read_records
from common.records.gold import GoldSet
from components.caption_clips.run import run
from tests.kit.gold import caption_gold, caption_train_ids
from tests.unit.captions.small_models import save_qwen2_audio


def config(**settings: Any) -> dict[str, Any]:
    return {"settings": {"backend": "acoustics"} | settings, "replicates": [0, 1]}


def caption(tmp_path: Path, config: dict[str, Any], name: str = "captions") -> tuple[list[Caption], dict[str, Any]]:
    gold = tmp_path / "gold"
    if not gold.exists():
        caption_gold(gold)
    out = tmp_path / name
    figures = run(str(gold), str(out), str(out / "metrics.json"), config=config, code_version="v")
    assert json.loads((out / "metrics.json").read_text()) == figures
    return read_records(out / "captions.jsonl", Caption), figures


def test_exactly_the_training_clips_of_the_replicates_are_captioned(tmp_path: Path) -> None:
    both, figures = caption(tmp_path, config())
    assert [c.clip_id for c in both] == sorted({*caption_train_ids(0), *caption_train_ids(1)})
    one, _ = caption(tmp_path, config() | {"replicates": [1]}, "one")
    assert [c.clip_id for c in one] == caption_train_ids(1)
    assert {c.clip_id: c for c in one}.items() <= {c.clip_id: c for c in both}.items()
    assert figures["captions"] == len(both) and figures["replaced"] == 0


def test_without_replicates_no_captioner_is_loaded(tmp_path: Path) -> None:
    settings = config(backend="audio_llm", audio_llm={"checkpoint": {"model": "/nowhere", "revision": None}})
    captions, figures = caption(tmp_path, settings | {"replicates": []})
    assert captions == [] and figures["captions"] == figures["replaced"] == 0


def test_no_clip_but_those_for_training_is_ever_opened(tmp_path: Path) -> None:
    gold = caption_gold(tmp_path / "gold")
    trained = {*caption_train_ids(0), *caption_train_ids(1)}
    for file in (gold / "clips").glob("*.flac"):
        if file.stem not in trained:
            file.write_bytes(b"opening this fails")
    captions, _ = caption(tmp_path, config())
    assert {c.clip_id for c in captions} == trained


def test_a_clip_of_several_labels_is_captioned_with_all_of_them(tmp_path: Path) -> None:
    gold = GoldSet(caption_gold(tmp_path / "gold", further=True))
    captions, _ = caption(tmp_path, config())
    several = [(c, gold.clips[c.clip_id]) for c in captions if gold.clips[c.clip_id].further_labels]
    assert several
    for one, clip in several:
        assert all(contains_phrase(one.caption, label) for label in (clip.label, *clip.further_labels))


def test_measured_captions_hold_the_label_and_say_more(tmp_path: Path) -> None:
    captions, _ = caption(tmp_path, config())
    for one in captions:
        assert contains_phrase(one.caption, one.label)
        assert len(one.caption.split()) > len(one.label.replace("_", " ").split()) + 1
        assert one.captioner == "acoustics/1"


def test_a_second_run_measures_nothing_and_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caption(tmp_path, config())
    monkeypatch.setattr("common.records.gold.GoldSet.load", lambda *_: pytest.fail("the clip was read again"))
    caption(tmp_path, config(), "again")
    assert (tmp_path / "captions/captions.jsonl").read_bytes() == (tmp_path / "again/captions.jsonl").read_bytes()


def test_other_audio_under_the_same_name_is_captioned_again(tmp_path: Path) -> None:
    before, _ = caption(tmp_path, config())
    clips = tmp_path / "gold" / "clips"
    (clips / "0-0.flac").write_bytes((clips / "2-0.flac").read_bytes())
    after, _ = caption(tmp_path, config(), "after")
    changed = [a.clip_id for a, b in zip(after, before, strict=True) if a.caption != b.caption]
    assert changed == ["0-0"]


def test_an_audio_llm_that_writes_noise_stops_the_stage_or_is_replaced_and_counted(tmp_path: Path) -> None:
    model = {"checkpoint": {"model": str(save_qwen2_audio(tmp_path / "model")), "revision": None}, "max_new_tokens": 4}
    with pytest.raises(DataError, match=r"caption_clips\.backend=acoustics"):
        caption(tmp_path, config(backend="audio_llm", audio_llm=model), "strict")
    captions, figures = caption(tmp_path, config(backend="audio_llm", audio_llm=model, max_replaced_share=1.0))
    assert figures["replaced"] >= 0.5 * len(captions)
    assert sum(value for name, value in figures.items() if name.startswith("replaced_")) == figures["replaced"]
