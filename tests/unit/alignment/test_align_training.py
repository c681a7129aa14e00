from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

import components.align_t2a.step as training
from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import T2ABackend, load_backend
from common.diffusion.sampling import sample
from common.records.clips import GoldClip
from common.registered import names
from common.storage import open_store
from common.storage.checkpoints import Checkpoints
from common.training import WHOLE, Part, fit
from components.align_t2a.adapter import Policy, make_policy
from components.align_t2a.alignment import align, probed
from components.align_t2a.encoding import EncodedPairs, encode_pairs
from components.align_t2a.pairs import Group
from components.align_t2a.probes import Probes, encode_held_out
from components.align_t2a.selection import stop_reason
from components.align_t2a.step import draw_rows, step_loss
from tests.kit.models import build_t2a
from tests.kit.sounds import TONES, tone

Adapter = Literal["lora", "full"]
OPTIM = {"steps": 12, "batch_size": 4, "learning_rate": 3e-3, "record_every": 4, "schedule": "constant"}


def config(optim: Mapping[str, Any] | None = None, **changes: Any) -> AlignT2AConfig:
    values: dict[str, Any] = {
        "beta": 50.0,
        "adapter": "full",
        "lora_rank": 4,
        "optim": OPTIM | dict(optim or {}),
        "sampler": {"steps": 2, "guidance_scale": 2.0, "batch_size": 2, "bucket_frames": 4},
    }
    return AlignT2AConfig.model_validate(values | changes)


class Aligned(NamedTuple):
    curve: list[dict[str, float]]
    during: list[dict[str, float]]
    best_step: int
    stopped: str


def run_align(
    settings: AlignT2AConfig,
    pairs: EncodedPairs,
    folder: Path | None = None,
    probe: Callable[[Policy], Mapping[str, float]] = lambda policy: {"spectrum_db": 1.0},
    before: Mapping[str, float] | None = None,
) -> tuple[Aligned, dict[str, torch.Tensor]]:
    policy = make_policy(build_t2a(), settings.adapter, 4, 7, settings.gradient_checkpointing)
    before = before or {"spectrum_db": 2.0}
    curve = align(
        policy,
        pairs,
        settings,
        "dpo",
        before,
        lambda: probe(policy),
        seed=7,
        name="test",
        checkpoints=Checkpoints(open_store(folder)) if folder else None,
    )
    during = probed(before, curve)
    result = Aligned(curve, during, curve.best_step, stop_reason(during, settings))
    return result, policy.backend.transformer.state_dict()


