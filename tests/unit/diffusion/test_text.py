from __future__ import annotations

import pytest
import torch

from common.corpus.vocabulary import build_tokenizer, build_vocabulary
from common.diffusion.text import tokenize
from common.errors import DataError
from common.procedural.captions import write_caption
from common.procedural.clips import CLASSES
from common.records.text import template_caption
from common.runtime.seeding import numpy_generator

UNSEEN = ["accordion", "Children Playing", "GLASS-breaking", "naïve übung", "犬の鳴き声", "r2 d2!", "vacuum cleaner"]


def test_no_label_or_caption_is_truncated_or_unknown(tokenizer):
    captions = [write_caption(label, numpy_generator(i, label)) for label in CLASSES for i in range(20)]
    for caption in captions + [template_caption(label) for label in UNSEEN]:
        ids = tokenizer(caption.lower())["input_ids"]
        assert len(ids) <= tokenizer.model_max_length and tokenizer.unk_token_id not in ids, caption


def test_two_unseen_labels_have_different_embeddings(backend):
    condition = backend.condition([template_caption(label) for label in UNSEEN], [1.0] * len(UNSEEN))
    text = condition.cross.flatten(1)
    distances = torch.cdist(text, text) + 1e9 * torch.eye(len(text))
    assert distances.min() > 1e-2


def test_tokens_equal_those_of_the_stock_pipeline(tokenizer):
    caption = template_caption("dog bark")
    ids, mask = tokenize(tokenizer, [caption])
    stock = tokenizer([caption], padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    assert torch.equal(ids, stock.input_ids)
    assert torch.equal(mask, stock.attention_mask)
    assert ids[0, mask.sum() - 1] == tokenizer.eos_token_id


def test_case_does_not_matter(tokenizer):
    assert torch.equal(tokenize(tokenizer, ["Sound of a Dog"])[0], tokenize(tokenizer, ["sound of a dog"])[0])


def test_a_caption_that_is_too_long_is_cut_and_reported_once(tokenizer, monkeypatch):
    told = []
    monkeypatch.setattr("common.diffusion.text.event", lambda *_, **fields: told.append(fields["caption"]))
    long = "q" * 100
    for _ in range(3):
        ids, mask = tokenize(tokenizer, [long, "dog", long])
    assert ids.shape == mask.shape == (3, 64) and told == [long]


def test_a_vocabulary_without_special_pieces_is_an_error():
    with pytest.raises(DataError, match="<pad>"):
        build_tokenizer([("a", -1.0), ("b", -1.0), ("c", -1.0)], 64)


def test_saving_keeps_byte_fallback(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(UNSEEN)["input_ids"] == tokenizer(UNSEEN)["input_ids"]
    assert loaded.model_max_length == 64
    assert len(build_vocabulary(["a b"] * 2)) > 300
