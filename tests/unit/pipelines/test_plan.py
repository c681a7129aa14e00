"""What `plan` hands to the stages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from common.config.base import WIRE_NULL
from common.config.captions import AugmentCaptionsPlan
from common.config.methods import METHODS, resolve_methods, resolve_recipes
from common.config.run import RunConfig, load_preset, preset_names
from common.datasets.registry import dataset_names, resolve_dataset
from common.errors import ConfigError
from components.plan.planning import PLANS, resolve
from components.plan.run import run
from pipelines.commands.arguments import Wanted, local_parameters

OPTIM = '{"steps":1,"batch_size":1,"learning_rate":1}'
CORPUS = "prepare_corpus.audio_dir=/a prepare_corpus.captions_file=/a/c.csv"


@pytest.fixture(autouse=True)
def fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all models had been fetched."""
    monkeypatch.setattr("components.plan.run.check_fetched", lambda *_: None)


def test_the_four_presets_are_there() -> None:
    assert {"smoke", "tiny", "small", "paper"} <= set(preset_names())


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("dataset", dataset_names())
def test_every_preset_and_dataset_gives_every_stage_a_valid_input(
    preset: str, dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The datasets, with their lists of ids, are not on this machine.
    monkeypatch.setattr("components.plan.run.find_dataset", resolve_dataset)
    monkeypatch.setattr("components.plan.planning.corpus_id_files", lambda _: ())
    lacking = (
        {"retrieval", "corpus_label", "synthio_corpus", "background_noise"}
        if load_preset(preset, CORPUS).prepare_corpus.source == "none"
        else set()
    )
    plans = run(dataset, preset, 0, ",".join(METHODS.keys() - lacking), 2, CORPUS, "")
    assert len(plans) == len(PLANS)
    for kind, plan in zip(PLANS.values(), plans, strict=True):
        kind.model_validate(plan)


@pytest.mark.parametrize(
    ("methods", "overrides", "message"),
    [
        ("gold,retrieval", "", "method retrieval takes clips"),
        ("gold,corpus_label", "", "method corpus_label takes clips"),
        ("gold,synthio_corpus", "", "method synthio_corpus takes clips"),
        ("gold,background_noise", "", "method background_noise takes clips"),
        (
            "",
            f"pretrain_classifier.optim={OPTIM} pretrain_classifier.checkpoint=null pretrain_classifier.revision=null",
            "pretrain_classifier takes",
        ),
        ("", f"pretrain_classifier.optim={OPTIM}", "pretrain_classifier takes"),
        ("", f"pretrain_clap.optim={OPTIM} pretrain_clap.checkpoint=null", "pretrain_clap takes clips"),
        ("", f"pretrain_clap.optim={OPTIM}", "pretrain_clap takes clips"),
        ("", f"pretrain_t2a.optim={OPTIM}", "pretrain_t2a trains on the pretraining corpus"),
    ],
)
def test_what_needs_a_corpus_is_refused_without_one(methods: str, overrides: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run("demo", "small", 0, methods, 1, overrides, "")


def test_methods_of_a_preset_that_need_a_corpus_are_left_out_without_one() -> None:
    needing = {name for name, method in METHODS.items() if method.takes_corpus}
    assert needing == {"retrieval", "corpus_label", "synthio_corpus", "background_noise"}
    for preset in ("small", "tiny"):
        without = load_preset(preset, "prepare_corpus.source=none").methods
        assert without == tuple(name for name in load_preset(preset, CORPUS).methods if name not in needing)
    assert set(load_preset("small", f"{CORPUS} prepare_corpus.source=folder").methods) & needing
    asked = "prepare_corpus.source=none methods=[gold,retrieval]"
    with pytest.raises(ConfigError, match="method retrieval takes clips"):
        run("demo", "small", 0, "", 1, asked, "")


def test_latents_without_audio_train_a_text_to_audio_model_and_no_judge() -> None:
    kept = f"{CORPUS} prepare_corpus.keep_audio=false"
    assert run("demo", "paper", 0, "gold", 1, kept, "")
    with pytest.raises(ConfigError, match="pretrain_clap takes clips"):
        run("demo", "paper", 0, "gold", 1, f"{kept} pretrain_clap.optim={OPTIM}", "")


def holds_none(value: object) -> bool:
    if isinstance(value, dict):
        return any(holds_none(item) for item in value.values())
    return any(holds_none(item) for item in value) if isinstance(value, list) else value is None


@pytest.mark.parametrize("preset", preset_names())
def test_nothing_that_kfp_cannot_carry_is_handed_over(preset: str) -> None:
    plans = run("demo", preset, 0, "", 1, CORPUS, "")
    assert not any(holds_none(plan) for plan in plans)


def test_changed_files_of_a_dataset_change_what_prepare_dataset_gets_and_nothing_else() -> None:
    first, second = (
        dict(zip(PLANS, run("demo", "smoke", 0, "", 1, "", version), strict=True)) for version in ("1", "2")
    )
    assert [stage for stage in PLANS if first[stage] != second[stage]] == ["prepare_dataset"]


def test_null_survives_the_wire() -> None:
    config = load_preset("smoke")
    plans = dict(zip(PLANS, run("demo", "smoke", 0, "", 1, "", ""), strict=True))
    assert plans["pretrain_clap"]["settings"]["checkpoint"] == WIRE_NULL
    received = PLANS["pretrain_clap"].model_validate(plans["pretrain_clap"])
    assert received.settings == config.pretrain_clap  # type: ignore[attr-defined]


def test_methods_with_equal_recipes_share_one() -> None:
    assert len(resolve_recipes(resolve_methods("gold,synthio,synthio_classic"))) == 1


def test_a_method_of_fewer_rounds_takes_part_in_the_longer_recipe() -> None:
    (recipe,) = resolve_recipes(resolve_methods("synthio_no_reflection,synthio"))
    assert recipe.rounds is None
    (alone,) = resolve_recipes(resolve_methods("synthio_no_reflection"))
    assert alone.rounds == 0


def test_vanilla_asks_for_as_many_clips_as_the_others() -> None:
    config, demo = load_preset("tiny"), resolve_dataset("demo")

    def templates(methods: str) -> int:
        asked = {"preset": "tiny", "dataset": {}, "n": 32, "command": ""}
        plans = resolve(config, demo, 32, resolve_methods(methods), 1, asked)
        return int(plans["synthesize_audio"]["template_clips_per_gold"])

    assert templates("gold,vanilla") == config.augmentation_factor
    assert templates("gold,synthio") == config.losers_per_clip
    assert templates("gold,llm_captions") == templates("gold,noise,retrieval") == 0


@pytest.mark.parametrize(
    ("methods", "model", "captions"),
    [
        ("gold,noise,extra_real", False, False),
        ("gold,vanilla", True, False),
        ("gold,llm_captions", True, True),
        ("gold,synthio_classic", True, True),
    ],
)
def test_what_only_generated_clips_need_is_made_only_for_them(methods: str, model: bool, captions: bool) -> None:
    asked = {"preset": "tiny", "dataset": {}, "n": 32, "command": ""}
    plans = resolve(load_preset("tiny"), resolve_dataset("demo"), 32, resolve_methods(methods), 2, asked)
    assert plans["pretrain_t2a"]["wanted"] is model
    for stage in ("caption_clips", "augment_captions", "finetune_clap"):
        assert bool(plans[stage]["replicates"]) is captions, stage
    for stage in ("train_classifier", "evaluate_classifier", "report"):
        assert len(plans[stage]["replicates"]) == 2, stage


@pytest.mark.parametrize(
    ("preset", "methods", "overrides", "made", "latents"),
    [
        ("tiny", "", "", True, False),
        ("tiny", "gold,vanilla,synthio", "", False, False),
        ("tiny", "gold,retrieval", "", True, False),
        ("tiny", "gold,background_noise", "", True, False),
        ("tiny", "gold", f"pretrain_clap.optim={OPTIM}", True, False),
        ("tiny", "gold", f"pretrain_t2a.optim={OPTIM}", False, False),
        ("tiny", "gold,vanilla", f"pretrain_t2a.optim={OPTIM}", True, True),
        ("smoke", "gold", "", True, False),
        ("smoke", "gold,vanilla", "", True, True),
    ],
)
def test_a_corpus_is_made_where_something_takes_clips_of_it_and_its_latents_where_a_model_trains_on_them(
    preset: str, methods: str, overrides: str, made: bool, latents: bool
) -> None:
    plans = dict(zip(PLANS, run("demo", preset, 0, methods, 1, overrides, ""), strict=True))
    assert (plans["prepare_corpus"]["wanted"], plans["prepare_corpus"]["latents"]) == (made, latents)


def test_a_surplus_scales_generation_and_not_what_training_takes() -> None:
    asked = {"preset": "tiny", "dataset": {}, "n": 32, "command": ""}

    def plans(overrides: str) -> dict[str, dict[str, Any]]:
        config = load_preset("tiny", f"augmentation_factor=2 {overrides}")
        return resolve(config, resolve_dataset("demo"), 32, resolve_methods("gold,synthio"), 1, asked)

    plain, more = plans(""), plans("filter_audio.surplus=1.6")
    assert AugmentCaptionsPlan.model_validate(plain["augment_captions"]).captions_per_clip == 2
    assert AugmentCaptionsPlan.model_validate(more["augment_captions"]).captions_per_clip == 4
    assert plain["train_classifier"]["augmentation_factors"] == more["train_classifier"]["augmentation_factors"] == [2]
    assert (plain["train_classifier"]["keep"], more["train_classifier"]["keep"]) == (WIRE_NULL, "first")
    with pytest.raises(ConfigError, match="asks the second judge"):
        plans("filter_audio.second_judge.kind=none filter_audio.surplus=2 filter_audio.keep=unsure")
    judged = plans("filter_audio.surplus=2 filter_audio.second_judge.kind=stats filter_audio.keep=unsure")
    assert judged["train_classifier"]["keep"] == "unsure"


def test_an_automatic_factor_makes_eight_clips_and_lets_validation_choose() -> None:
    asked = {"preset": "tiny", "dataset": {}, "n": 32, "command": ""}
    config = load_preset("tiny", "augmentation_factor=auto")
    plans = resolve(config, resolve_dataset("demo"), 32, resolve_methods("gold,vanilla,synthio"), 1, asked)
    assert plans["train_classifier"]["augmentation_factors"] == [1, 2, 4, 8]
    assert plans["augment_captions"]["augmentation_factor"] == plans["synthesize_audio"]["template_clips_per_gold"] == 8
    with pytest.raises(ConfigError, match="augmentation_factor"):
        load_preset("tiny", "augmentation_factor=some")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("demoo", "tiny", 0, "", 3, "", ""), "did you mean demo"),
        (("demo", "tiny", 0, "gold,gold", 3, "", ""), "named twice"),
        (("demo", "tiny", 0, "", 0, "", ""), "at least 1 replicate"),
        (("demo", "paper", 0, "", 1, "", ""), "prepare_corpus.captions_file"),
        (("demo", "tiny", -4, "", 3, "", ""), "number of training clips"),
        (("demo", "tiny", 0, "", 3, "rounds=7", ""), "less than or equal to 3"),
        (("demo", "tiny", 0, "", 3, "rouns=1", ""), "did you mean rounds"),
        (("demo", "tiny", 0, "", 3, "rounds", ""), "section.field=value"),
        (("demo", "tiny", 0, "", 3, "align_t2a.beta=.inf", ""), "align_t2a.beta: expected a finite number"),
        (("demo", "tiny", 0, "", 3, "train_classifier.optim.weight_decay=inf", ""), "expected a finite number"),
    ],
)
def test_a_wrong_name_or_number_is_refused_with_what_is_right(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*arguments)  # type: ignore[arg-type]


