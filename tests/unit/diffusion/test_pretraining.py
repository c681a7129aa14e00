from __future__ import annotations

import numpy as np
import pytest
import torch

from common.config.base import OptimConfig
from common.corpus import CorpusLatent
from common.errors import DataError
from common.procedural import CLASSES
from common.text import template_caption
from components.pretrain_t2a.batches import Schedule, group_by_length
from components.pretrain_t2a.pretraining import pretrain
from tests.unit.diffusion.conftest import tiny_config

CAPTIONS = [template_caption(CLASSES[i % len(CLASSES)]) for i in range(48)]


def trained(codec, tokenizer, clips, checkpoint_dir=None, text_encoder=None, seed=0, precision="fp32", **optim):
    settings = {"steps": 12, "batch_size": 8, "learning_rate": 2e-3, "ema_decay": 0.9, "record_every": 4} | optim
    config = tiny_config().model_copy(update={"optim": OptimConfig(**settings), "precision": precision})
    latents = codec.encode(torch.from_numpy(clips)[:, None]).latent_dist.mode().numpy()
    rows = [latent(i, z[:, :16] if i % 3 == 0 else z, CAPTIONS[i]) for i, z in enumerate(latents)]
    return pretrain(
        rows[6:], rows[:6], codec, tokenizer, text_encoder, config,
        seed=seed, device="cpu", checkpoint_dir=checkpoint_dir,
    )  # fmt: skip


def latent(number, values, caption="a"):
    return CorpusLatent(str(number), values, np.zeros(1, np.int64), caption, None, values.shape[-1] * 0.032)


def weights(backend):
    parts = (backend.transformer, backend.projection, backend.text_encoder)
    return [value for part in parts for value in part.state_dict().values()]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_training_twice_gives_the_same_weights_bit_for_bit(codec, tokenizer, clips):
    (first, record), (second, again) = (trained(codec, tokenizer, clips) for _ in range(2))
    assert same(first, second)
    assert record == again
    assert not same(first, trained(codec, tokenizer, clips, seed=1)[0])


def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(codec, tokenizer, clips, tmp_path, monkeypatch):
    import components.pretrain_t2a.trainer as trainer

    unbroken, record = trained(codec, tokenizer, clips)
    draw = trainer.draw_times
    calls = iter(range(7))

    def interrupted(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return draw(*args)

    monkeypatch.setattr(trainer, "draw_times", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trained(codec, tokenizer, clips, tmp_path, checkpoint_every_s=1e-6)
    assert [p.name for p in tmp_path.iterdir()] == ["step-4"]
    monkeypatch.undo()
    resumed, again = trained(codec, tokenizer, clips, tmp_path, checkpoint_every_s=1e-6)
    assert same(unbroken, resumed)
    assert record["curve"] == again["curve"]


def test_training_lowers_the_held_out_loss_and_leaves_the_autoencoder_alone(codec, tokenizer, clips):
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    _, short = trained(codec, tokenizer, clips, steps=1, ema_decay=0.0)
    backend, long = trained(codec, tokenizer, clips, steps=60)
    assert long["held_out_loss"] < 0.95 * short["held_out_loss"]
    assert all(torch.equal(value, before[key]) for key, value in backend.vae.state_dict().items())
    assert [row["step"] for row in long["curve"]] == list(range(4, 61, 4))


def test_a_given_text_encoder_stays_frozen_and_a_random_one_learns(codec, tokenizer, clips):
    backend, _ = trained(codec, tokenizer, clips, steps=1)
    given = backend.text_encoder
    before = [value.clone() for value in given.state_dict().values()]
    frozen, _ = trained(codec, tokenizer, clips, text_encoder=given, steps=3)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.text_encoder.state_dict().values(), strict=True))
    learned, _ = trained(codec, tokenizer, clips, steps=3)
    assert not torch.equal(learned.text_encoder.shared.weight, given.shared.weight)


def test_half_precision_training_follows_full_precision(codec, tokenizer, clips):
    (_, full), (_, half) = (trained(codec, tokenizer, clips, precision=p) for p in ("fp32", "bf16"))
    assert half["held_out_loss"] == pytest.approx(full["held_out_loss"], rel=0.05)
    assert half["curve"][0]["loss"] != full["curve"][0]["loss"]


def groups(tokenizer, lengths):
    rows = [latent(i, np.full((2, length), i, dtype=np.float32)) for i, length in enumerate(lengths)]
    return group_by_length(rows, tokenizer)


def test_every_epoch_sees_every_clip_once_in_batches_of_one_length(tokenizer):
    clips = groups(tokenizer, [4, 6] * 8 + [4])
    schedule = Schedule(clips, batch_size=4, seed=0)
    for epoch in range(2):
        seen: list[float] = []
        for step in range(5 * epoch, 5 * epoch + 5):
            group, rows = schedule.batch(step)
            assert len(rows) == 4
            seen += clips[group].latents[rows][:, 0, 0].tolist()
        assert set(seen) == set(range(17))
        assert len(seen) == 20


def test_the_batch_of_a_step_does_not_depend_on_the_steps_before(tokenizer):
    clips = groups(tokenizer, [4] * 10)
    walked = Schedule(clips, 4, 0)
    for step in range(8):
        last = walked.batch(step)
    jumped = Schedule(clips, 4, 0).batch(7)
    assert last[0] == jumped[0]
    assert torch.equal(last[1], jumped[1])


def test_a_corpus_without_latents_is_a_data_error(tokenizer):
    with pytest.raises(DataError, match="no latents"):
        group_by_length([], tokenizer)
