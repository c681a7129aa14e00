from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file

from common.config.base import OptimConfig
from common.config.t2a import MonitorConfig, SamplerConfig, TransformerConfig
from common.corpus.shards import CorpusLatent, Shard
from common.errors import DataError
from common.procedural.clips import CLASSES
from common.records.text import template_caption
from common.storage import open_store
from common.storage.checkpoints import Checkpoints
from common.training import is_main, launch
from components.pretrain_t2a.architecture import build_pipeline
from components.pretrain_t2a.monitor import DISTANCE, Monitor
from components.pretrain_t2a.pretraining import check_autoencoder, pretrain
from tests.unit.diffusion.conftest import RATE_HZ, tiny_config

CAPTIONS = [template_caption(CLASSES[i % len(CLASSES)]) for i in range(48)]


class ListShards:
    """Clips in memory as the shards of a corpus; counts how often each is read."""

    def __init__(self, rows, size=8):
        self.parts = {f"shard {i:03d}": rows[i : i + size] for i in range(0, len(rows), size)}
        self.reads = Counter()
        self.lengths = [dict(Counter(row.latent.shape[-1] for row in part)) for part in self.parts.values()]

    def shards_of(self, kind, split):
        told = {"kind": kind, "split": split, "bytes": 0, "sha256": ""}
        found = zip(self.parts.items(), self.lengths, strict=True)
        return [Shard(uri=uri, clips=len(part), lengths=known, **told) for (uri, part), known in found]

    def read_latent_shard(self, shard):
        self.reads[shard.uri] += 1
        yield from self.parts[shard.uri]


def trained(
    codec,
    tokenizer,
    clips,
    folder=None,
    text_encoder=None,
    seed=0,
    processes=(0, 1),
    watch=None,
    settings=None,
    built=None,
    **optim,
):
    optim = {"steps": 12, "batch_size": 8, "learning_rate": 2e-3, "ema_decay": 0.9, "record_every": 4} | optim
    config = tiny_config().model_copy(update={"optim": OptimConfig(**optim), "keep_best_by": "last"} | (settings or {}))
    latents = codec.encode(torch.from_numpy(clips)[:, None]).latent_dist.mode().numpy()
    rows = [latent(i, z[:, :16] if i % 3 == 0 else z, CAPTIONS[i]) for i, z in enumerate(latents)]
    backend = build_pipeline(config, codec, tokenizer, seed, text_encoder)
    if built is not None:
        built(backend)
    record = pretrain(
        ListShards(rows[6:]), rows[:6], backend, config, train_text_encoder=text_encoder is None, seed=seed,
        checkpoints=Checkpoints(open_store(folder)) if folder else None, watch=watch, processes=processes,
    )  # fmt: skip
    return backend, record


def latent(number, values, caption="a"):
    return CorpusLatent(str(number), values, np.zeros(1, np.int64), caption, None, values.shape[-1] * 0.032)


def weights(backend):
    parts = (backend.transformer, backend.projection, backend.text_encoder)
    return [value for part in parts for value in part.state_dict().values()]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


@pytest.mark.e2e
def test_training_twice_gives_the_same_weights_bit_for_bit(codec, tokenizer, clips):
    (first, record), (second, again) = (trained(codec, tokenizer, clips) for _ in range(2))
    assert same(first, second)
    assert record == again
    assert not same(first, trained(codec, tokenizer, clips, seed=1)[0])


@pytest.mark.e2e
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(codec, tokenizer, clips, tmp_path, monkeypatch):
    import components.pretrain_t2a.pretraining as trainer

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
    assert sorted(p.name.split("-")[1] for p in tmp_path.iterdir()) == ["6", "7"]
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


def test_the_weights_kept_are_those_of_the_smallest_figure(codec, tokenizer, clips):
    distances = iter([3.0, 1.0, 2.0])

    def watch(step):
        return {DISTANCE: next(distances)}

    best, record = trained(
        codec, tokenizer, clips, watch=watch, settings={"keep_best_by": "clap_distance"}, evaluate_every=4
    )
    assert record["best_step"] == 8
    last, _ = trained(codec, tokenizer, clips)
    eight, _ = trained(codec, tokenizer, clips, steps=8, schedule="constant")
    assert not same(best, last)
    assert [row["step"] for row in record["curve"] if DISTANCE in row] == [4, 8, 12]
    constant, _ = trained(
        codec, tokenizer, clips, watch=lambda step: {DISTANCE: abs(step - 8)}, evaluate_every=4, schedule="constant",
        settings={"keep_best_by": "clap_distance"},
    )  # fmt: skip
    assert same(constant, eight)