def test_an_override_changes_one_field() -> None:
    changed, plain = load_preset("tiny", "align_t2a.beta=77 rounds=1"), load_preset("tiny")
    assert (changed.align_t2a.beta, changed.rounds) == (77.0, 1)
    assert changed.pretrain_t2a == plain.pretrain_t2a


def test_overrides_begin_a_section_that_is_null() -> None:
    fields = "pretrain_t2a.optim.batch_size=4 pretrain_t2a.optim.steps=7"
    optim = load_preset("tiny", f"{fields} pretrain_t2a.optim.learning_rate=0.1").pretrain_t2a.optim
    assert optim is not None and (optim.steps, optim.batch_size, optim.learning_rate) == (7, 4, 0.1)
    with pytest.raises(ConfigError, match=r"optim\.learning_rate: Field required"):
        load_preset("tiny", fields)
    with pytest.raises(ConfigError, match="'stps': did you mean steps"):
        load_preset("tiny", f"{fields} pretrain_t2a.optim.learning_rate=0.1 pretrain_t2a.optim.stps=7")
    with pytest.raises(ConfigError, match=r"field of pretrain_t2a.optim.steps\) 'more'"):
        load_preset("tiny", f"{fields} pretrain_t2a.optim.steps.more=1")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("/my data/a corpus", "/my data/a corpus"),
        ('"/my data/n=50: all  of it"', "/my data/n=50: all  of it"),
        ("'/my data'", "/my data"),
        ("~/my data", f"{Path.home()}/my data"),
    ],
)
def test_the_value_of_an_override_may_hold_spaces(written: str, value: str) -> None:
    changed = load_preset("tiny", f" prepare_corpus.audio_dir={written}\n rounds=1 ")
    assert (changed.prepare_corpus.audio_dir, changed.rounds) == (value, 1)
    with pytest.raises(ConfigError, match=r"rounds: .*found '1 seed'"):
        load_preset("tiny", "rounds=1 seed")