def scripted(**columns: list[float]) -> Callable[[Policy], Mapping[str, float]]:
    """A probe that gives prepared figures, one row after the other."""
    rows = iter([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
    return lambda policy: next(rows)


def first_step(policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig, part: Part = WHOLE) -> Any:
    return step_loss(policy, pairs, settings, "dpo")(0, torch.Generator().manual_seed(0), part)


def equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_first_loss_is_log_2_and_both_changes_are_zero(
    adapter: Adapter, checkpointing: bool, pairs: EncodedPairs
) -> None:
    policy = make_policy(build_t2a(), adapter, 4, 0, checkpointing)
    policy.trained.train()
    loss, figures = first_step(policy, pairs, config(beta=2000.0))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    assert figures["d_winner"] == figures["d_loser"] == 0.0 and figures["implicit_accuracy"] == 0.5


def test_crpo_starts_at_log_2_plus_the_winner_error(pairs: EncodedPairs) -> None:
    policy = make_policy(build_t2a(), "full", 4, 0)
    loss, figures = first_step(policy, pairs, config(preference_loss="crpo", winner_weight=0.5))
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * figures["winner_error"], rel=1e-5)


def test_sdpo_and_linear_learn_the_preference_and_harm_the_winners_less_than_dpo(pairs: EncodedPairs) -> None:
    ends = {loss: run_align(config(preference_loss=loss), pairs)[0].curve[-1] for loss in ("dpo", "sdpo", "linear")}
    assert all(end["implicit_accuracy"] > 0.5 for end in ends.values())
    assert ends["sdpo"]["d_winner"] < ends["dpo"]["d_winner"]


def test_erm_is_the_winner_error_alone_on_the_draws_of_dpo(pairs: EncodedPairs) -> None:
    policy = make_policy(build_t2a(), "full", 4, 0)
    loss, figures = step_loss(policy, pairs, config(), "erm")(0, torch.Generator().manual_seed(0), WHOLE)
    _, of_dpo = first_step(policy, pairs, config())
    assert loss.item() == pytest.approx(figures["winner_error"], rel=1e-6)
    assert figures["winner_error"] == pytest.approx(of_dpo["winner_error"], rel=1e-5)
    assert "loser_error" not in figures


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_training_learns_the_preference_on_held_out_noise(adapter: Adapter, pairs: EncodedPairs) -> None:
    policy = make_policy(build_t2a(), adapter, 4, 0)
    settings = config({"steps": 40}, adapter=adapter)
    curve = fit(policy.trained, step_loss(policy, pairs, settings, "dpo"), settings.optim, seed=0, name="test")
    _, figures = step_loss(policy, pairs, settings, "dpo")(0, torch.Generator().manual_seed(99), WHOLE)
    assert figures["implicit_accuracy"] > 0.9
    assert figures["d_winner"] < figures["d_loser"]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[-1].keys() >= {"step", "winner_error", "loser_error", "d_winner", "d_loser", "implicit_accuracy"}


def test_pairs_that_do_not_differ_give_no_preference(pairs: EncodedPairs) -> None:
    same = tuple(replace(bucket, losers=bucket.winners[bucket.winner_of]) for bucket in pairs.buckets)
    policy = make_policy(build_t2a(), "full", 4, 0)
    loss, _ = first_step(policy, EncodedPairs(same, pairs.spectra, 0, ()), config(beta=2000.0))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), abs=1e-4)
    largest = max(float(p.grad.abs().max()) for p in policy.trained.parameters() if p.grad is not None)
    assert largest < 1e-2


def test_the_parts_of_a_batch_have_the_whole_batch_as_their_mean(pairs: EncodedPairs) -> None:
    policy = make_policy(build_t2a(), "full", 4, 0)
    whole, figures = first_step(policy, pairs, config(preference_loss="crpo"))
    parts = [first_step(policy, pairs, config(preference_loss="crpo"), Part(index, 2)) for index in range(2)]
    assert sum(loss.item() for loss, _ in parts) / 2 == pytest.approx(whole.item(), rel=1e-5)
    for key, value in figures.items():
        assert sum(own[key] for _, own in parts) / 2 == pytest.approx(value, abs=1e-6)
    assert parts[0][1]["winner_error"] != parts[1][1]["winner_error"]


def test_accumulation_gives_the_weights_of_the_undivided_batch(pairs: EncodedPairs) -> None:
    _, whole = run_align(config(), pairs)
    _, halves = run_align(config({"accumulation": 2}), pairs)
    assert all(torch.allclose(whole[name], halves[name], atol=1e-4) for name in whole)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_gradient_checkpointing_changes_no_weight(adapter: Adapter, pairs: EncodedPairs) -> None:
    _, plain = run_align(config(adapter=adapter), pairs)
    _, checkpointed = run_align(config(adapter=adapter, gradient_checkpointing=True), pairs)
    assert all(torch.allclose(plain[name], checkpointed[name], atol=1e-5) for name in plain)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_bf16_learns_the_same_preference_with_weights_in_fp32(adapter: Adapter, pairs: EncodedPairs) -> None:
    result, weights = run_align(config({"steps": 24, "precision": "bf16"}, adapter=adapter), pairs)
    assert {value.dtype for value in weights.values()} == {torch.float32}
    assert result.curve[-1]["implicit_accuracy"] > 0.9 and result.curve[-1]["loss"] < result.curve[0]["loss"]


