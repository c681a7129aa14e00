from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerFast

from common.corpus.vocabulary import (
    EOS_ID,
    EOS_TOKEN,
    PAD_TOKEN,
    UNK_ID,
    UNK_TOKEN,
    WORD_START,
    build_tokenizer,
    build_vocabulary,
)
from common.procedural.captions import spell, write_caption
from common.procedural.clips import CLASSES, render_clip


def corpus_captions(count: int = 700) -> list[str]:
    captions = []
    for index in range(count):
        rng = np.random.default_rng(index)
        label = CLASSES[index % len(CLASSES)]
        captions.append(write_caption(label, rng, render_clip(label, rng, 0.1, 16000).attributes))
    return captions


CAPTIONS = corpus_captions()
VOCABULARY = build_vocabulary(CAPTIONS)


def test_the_order_of_captions_does_not_matter() -> None:
    assert build_vocabulary(reversed(CAPTIONS)) == VOCABULARY


def test_pieces_are_unique_and_the_first_three_are_special() -> None:
    pieces = [piece for piece, _ in VOCABULARY]
    assert pieces[:3] == [PAD_TOKEN, EOS_TOKEN, UNK_TOKEN]
    assert len(set(pieces)) == len(pieces)


def test_every_label_word_is_one_piece() -> None:
    pieces = {piece for piece, _ in VOCABULARY}
    assert {WORD_START + word for label in CLASSES for word in label.split()} <= pieces


def test_corpus_captions_fit_in_64_tokens_without_unknown_ones() -> None:
    tokenizer = build_tokenizer(VOCABULARY, 64).backend_tokenizer
    rows = [tokenizer.encode(caption).ids for caption in CAPTIONS]
    assert all(row[-1] == EOS_ID and UNK_ID not in row for row in rows)
    assert max(map(len, rows)) <= 64


def test_an_unseen_word_uses_letters_that_spelled_captions_have_trained() -> None:
    tokenizer = build_tokenizer(VOCABULARY, 64).backend_tokenizer
    trained = {token for caption in CAPTIONS for token in tokenizer.encode(caption).ids}
    unseen = tokenizer.encode("sound of a klaxon").tokens[3:-1]
    assert "".join(unseen) == WORD_START + "klaxon"
    letters = set("".join(CLASSES).replace(" ", ""))
    assert {tokenizer.token_to_id(letter) for letter in letters} <= trained
    assert tokenizer.encode(spell("pop")).tokens[:-1] == [WORD_START, "p", WORD_START, "o", WORD_START, "p"]


def test_texts_of_any_script_survive_saving_in_a_plain_fast_tokenizer(tmp_path: object) -> None:
    fast = build_tokenizer(VOCABULARY, 64)
    fast.save_pretrained(tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in ('ünïcode 中文 label "x"', "дождь", "🎧", "a/b ../c", "x" * 40):
        ids = loaded(text).input_ids
        assert UNK_ID not in ids
        assert ids == fast(text).input_ids
        assert loaded.decode(ids, skip_special_tokens=True) == text
