"""The embedded vocabulary: whole words of the corpus, letters, and bytes, so that any text has tokens.

A known word is one piece (`▁rain`). Any other word is spelled with letter pieces, and a character
of another script with its UTF-8 bytes (`<0xE4>`), so nothing becomes the unknown token. Letters have no
separate form at the start of a word: `▁` is a piece, so `p o p` (a word spelled out in a caption)
and `pop` (an unseen word) share the letter pieces seen in pretraining.

`T5Tokenizer` switches byte fallback off whenever it is built or loaded (transformers 5), so the
tokenizer is saved and loaded as `PreTrainedTokenizerFast`, which keeps it.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from common.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD_TOKEN, EOS_TOKEN, UNK_TOKEN = "<pad>", "</s>", "<unk>"
PAD_ID, EOS_ID, UNK_ID = 0, 1, 2
WORD_START = "\u2581"

_WORD = re.compile(r"[^\W_]+")
MAX_WORDS = 8000
"""Limit of whole words, the most frequent first."""
MIN_COUNT = 2
"""Rarer words are spelled, which also trains the letters."""
_LETTER_LOGPROB = -14.0
_BYTE_LOGPROB = -20.0

Vocabulary = list[tuple[str, float]]


def build_vocabulary(captions: Iterable[str]) -> Vocabulary:
    """Build pieces and log-probabilities for a Unigram tokenizer.

    Returns `(piece, logprob)`; the ids 0, 1, 2 are padding, end and unknown. Equal for the same multiset of captions in
    any order.
    """
    counts = Counter(word for caption in captions for word in _WORD.findall(caption.lower()))
    # The only one-letter word is `a`; other single letters come from words spelled out.
    words = [(word, n) for word, n in counts.items() if n >= MIN_COUNT and (len(word) > 1 or word == "a")]
    words.sort(key=lambda item: (-item[1], item[0]))
    words = words[:MAX_WORDS]
    total = max(1, sum(n for _, n in words))
    pieces: Vocabulary = [(PAD_TOKEN, 0.0), (EOS_TOKEN, 0.0), (UNK_TOKEN, 0.0)]
    pieces += [(WORD_START + word, round(math.log(n / total), 6)) for word, n in words]
    pieces.append((WORD_START, _LETTER_LOGPROB + 2))
    pieces += [(c, _LETTER_LOGPROB) for c in string.ascii_lowercase + string.digits + string.punctuation]
    pieces += [(f"<0x{byte:02X}>", _BYTE_LOGPROB) for byte in range(256)]
    return pieces


def build_tokenizer(
    vocabulary: Sequence[tuple[str, float]], max_length: int, for_clap: bool = False
) -> PreTrainedTokenizerFast:
    """Build the tokenizer of a vocabulary, `(piece, log probability)` by id: T5's unigram model.

    Texts are in lower case, words split at spaces, `</s>` is at the end; with `for_clap` at the beginning too, because
    CLAP takes the text embedding from the first token.

    Raises DataError: the first three pieces are not padding, end and unknown.
    """
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.models import Unigram
    from transformers import PreTrainedTokenizerFast

    found, expected = tuple(piece for piece, _ in vocabulary[:3]), (PAD_TOKEN, EOS_TOKEN, UNK_TOKEN)
    if found != expected:
        raise DataError(f"the vocabulary starts with {found}, expected {expected}: build the corpus again")
    tokenizer = Tokenizer(Unigram([(piece, logprob) for piece, logprob in vocabulary], UNK_ID, True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    spaces: dict[str, Any] = {"replacement": WORD_START, "prepend_scheme": "always", "split": True}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(**spaces)])
    texts: dict[str, Any] = {"single": ["$A", EOS_TOKEN], "pair": ["$A", EOS_TOKEN, "$B", EOS_TOKEN]}
    if for_clap:
        texts = {"single": [EOS_TOKEN, "$A", EOS_TOKEN]}
    tokenizer.post_processor = processors.TemplateProcessing(**texts, special_tokens=[(EOS_TOKEN, EOS_ID)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        unk_token=UNK_TOKEN,
        model_max_length=max_length,
        **{} if for_clap else {"model_input_names": ["input_ids", "attention_mask"]},
    )