@pytest.mark.parametrize("value", ["[1", "{a", "'open", "caf\udce9", "@x", "\x07", "a:b:\udcff"])
def test_an_override_whose_value_cannot_be_read_is_told(value: str) -> None:
    with pytest.raises(ConfigError, match="its value is no valid YAML"):
        load_preset("tiny", f"prepare_corpus.audio_dir={value}")


def test_overrides_are_judged_together_in_any_order() -> None:
    pairs = ["train_classifier.optim.evaluate_every=80", "train_classifier.optim.record_every=40"]
    both = [load_preset("tiny", " ".join(order)) for order in (pairs, pairs[::-1])]
    assert both[0] == both[1] and both[0].train_classifier.optim.record_every == 40
    with pytest.raises(ConfigError, match="must be a multiple"):
        load_preset("tiny", pairs[1])


def test_a_reused_model_takes_the_place_of_training() -> None:
    plans = dict(zip(PLANS, run("demo", "tiny", 0, "", 1, "", "", "s3://bucket/t2a"), strict=True))
    assert plans["pretrain_t2a"]["settings"]["reuse"] == "s3://bucket/t2a"
    assert "REUSE_T2A_FROM=s3://bucket/t2a" in plans["report"]["command"]


def test_the_command_of_a_report_can_be_typed(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.wav").write_bytes(b"")
    overrides, reuse, server = "prepare_corpus.audio_dir='/my corpus'", "/my runs/t2a", "http://llm/a&b;c"
    dataset = f"{{name: own, audio: {tmp_path}}}"
    plans = dict(zip(PLANS, run(dataset, "tiny", 0, "", 1, overrides, "", reuse, server), strict=True))
    assert f"LLM_ENDPOINT='{server}'" in plans["report"]["command"]
    typed = dict(word.split("=", 1) for word in shlex.split(plans["report"]["command"])[2:])
    assert typed == {
        **{"DATASET": "own.yaml", "PRESET": "tiny", "SEEDS": "1"},
        **{"OVERRIDES": overrides, "REUSE_T2A_FROM": reuse, "LLM_ENDPOINT": server},
    }


@pytest.mark.parametrize("named", ["my sounds/set.yaml", "my sounds", "demo"])
def test_the_command_of_a_report_names_the_dataset_as_the_user_did(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in "ab":
        (tmp_path / "my sounds" / label).mkdir(parents=True)
        (tmp_path / "my sounds" / label / "1.wav").touch()
    (tmp_path / "my sounds" / "set.yaml").write_text("name: own\naudio: .\n")
    monkeypatch.chdir(tmp_path)
    wanted = Wanted(named, resolve_dataset(named), 0)
    text = str(local_parameters(wanted)["dataset"])
    plans = dict(zip(PLANS, run(text, "tiny", 0, "", 1, "", ""), strict=True))
    assert f"DATASET={shlex.quote(named)} " in plans["report"]["command"]
    assert "given" not in plans["prepare_dataset"]["dataset"]


def test_an_llm_endpoint_writes_and_revises_the_captions_of_any_preset() -> None:
    plans = dict(zip(PLANS, run("demo", "tiny", 0, "", 1, "", "", llm_endpoint="http://llm:8000/v1"), strict=True))
    for stage in ("augment_captions", "revise_captions"):
        writer = plans[stage]["settings"]["writer"]
        assert (writer["backend"], writer["endpoint"]["base_url"]) == ("endpoint", "http://llm:8000/v1")
    assert "LLM_ENDPOINT=http://llm:8000/v1" in plans["report"]["command"]


@pytest.mark.parametrize("address", ["llm:8000", "http://me:canary@llm/v1", "http://llm/v1?key=canary"])
def test_an_llm_endpoint_that_is_none_or_holds_a_key_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(ConfigError, match=r"llm_endpoint: .*base_url must") as caught:
        run("demo", "tiny", 0, "", 1, "", "", llm_endpoint=address)
    assert "canary" not in str(caught.value) and caught.value.__cause__ is None


def test_a_run_above_its_budget_is_refused_and_one_without_n_cannot_be_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("demo", "tiny", 50, "", 3, "", "", budget=5.0)
    with pytest.raises(ConfigError, match="above the budget"):
        run("demo", "tiny", 50, "", 3, "", "", budget=0.0001)
    monkeypatch.setattr(
        "components.plan.run.find_dataset", lambda _: resolve_dataset("demo").model_copy(update={"n": None})
    )
    with pytest.raises(ConfigError, match="a budget needs n"):
        run("demo", "tiny", 0, "", 3, "", "", budget=5.0)


def test_a_scope_reaches_every_stage_and_no_result() -> None:
    plans = dict(zip(PLANS, run("demo", "tiny", 0, "", 1, "scope=nights/7", ""), strict=True))
    assert {plan["scope"] for plan in plans.values()} == {"nights/7"}
    assert "scope" not in plans["report"]["run_config"]
    with pytest.raises(ConfigError, match="scope"):
        run("demo", "tiny", 0, "", 1, "scope=../elsewhere", "")


def test_the_report_gets_the_settings_that_differ_and_completes_them() -> None:
    plans = dict(zip(PLANS, run("demo", "tiny", 0, "", 1, "align_t2a.beta=7", ""), strict=True))
    told = plans["report"]["run_config"]
    assert told["align_t2a"]["beta"] == 7 and "seed" not in told
    assert RunConfig.model_validate(told) == load_preset("tiny", "align_t2a.beta=7")
