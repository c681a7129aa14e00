from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from common.errors import ConfigError, DataError
from common.training import fit
from tests.unit.training.small import DATA, checkpoints, config, equal, network, squared_error, train


class Stopped(Exception):
    pass


def stop_at(last: int) -> Any:
    def before(step: int) -> None:
        if step == last:
            raise Stopped

    return before


def stored(folder: Path) -> dict[str, Any]:
    """All tensors and the progress of the newest checkpoint."""
    with checkpoints(folder).latest() as found:
        assert found is not None
        tensors = {path.stem: load_file(path) for path in found[1].glob("*.safetensors")}
        return {**tensors, "progress": json.loads((found[1] / "progress.json").read_bytes())}


def test_two_runs_are_equal_bit_for_bit() -> None:
    (first, curve), (second, again) = train(), train()
    assert equal(first, second)
    assert curve == again


@pytest.mark.parametrize("last", [1, 5, 6, 11])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path, last: int) -> None:
    with pytest.raises(Stopped):
        train(tmp_path / "a", before=stop_at(last))
    resumed, curve = train(tmp_path / "a")
    unbroken, expected = train(tmp_path / "b")
    assert equal(resumed, unbroken)
    assert curve == expected
    (one, two) = stored(tmp_path / "a"), stored(tmp_path / "b")
    assert one["progress"] == two["progress"]
    for part in ("model", "ema", "optimizer"):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(one[part][key], two[part][key]) for key in one[part]), part
    assert {"3.weight", "1.running_mean", "1.num_batches_tracked"} <= one["model"].keys()
    assert {"exp_avg/3.weight", "exp_avg_sq/3.weight", "step/3.weight"} <= one["optimizer"].keys()


def test_a_checkpoint_between_two_rows_of_the_curve_keeps_the_figures_of_the_open_one(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, before=stop_at(8))
    assert [len(stored(tmp_path)["progress"][key]) for key in ("curve", "window")] == [1, 3]


def test_a_finished_training_that_was_not_published_ends_at_once(tmp_path: Path) -> None:
    first, curve = train(tmp_path)
    again, same = train(tmp_path, before=stop_at(11))
    assert curve == same and not equal(first, network())
    assert equal(first, again)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_before_the_update_and_names_the_batch(tmp_path: Path, value: float) -> None:
    model = network()
    inner = squared_error(model)

    def loss(step: int, *rest: Any) -> Any:
        result, figures = inner(step, *rest)
        return result + (value if step == 7 else 0.0), figures

    with pytest.raises(DataError, match=r"loss of step 7 is (nan|inf).*learning rate.*seed \d+"):
        train(tmp_path, model=model, loss=loss)
    kept = stored(tmp_path)
    assert kept["progress"]["done"] == 7
    assert all(torch.equal(kept["model"][key], value) for key, value in model.named_parameters())


def test_a_gradient_that_is_not_finite_ends_before_the_update() -> None:
    model = nn.Linear(4, 1)
    before = model.weight.detach().clone()

    def loss(*_: Any) -> Any:
        return (model(DATA) * 0.0).abs().sqrt().sum(), {}

    with pytest.raises(DataError, match="gradient's norm of step 0 is nan"):
        fit(model, loss, config(), seed=0, name="t")
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (network(width=6), r"'0.weight' is of shape \(8, 4\) there and of shape \(6, 4\) in this model; remove"),
        (network(norm=False), r"'2.weight' is absent there and of shape \(1, 8\) in this model"),
    ],
)
def test_a_checkpoint_of_another_architecture_is_refused_by_name_and_shape(
    tmp_path: Path, other: nn.Module, message: str
) -> None:
    train(tmp_path)
    with pytest.raises(DataError, match=message):
        train(tmp_path, model=other)


def test_frozen_parameters_stay_as_they_are() -> None:
    model = network()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    before = frozen.clone()
    train(model=model)
    assert torch.equal(frozen, before)


@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulation_gives_the_step_of_the_whole_batch(pieces: int) -> None:
    models = [network(dropout=0.0, norm=False) for _ in range(2)]
    curves = [train(model=model, optim={"accumulation": n})[1] for model, n in zip(models, (1, pieces), strict=True)]
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    assert [row["loss"] for row in curves[0]] == pytest.approx([row["loss"] for row in curves[1]], rel=1e-4)


def test_micro_batches_draw_their_own_dropout() -> None:
    masks: list[torch.Tensor] = []
    model = nn.Linear(4, 1)

    def loss(step: int, generator: torch.Generator, part: Any) -> Any:
        masks.append(nn.functional.dropout(torch.ones(64)))
        return model(DATA).mean(), {}

    train(model=model, loss=loss, optim={"steps": 3, "accumulation": 2})
    assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_a_batch_that_cannot_be_split_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"batch_size 8 .* multiple of 3"):
        train(optim={"accumulation": 3})


def test_bf16_computes_in_bf16_and_keeps_the_weights_in_fp32() -> None:
    model, seen = network(), []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train(model=model, optim={"precision": "bf16"})
    assert set(seen) == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_evaluation_sees_the_averages_and_training_goes_on_from_the_weights() -> None:
    seen = []
    model = network()
    train(model=model, optim={"evaluate_every": 6}, evaluate=lambda done: seen.append(model[0].weight.clone()) or {})
    assert torch.equal(seen[-1], model[0].weight)
    assert equal(model, train()[0])
    assert not torch.equal(model[0].weight, train(optim={"ema_decay": 0.0})[0][0].weight)


@pytest.mark.parametrize("chosen", [0, 4, 8])
@pytest.mark.parametrize("last", [3, 7, 12])
def test_the_chosen_step_is_the_model_in_the_end_also_after_a_kill(tmp_path: Path, chosen: int, last: int) -> None:
    def best(rows: Any) -> int:
        return min(chosen, int(rows[-1]["step"])) if chosen else 0

    seen = {0: network()[0].weight.detach().clone()}
    options: dict[str, Any] = {"optim": {"evaluate_every": 4}, "best": best}

    def run(before: Any = lambda step: None) -> nn.Module:
        model = network()

        def evaluate(done: int) -> dict[str, float]:
            seen[done] = model[0].weight.detach().clone()
            return {}

        assert train(tmp_path, model=model, before=before, evaluate=evaluate, **options)[1].best_step == chosen
        return model

    if last < 12:
        with pytest.raises(Stopped):
            run(stop_at(last))
    assert torch.equal(run()[0].weight, seen[chosen])


def test_training_ends_where_it_is_told_to() -> None:
    rows = train(optim={"evaluate_every": 3}, evaluate=lambda done: {"x": float(done)}, stop=lambda r: r[-1]["x"] >= 6)[
        1
    ]
    assert rows[-1]["step"] == 6


def test_waiting_for_data_is_measured_and_stays_out_of_the_curve() -> None:
    curve = train()[1]
    assert 0 < curve.speed["wait_share"] < 1 and curve.speed["clips_per_s"] > 0
    assert set(curve[0]) == {"step", "loss", "grad_norm", "size"}
