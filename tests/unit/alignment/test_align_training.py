from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import common.training as training
from common.config.t2a import AlignT2AConfig
from components.align_t2a.adapter import make_policy
from components.align_t2a.encoding import EncodedPairs
from components.align_t2a.training import align, draw_rows, step_loss
from tests.tiny_t2a import build_model

Adapter = Literal["lora", "full"]


def config(**changes: Any) -> AlignT2AConfig:
    optim = {"steps": 12, "batch_size": 4, "learning_rate": 3e-3, "record_every": 4, "schedule": "constant"}
    values: dict[str, Any] = {"beta": 50.0, "adapter": "full", "lora_rank": 4, "optim": optim}
    return AlignT2AConfig.model_validate(values | changes)


def weights(
    adapter: Adapter, pairs: EncodedPairs, folder: Path | None = None, **changes: Any
) -> dict[str, torch.Tensor]:
    policy = make_policy(build_model(), adapter, 4, 7)
    align(policy, pairs, config(adapter=adapter, **changes), "dpo", seed=7, name="test", checkpoint_dir=folder)
    return policy.backend.transformer.state_dict()


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_first_loss_is_log_2_and_both_changes_are_zero(adapter: Adapter, pairs: EncodedPairs) -> None:
    policy = make_policy(build_model(), adapter, 4, 0)
    loss, figures = step_loss(policy, pairs, config(beta=2000.0), "dpo")(0, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert figures["d_winner"] == figures["d_loser"] == 0.0 and figures["implicit_accuracy"] == 0.5


def test_crpo_starts_at_log_2_plus_the_winner_error(pairs: EncodedPairs) -> None:
    policy = make_policy(build_model(), "full", 4, 0)
    changed = config(preference_loss="crpo", winner_weight=0.5)
    loss, figures = step_loss(policy, pairs, changed, "dpo")(0, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * figures["winner_error"], rel=1e-5)


def test_erm_is_the_winner_error_alone_on_the_draws_of_dpo(pairs: EncodedPairs) -> None:
    policy = make_policy(build_model(), "full", 4, 0)
    loss, figures = step_loss(policy, pairs, config(), "erm")(0, torch.Generator().manual_seed(0))
    _, of_dpo = step_loss(policy, pairs, config(), "dpo")(0, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(figures["winner_error"], rel=1e-6)
    assert figures["winner_error"] == pytest.approx(of_dpo["winner_error"], rel=1e-5)
    assert "loser_error" not in figures


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training_learns_the_preference_on_held_out_noise(adapter: Adapter, pairs: EncodedPairs) -> None:
    policy = make_policy(build_model(), adapter, 4, 0)
    optim = config().optim.model_copy(update={"steps": 40})
    settings = config(adapter=adapter, optim=optim)
    curve = training.fit(policy.trained, step_loss(policy, pairs, settings, "dpo"), optim, seed=0, name="test")
    _, figures = step_loss(policy, pairs, settings, "dpo")(0, torch.Generator().manual_seed(99))
    assert figures["implicit_accuracy"] > 0.9
    assert figures["d_winner"] < figures["d_loser"]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1].keys() >= {"step", "winner_error", "loser_error", "d_winner", "d_loser", "implicit_accuracy"}


def test_pairs_that_do_not_differ_give_no_preference(pairs: EncodedPairs) -> None:
    equal = EncodedPairs(
        tuple(
            type(bucket)(
                bucket.winners,
                bucket.winners[bucket.winner_of],
                bucket.winner_of,
                bucket.caption_of,
                bucket.condition,
                bucket.null,
            )
            for bucket in pairs.buckets
        ),
        pairs.spectra,
        0,
        (),
    )
    policy = make_policy(build_model(), "full", 4, 0)
    loss, _ = step_loss(policy, equal, config(beta=2000.0), "dpo")(0, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    largest = max(float(p.grad.abs().max()) for p in policy.trained.parameters() if p.grad is not None)
    assert largest < 1e-2


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_alignment_repeats_bit_for_bit(adapter: Adapter, pairs: EncodedPairs) -> None:
    first, second = weights(adapter, pairs), weights(adapter, pairs)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_killed_alignment_goes_on_to_the_same_weights(
    adapter: Adapter, pairs: EncodedPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = weights(adapter, pairs)
    optim = config().optim.model_copy(update={"checkpoint_every_s": 1e-9})
    step = training._step
    calls = iter(range(100))

    def dying(*arguments: Any) -> Any:
        if next(calls) == 6:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(training, "_step", dying)
    with pytest.raises(KeyboardInterrupt):
        weights(adapter, pairs, tmp_path, optim=optim)
    assert list(tmp_path.glob("step-*"))
    resumed = weights(adapter, pairs, tmp_path, optim=optim)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_rows_are_drawn_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(draw_rows(3, 7, generator), minlength=3)
    assert counts.sum() == 7 and counts.min() >= 2
    assert len(set(draw_rows(50, 8, generator).tolist())) == 8
