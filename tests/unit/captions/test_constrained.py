from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from common.captions.checks import check_reply
from common.captions.constrained import KeepToForm, ReplyForm
from common.captions.records import Task
from common.config.captions import CheckConfig

CHECKS = CheckConfig(max_words=8)
CHARACTERS = [*map(chr, range(32, 127)), "\n", "\t", "é", "“"]


def form(labels: tuple[str, ...] = ("dog bark",), prompt: str = "label_only", count: int = 2) -> tuple[ReplyForm, Task]:
    task = Task.model_validate({"task_id": "t", "prompt": prompt, "labels": labels, "count": count, "seed": 0})
    return ReplyForm(task, CHECKS), task


@pytest.mark.parametrize(
    ("labels", "prompt"),
    [
        (("dog bark",), "label_only"),
        (("rain", "church bell", "siren"), "mixcap"),
        (("犬の鳴き声",), "revise"),
        (("r&b soul", "c++"), "plain"),
        (("a a", "a"), "plain"),
        ((" ".join(f"word{n}" for n in range(6)),), "plain"),
        (("dog bark",), "extract"),
    ],
)
def test_random_writing_that_keeps_to_the_form_is_a_reply_without_fault(labels: tuple[str, ...], prompt: str) -> None:
    """Tokens are drawn at random; one that does not fit is drawn again, and after sixty draws the ending helps."""
    kept, task = form(labels, prompt)
    draw, text = random.Random(1), ""
    while not kept.whole(text):
        tokens = ("".join(draw.choices(CHARACTERS, k=draw.choice([1, 1, 2]))) for _ in range(60))
        ending = kept.ending(text)
        text += next((token for token in tokens if kept.begins(text + token)), ending[:1])
        assert kept.begins(text) and len(text) < 1500
    checked = check_reply(text, task, CHECKS)
    assert checked.complete and checked.reasons == ()
    assert prompt == "extract" or len(checked.captions) >= task.count


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("{", True),
        ('{\n  "captions": [\n    "A dog bark', True),
        ('{"captions": ["a dog bark", "one dog bark"]}', True),
        ("Sure! {", False),
        ("<think>", False),
        ("```json", False),
        ('{"caption": ', False),
        ('{"captions": [""', False),
        ('{"captions": ["a cat"', False),
        ('{"captions": ["a cat', True),
        ('{"captions": ["a dog barks', True),
        ('{"captions": ["a dog barks"', False),
        ('{"captions": ["one two three four five six seven dog', False),
        ('{"captions": ["one two three four five six dog bark', True),
        ('{"captions": ["a dog bark"]', False),
        ('{"captions": ["a dog bark", "one dog bark", "a third dog bark"]}', True),
        ('{"captions": [' + ", ".join(['"a dog bark"'] * 8), False),
        ('{"captions": ["a dog bark <', False),
        ('{"captions": ["a dog bark", "one dog bark"]} Enjoy', False),
    ],
)
def test_only_the_beginning_of_a_good_reply_fits(text: str, fits: bool) -> None:
    assert form()[0].begins(text) is fits


def test_a_label_that_json_must_escape_leaves_the_model_free() -> None:
    assert not form(('say "woof"',))[0].usable and form()[0].usable


TEXTS = [
    '{"captions": ["A dog barks in a park with light wind.", "A loud dog bark near a road"]}',
    '{"events": ["loud and close"], "scenes": ["a small room", "wind in the trees"]}',
]


def byte_level() -> PreTrainedTokenizerFast:
    """Like Qwen's, Llama 3's, Mistral's newer one: bytes, with merges across quotation marks and brackets."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def metaspace() -> PreTrainedTokenizerFast:
    """Like Llama 2's and Gemma's: pieces that begin with a space, which is lost before the first one."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    alphabet = [*map(chr, range(33, 127)), "▁"]
    trainer = trainers.BpeTrainer(vocab_size=200, initial_alphabet=alphabet, special_tokens=["<unk>"])
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("make", [byte_level, metaspace])
@pytest.mark.parametrize("prompt", ["label_only", "extract"])
def test_tokens_of_every_kind_of_tokenizer_are_kept_to_the_form(
    make: Callable[[], PreTrainedTokenizerFast], prompt: str
) -> None:
    tokenizer = make()
    kept, task = form(prompt=prompt)
    end = tokenizer.eos_token_id
    keeping = KeepToForm(tokenizer, [kept, None], 1, [end])
    draw, written = torch.Generator().manual_seed(0), [0]
    while written[-1] != end and len(written) < 600:
        scores = torch.randn(2, len(tokenizer), generator=draw)
        chosen = keeping(torch.tensor([written, written]), scores)
        assert torch.equal(chosen[1], scores[1]), "a row without a form is free"
        assert int((chosen[0] > float("-inf")).sum()) == 1
        written.append(int(chosen[0].argmax()))
    checked = check_reply(tokenizer.decode(written[1:], skip_special_tokens=True), task, CHECKS)
    assert checked.complete and checked.reasons == ()
