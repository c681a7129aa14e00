from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.captions.records import Task
from common.captions.sampling import SeededSampling
from common.captions.writers import open_desk
from common.config.captions import ChatModelConfig, CheckConfig, Checkpoint, WriterConfig
from common.errors import ConfigError
from tests.unit.captions.small_models import save_chat_model


def config(folder: Path, replaced: float = 1.0) -> WriterConfig:
    return WriterConfig(
        backend="chat_model",
        chat_model=ChatModelConfig(
            checkpoint=Checkpoint(model=str(folder), revision=None), batch_size=4, max_new_tokens=8
        ),
        checks=CheckConfig(max_replaced_share=replaced),
    )


def tasks(count: int) -> list[Task]:
    return [
        Task(task_id=f"t{n}", scope="s", prompt="label_only", labels=("dog bark",), count=2, seed=0)
        for n in range(count)
    ]


def test_noise_from_a_random_model_is_refused_counted_and_replaced(tmp_path: Path) -> None:
    with open_desk(config(save_chat_model(tmp_path))) as desk:
        answers, tally = desk.ask(tasks(6))
    assert tally.replaced == tally.pieces == 12
    assert tally.reasons["not_json"] + tally.reasons.get("empty", 0) == 12
    assert tally.usage.requests == 12 and tally.usage.paid.input_tokens > 0 and tally.usage.paid.output_tokens > 0
    assert all("dog bark" in one.caption for answer in answers.values() for one in answer.captions)


def test_a_kept_answer_needs_no_model(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path / "model")
    with open_desk(config(folder)) as desk:
        first, spent = desk.ask(tasks(2))
    folder.rename(tmp_path / "gone")
    with open_desk(config(folder)) as desk:
        second, tally = desk.ask(tasks(2))
    assert first == second and tally.usage.requests == 0
    assert tally.usage.whole == spent.usage.whole and tally.usage.paid.input_tokens == 0


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    wanted = r"writer\.chat_model\.checkpoint"
    with open_desk(config(tmp_path / "absent")) as desk, pytest.raises(ConfigError, match=wanted):
        desk.ask(tasks(1))


def test_seeded_sampling_draws_from_the_softmax() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    temperature = 0.7
    sampling = SeededSampling([5], temperature, 1.0)
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[sampling(torch.zeros(1, 1), logits).argmax()] += 1
    wanted = (logits[0] / temperature).softmax(0)
    assert torch.allclose(counts / 4000, wanted, atol=0.025)


def test_top_p_leaves_out_the_tail_and_never_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 0.0, 4.0, 3.9]])
    for top_p, allowed in ((0.9, {2, 3}), (0.01, {2})):
        sampling = SeededSampling([0], 1.0, top_p)
        assert {int(sampling(torch.zeros(1, 1), logits).argmax()) for _ in range(300)} == allowed


def test_a_row_draws_the_same_wherever_it_stands_in_the_batch() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    together = SeededSampling([1, 2, 3], 1.0, 0.95)(torch.zeros(3, 1), logits)
    alone = SeededSampling([2], 1.0, 0.95)(torch.zeros(1, 1), logits[1:2])
    assert torch.equal(together[1:2], alone)
    assert torch.equal(SeededSampling([1], 0.0, 1.0)(torch.zeros(1, 1), logits[:1]), logits[:1])