def test_training_calls_neither_codec_nor_text_encoder(pairs: EncodedPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    for method in ("encode", "decode", "condition", "condition_tokens"):
        monkeypatch.setattr(T2ABackend, method, forbidden)
    result, _ = run_align(config({"steps": 2}), pairs)
    assert len(result.curve) == 1


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_nearest_state_whose_held_out_error_has_not_risen_is_kept(adapter: Adapter, pairs: EncodedPairs) -> None:
    probe = scripted(held_out_error=[0.71, 0.7, 0.75, 0.76], spectrum_db=[4.0, 3.0, 2.0, 1.0])
    before = {"held_out_error": 0.9, "spectrum_db": 5.0}
    result, kept = run_align(config(adapter=adapter, probe_every=3, patience=3), pairs, None, probe, before)
    assert (result.best_step, result.stopped) == (6, "")
    assert [row["step"] for row in result.during] == [0.0, 3.0, 6.0, 9.0, 12.0]
    assert [row["spectrum_db"] for row in result.during] == [5.0, 4.0, 3.0, 2.0, 1.0]
    _, expected = run_align(config({"steps": 6}, adapter=adapter, keep_best_by="none"), pairs)
    assert equal(kept, expected)


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_unaligned_weights_come_back_when_nothing_was_better(adapter: Adapter, pairs: EncodedPairs) -> None:
    probe = scripted(held_out_error=[1.0, 1.1, 1.2], spectrum_db=[4.0, 3.0, 2.0])
    before = {"held_out_error": 0.9, "spectrum_db": 5.0}
    result, kept = run_align(config(adapter=adapter, probe_every=4), pairs, None, probe, before)
    assert result.best_step == 0
    assert equal(kept, build_t2a().transformer.state_dict())


@pytest.mark.parametrize(
    ("errors", "distances", "reason"),
    [([0.7, 0.8, 0.8], [4.0, 3.0, 3.0], "held_out_error"), ([0.7, 0.7, 0.7], [4.0, 6.0, 6.0], "spectrum_db")],
)
def test_alignment_ends_when_winner_error_or_distance_got_worse(
    errors: list[float], distances: list[float], reason: str, pairs: EncodedPairs
) -> None:
    probe = scripted(held_out_error=errors, spectrum_db=distances)
    result, _ = run_align(config(probe_every=2), pairs, None, probe, {"held_out_error": 0.9, "spectrum_db": 5.0})
    assert result.curve[-1]["step"] == 6 and result.stopped == reason
    assert result.best_step == 2


@pytest.mark.e2e
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_alignment_repeats_bit_for_bit(adapter: Adapter, pairs: EncodedPairs) -> None:
    assert equal(run_align(config(adapter=adapter), pairs)[1], run_align(config(adapter=adapter), pairs)[1])


@pytest.fixture
def probe(backend: T2ABackend, pairs: EncodedPairs, group: Callable[..., Group]) -> Callable[[Policy], Any]:
    """The real probe, on two validation clips and one generation per label."""
    clips: list[GoldClip] = [group(label, 0).winner for label in TONES[1:]]
    held_out = encode_held_out(backend, [(clip, tone(clip.label, 9)) for clip in clips], 4, -1.0)
    probes = Probes(clips, pairs, held_out, config(), 0)
    return lambda policy: probes.measure(policy.backend)[0]


@pytest.mark.e2e
@pytest.mark.parametrize(("adapter", "rate", "killed_at"), [("lora", 2e-2, 5), ("full", 6e-3, 3), ("full", 6e-3, 10)])
def test_a_killed_alignment_goes_on_to_the_same_weights_best_state_and_curve(
    adapter: Adapter,
    rate: float,
    killed_at: int,
    pairs: EncodedPairs,
    probe: Callable[[Policy], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So fast that the figure rises again: the best state lies before the end.
    optim = {"learning_rate": rate, "checkpoint_every_s": 1e-9}
    changes: dict[str, Any] = {"adapter": adapter, "probe_every": 2, "max_error_rise": 9, "max_distance_rise": 9}
    by = {"lora": "held_out_error", "full": "spectrum_db"}[adapter]
    settings = config(optim, keep_best_by=by, **changes)
    before = probe(make_policy(build_t2a(), "full", 4, 0))
    expected, weights = run_align(settings, pairs, None, probe, before)
    assert 0 < expected.best_step < 12
    real, calls = training.batch_loss, iter(range(100))

    def dying(*arguments: Any) -> Any:
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "batch_loss", dying)
        run_align(settings, pairs, tmp_path, probe, before)
    assert list(tmp_path.glob("step-*"))
    resumed, again = run_align(settings, pairs, tmp_path, probe, before)
    assert resumed == expected
    assert equal(weights, again)


@pytest.mark.e2e
def test_an_alignment_killed_between_two_worse_probes_stops_where_the_unbroken_one_does(
    pairs: EncodedPairs, tmp_path: Path
) -> None:
    before = {"held_out_error": 0.9, "spectrum_db": 5.0}
    errors, distances = [0.7, 0.8, 0.8], [4.0, 3.0, 3.0]
    settings = config({"checkpoint_every_s": 1e-9}, probe_every=2)
    probe = scripted(held_out_error=errors, spectrum_db=distances)
    expected, weights = run_align(settings, pairs, None, probe, before)
    rows = scripted(held_out_error=errors[:2], spectrum_db=distances[:2])
    with pytest.raises(StopIteration):
        run_align(settings, pairs, tmp_path, rows, before)
    rest = scripted(held_out_error=errors[2:], spectrum_db=distances[2:])
    resumed, again = run_align(settings, pairs, tmp_path, rest, before)
    assert resumed == expected and resumed.stopped == "held_out_error"
    assert equal(weights, again)


def stereo_oobleck() -> AutoencoderOobleck:
    """The production class: hop 64, 4 latent channels, random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderOobleck(
            encoder_hidden_size=8, downsampling_ratios=[4, 4, 4], channel_multiples=[1, 2, 2], decoder_channels=4,
            decoder_input_channels=4, audio_channels=2, sampling_rate=16000,
        )  # fmt: skip


@pytest.mark.parametrize("name", names("common.diffusion.backends"))
def test_every_back_end_aligns_merges_saves_and_generates(
    name: str, group: Callable[..., Group], tmp_path: Path
) -> None:
    vae = stereo_oobleck() if name == "stable_audio" else None
    backend = build_t2a(backend=name, vae=vae)
    pairs = encode_pairs(backend, [(group("bus", 0), tone("bus", 0), [tone("jazz", 0), tone("jazz", 1)])], 4, -1.0)
    settings = config({"steps": 4}, adapter="lora", keep_best_by="none", gradient_checkpointing=True)
    policy = make_policy(backend, "lora", 4, 0, True)
    curve = align(
        policy, pairs, settings, "dpo", {"spectrum_db": 1.0}, lambda: {"spectrum_db": 1.0}, seed=0, name="test"
    )
    assert curve.best_step == 4 and curve[-1]["loss"] < math.log(2)
    backend.save(tmp_path)
    loaded = load_backend(tmp_path)
    made = [
        sample(
            model, ["sound of a bus"], [0.3], [torch.Generator().manual_seed(0)], settings.sampler, model.frames(0.3)
        )
        for model in (backend, loaded, build_t2a(backend=name, vae=vae))
    ]
    assert torch.equal(made[0], made[1]) and not torch.allclose(made[0], made[2], atol=1e-3)
    assert torch.isfinite(loaded.decode(made[1])).all()


def test_rows_are_drawn_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(draw_rows(3, 7, generator), minlength=3)
    assert counts.sum() == 7 and counts.min() >= 2
    assert len(set(draw_rows(50, 8, generator).tolist())) == 8
