from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from common.captions.asking import make_request
from common.captions.chat_model import ChatModelWriter
from common.captions.checks import contains_phrase
from common.captions.records import Task
from common.captions.sampling import SeededSampling
from common.captions.writers import open_desk
from common.config.captions import ChatModelConfig, CheckConfig, Checkpoint, WriterConfig
from common.errors import ConfigError
from tests.unit.captions.small_models import CHAT_TEMPLATE, save_chat_model

SHORT = CheckConfig(max_words=6, max_replaced_share=1.0)


def config(folder: Path, checks: CheckConfig = SHORT, **chat_model: Any) -> WriterConfig:
    settings = {"batch_size": 4, "max_new_tokens": 300} | chat_model
    checkpoint = Checkpoint(model=str(folder), revision=None)
    return WriterConfig(
        backend="chat_model", chat_model=ChatModelConfig(checkpoint=checkpoint, **settings), checks=checks
    )


def tasks(count: int) -> list[Task]:
    return [Task(task_id=f"t{n}", prompt="label_only", labels=("dog bark",), count=2, seed=0) for n in range(count)]


def test_even_a_random_model_writes_what_was_asked_for(tmp_path: Path) -> None:
    """Captions that pass all checks, in the JSON that was asked for; what they say is the model's business."""
    asked = [
        Task(task_id="one", prompt="label_only", labels=("dog bark",), seed=0),
        Task(task_id="pair", prompt="label_only", labels=("rain", "bell", "siren"), seed=0),
        Task(task_id="parts", prompt="extract", labels=("dog bark",), caption="loud", seed=0),
    ]
    with open_desk(config(save_chat_model(tmp_path))) as desk:
        answers, tally = desk.ask(asked)
    assert (tally.pieces, tally.replaced, tally.repaired, tally.reasons) == (3, 0, 0, {})
    written = {task_id: answer.captions for task_id, answer in answers.items()}
    assert {one.writer for captions in written.values() for one in captions} == {f"transformers:{tmp_path}@local"}
    assert all(contains_phrase(one.caption, "dog bark") for one in written["one"])
    assert tally.usage.requests == 3 and tally.usage.paid.input_tokens > 0 and tally.usage.paid.output_tokens > 100


def test_a_reply_that_is_cut_off_is_asked_for_again_with_more_room(tmp_path: Path) -> None:
    with open_desk(config(save_chat_model(tmp_path), max_new_tokens=8)) as desk:
        answers, tally = desk.ask(tasks(6))
    assert tally.replaced == tally.pieces == 12
    assert tally.reasons["cut_off"] == 12
    assert tally.usage.paid.output_tokens == 6 * 8 + 6 * 16
    assert all("dog bark" in one.caption for answer in answers.values() for one in answer.captions)


def test_the_checkpoints_own_sampling_settings_do_not_apply(tmp_path: Path) -> None:
    texts = []
    for name, sampling in (("plain", {}), ("own", {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1})):
        folder = save_chat_model(tmp_path / name, **sampling)
        assert ("repetition_penalty" in (folder / "generation_config.json").read_text()) == bool(sampling)
        writer = ChatModelWriter(config(folder, max_new_tokens=40).chat_model, SHORT)
        texts.append([reply.text for _, reply in writer.replies([make_request(task, SHORT) for task in tasks(2)])])
    assert texts[0] == texts[1]


MERGED = "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}<start_of_turn>{{ m['content'] }}{% endfor %}"
THINKING = CHAT_TEMPLATE + "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (CHAT_TEMPLATE, "<|im_start|>assistant\n"),
        (THINKING, "<|im_start|>assistant\n"),
        (THINKING.replace("enable_thinking", "thinking"), "<|im_start|>assistant\n"),
        (CHAT_TEMPLATE + "<think>\n", "<|im_start|>assistant\n<think>\n</think>\n\n"),
        (CHAT_TEMPLATE + "<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n"),
        (MERGED, "}"),
    ],
    ids=["qwen2.5", "qwen3", "granite", "deepseek-r1", "qwen3 told not to think", "gemma"],
)
def test_no_template_makes_the_model_think_or_loses_the_instructions(tmp_path: Path, template: str, end: str) -> None:
    writer = ChatModelWriter(config(save_chat_model(tmp_path, template)).chat_model, SHORT)
    request = make_request(tasks(1)[0], SHORT)
    prompt = writer._prompt(request)
    assert prompt.rstrip().endswith(end.rstrip()) and all(message["content"] in prompt for message in request.messages)


def test_a_kept_answer_needs_no_model(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path / "model")
    with open_desk(config(folder, max_new_tokens=8)) as desk:
        first, spent = desk.ask(tasks(2))
    folder.rename(tmp_path / "gone")
    with open_desk(config(folder, max_new_tokens=8)) as desk:
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