@pytest.mark.e2e
def test_a_resumed_run_keeps_the_same_best_weights(codec, tokenizer, clips, tmp_path):
    choose = {"keep_best_by": "clap_distance"}
    figures = {4: 1.0, 8: 2.0, 12: 3.0}
    unbroken, _ = trained(
        codec, tokenizer, clips, watch=lambda s: {DISTANCE: figures[s]}, settings=choose, evaluate_every=4
    )

    def broken(step):
        if step == 8:
            raise KeyboardInterrupt
        return {DISTANCE: figures[step]}

    with pytest.raises(KeyboardInterrupt):
        trained(
            codec, tokenizer, clips, tmp_path, watch=broken, settings=choose, evaluate_every=4, checkpoint_every_s=1e-6
        )
    resumed, record = trained(
        codec, tokenizer, clips, tmp_path, watch=lambda s: {DISTANCE: figures[s]}, settings=choose, evaluate_every=4
    )
    assert record["best_step"] == 4
    assert same(unbroken, resumed)


def test_gradient_checkpointing_changes_nothing_but_memory(codec, tokenizer, clips):
    plain, _ = trained(codec, tokenizer, clips, steps=3)
    recomputed, _ = trained(codec, tokenizer, clips, steps=3, settings={"gradient_checkpointing": True})
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(plain), weights(recomputed), strict=True))
    assert not recomputed.transformer.gradient_checkpointing


def test_clips_longer_than_the_window_are_refused(codec, tokenizer, clips):
    backend = build_pipeline(tiny_config(), codec, tokenizer, 0)
    rows = [latent(i, np.zeros((48, 40), np.float32)) for i in range(8)]
    config = tiny_config().model_copy(update={"optim": OptimConfig(steps=1, batch_size=4, learning_rate=1e-3)})
    with pytest.raises(DataError, match=r"40 frames, the network's window is 32 \(1.02 s\)"):
        pretrain(ListShards(rows), rows, backend, config, train_text_encoder=True, seed=0)


def test_a_clip_longer_than_the_window_is_refused_in_whatever_shard_it_is(codec, tokenizer):
    rows = [latent(i, np.zeros((48, 16), np.float32)) for i in range(32)]
    longer = [latent(32, np.zeros((48, 40), np.float32))]
    optim = OptimConfig(steps=1, batch_size=4, learning_rate=1e-3)
    config = tiny_config().model_copy(update={"optim": optim, "buffer_clips": 16})
    for seed in range(4):
        backend = build_pipeline(config, codec, tokenizer, 0)
        with pytest.raises(DataError, match="latents of 40 frames"):
            pretrain(ListShards(rows + longer), rows[:4], backend, config, train_text_encoder=True, seed=seed)


def test_training_goes_through_more_shards_than_fit_in_memory(codec, tokenizer, clips):
    settings = {"buffer_clips": 16}
    first, record = trained(codec, tokenizer, clips, settings=settings)
    second, again = trained(codec, tokenizer, clips, settings=settings)
    assert same(first, second)
    assert record == again
    assert not same(first, trained(codec, tokenizer, clips)[0])


def test_a_checkpoint_of_another_architecture_is_refused(codec, tokenizer, clips, tmp_path):
    def broken(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(codec, tokenizer, clips, tmp_path, watch=broken, evaluate_every=2, checkpoint_every_s=1e-6)
    deeper = TransformerConfig.model_validate(tiny_config().transformer.model_dump() | {"num_layers": 1})
    with pytest.raises(DataError, match="another architecture"):
        trained(codec, tokenizer, clips, tmp_path, settings={"transformer": deeper})


def test_an_autoencoder_of_another_rate_than_the_corpus_is_refused(codec):
    manifest = {"sample_rate_hz": RATE_HZ, "channels": 1, "hop_length": codec.hop_length}
    check_autoencoder(codec, manifest, "vae")
    for name, value in {"sample_rate_hz": 44100, "channels": 2, "hop_length": 2048}.items():
        with pytest.raises(DataError, match=f"{name} .*, the corpus {value}: .*prepare_corpus.vae"):
            check_autoencoder(codec, manifest | {name: value}, "vae")


def joined(job):
    codec, tokenizer, clips, folder, optim = job
    looks = MonitorConfig(every=2, clips=2, prompt_count=1, sampler=SamplerConfig(steps=2, batch_size=2))
    rows = [latent(i, np.zeros((48, 16), np.float32), CAPTIONS[i]) for i in range(2)]

    def watch(step):
        backend = watched[0]
        Monitor(backend, looks, rows, judge=None, store=None, seed=0, steps=4)(step)
        return {}

    watched = []
    processes = (PartialState().process_index, PartialState().num_processes)
    backend, _ = trained(
        codec,
        tokenizer,
        clips,
        processes=processes,
        watch=watch,
        built=watched.append,
        steps=4,
        evaluate_every=2,
        **optim,
    )
    if is_main():
        save_file(backend.transformer.state_dict(), folder / f"{processes[1]}.safetensors")


@pytest.mark.e2e
@pytest.mark.parametrize("optim", [{}, {"accumulation": 2}, {"sharding": "fsdp"}], ids=["ddp", "accumulating", "fsdp"])
def test_two_processes_train_and_look_as_one_does(codec, tokenizer, clips, tmp_path, optim):
    joined((codec, tokenizer, clips, tmp_path, {}))
    launch(joined, (codec, tokenizer, clips, tmp_path, optim), 2)
    one, two = (load_file(tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert all(torch.allclose(value, two[key], atol=1e-4) for key, value in one.items())
