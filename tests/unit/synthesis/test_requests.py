from __future__ import annotations

import random

import pytest

from common.config.methods import METHODS
from common.config.recipes import LOSERS
from common.config.t2a import SynthesizeAudioConfig
from common.errors import ConfigError, DataError
from common.records.clips import GoldClip, Prompt, template_prompts
from components.synthesize_audio.clips import provenance
from components.synthesize_audio.requests import (
    Request,
    batches,
    check_prompts,
    recipe_of,
    sampling_seed,
    synthetic_clip,
)
from tests.kit.clips import gold_clip


def clip(name: str, label: str = "dog_bark") -> GoldClip:
    return gold_clip(name, label, duration_s=1.0)


def request(prompt: Prompt, frames: int = 32, model: str = "base") -> Request:
    return Request(prompt, model, model, sampling_seed(prompt), 1.0, frames, -20.0)


def test_every_gold_clip_of_a_replicate_gets_its_template_prompts() -> None:
    prompts = [
        p for replicate in (0, 1) for p in template_prompts([clip("a"), clip("b", "jazz")], replicate, 3, LOSERS.name)
    ]
    assert {(p.replicate, p.source_clip_id, p.index) for p in prompts} == {
        (replicate, name, index) for replicate in (0, 1) for name in "ab" for index in range(3)
    }
    assert {p.caption for p in prompts} == {"sound of a dog bark", "sound of a jazz"}
    assert {p.recipe for p in prompts} == {LOSERS.name} and {p.round for p in prompts} == {0}
    assert len({p.prompt_id for p in prompts}) == len(prompts)
    check_prompts(prompts, {"a": clip("a"), "b": clip("b")})


def test_sampling_seeds_differ_between_clips_and_replicates() -> None:
    prompts = [
        p
        for replicate in range(3)
        for p in template_prompts([clip(str(i)) for i in range(20)], replicate, 4, LOSERS.name)
    ]
    assert len({sampling_seed(p) for p in prompts}) == len(prompts)


def test_duplicate_ids_empty_captions_and_unknown_sources_are_refused_by_name() -> None:
    prompt = template_prompts([clip("a")], 0, 1, LOSERS.name)[0]
    with pytest.raises(DataError, match=r"two prompts have the id 'none-template-all\.s0\.a\.0\.r0'"):
        check_prompts([prompt, prompt], {"a": clip("a")})
    with pytest.raises(DataError, match="empty caption"):
        check_prompts([prompt.model_copy(update={"caption": " "})], {"a": clip("a")})
    with pytest.raises(DataError, match="not in the gold"):
        check_prompts([prompt], {})


def test_the_model_follows_from_the_recipe() -> None:
    synthio = METHODS["synthio"].recipe
    assert synthio is not None
    prompt = template_prompts([clip("a")], 0, 1, LOSERS.name)[0]
    assert recipe_of(prompt, []).alignment == "none"
    aligned = prompt.model_copy(update={"recipe": synthio.name})
    assert recipe_of(aligned, [synthio]).alignment == "dpo"
    with pytest.raises(ConfigError, match="recipes of this run: none-template-all"):
        recipe_of(aligned, [])


def test_batches_hold_one_model_and_length_and_do_not_depend_on_order() -> None:
    prompts = template_prompts([clip(str(i)) for i in range(7)], 0, 1, LOSERS.name)
    requests = [request(p, frames=8 if i % 2 else 16, model=f"m{i // 4}") for i, p in enumerate(prompts)]
    made = batches(requests, 4)
    shuffled = requests.copy()
    random.Random(0).shuffle(shuffled)
    assert batches(shuffled, 4) == made
    assert [len(batch) for batch in made] == [2, 2, 1, 2]
    assert all(len({(r.model_hash, r.frames) for r in batch}) == 1 for batch in made)
    assert sorted(r.prompt.prompt_id for batch in made for r in batch) == sorted(p.prompt_id for p in prompts)


def test_no_prompts_give_no_batches() -> None:
    assert batches([], 4) == []


def test_the_key_of_a_clip_changes_with_all_that_decides_its_samples() -> None:
    settings = SynthesizeAudioConfig()
    first = request(template_prompts([clip("a")], 0, 1, LOSERS.name)[0])
    changed = [
        Request(first.prompt, "base", "other", first.sampling_seed, 1.0, 32, -20.0),
        Request(first.prompt.model_copy(update={"caption": "x"}), "base", "base", first.sampling_seed, 1.0, 32, -20.0),
        Request(first.prompt, "base", "base", 1, 1.0, 32, -20.0),
        Request(first.prompt, "base", "base", first.sampling_seed, 0.9, 32, -20.0),
        Request(first.prompt, "base", "base", first.sampling_seed, 1.0, 40, -20.0),
        Request(first.prompt, "base", "base", first.sampling_seed, 1.0, 32, -21.0),
    ]
    keys = [str(r.key(settings)) for r in [first, *changed]]
    keys.append(str(first.key(settings.model_copy(update={"peak_limit_dbfs": -2.0}))))
    assert len(set(keys)) == len(keys)
    moved = Request(first.prompt, "elsewhere", "base", first.sampling_seed, 1.0, 32, -20.0)
    assert moved.key(settings) == first.key(settings)


def test_clip_and_provenance_carry_every_field_of_their_prompt() -> None:
    fields = {
        "caption": "a dog in the rain",
        "round": 1,
        "history": ({"caption": "a dog"},),
        "further_labels": ("rain",),
    }
    prompt = template_prompts([clip("a")], 0, 1, LOSERS.name)[0].model_copy(update=fields)
    made = {
        "duration_s": 1.0,
        "sample_rate_hz": 16000,
        "gain_db": 0.0,
        "signal": "ok",
        "sha256": "0",
        "environment": {},
    }
    settings = SynthesizeAudioConfig()
    found = synthetic_clip(request(prompt), settings, made)
    told = provenance(request(prompt), settings, made, model={}, gold_licence="CC0-1.0", code_version="1")
    assert Prompt(**found.descent) == Prompt(**told.descent) == prompt
