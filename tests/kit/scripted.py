"""Tiny language models of the published classes that write given replies, whatever they are asked.

Attention and feed-forward layers add nothing, so the next token depends on the last one alone: the weights are a list of
which token follows which. Where several may follow, sampling chooses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
AUDIO = ["<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>"]
SHARD = "60KB"
"""Weights are published in several files with an index."""

Stages = Sequence[Sequence[str]]
"""Pieces of a reply in order: the texts that may stand at each place. A text stands at one place only."""


def caption_script(labels: Sequence[str], captions: int = 5) -> dict[str, Stages]:
    """Replies of a caption writer: `captions` captions a label, of eight wordings each, and elements of a caption."""
    adjectives = ("near", "distant", "soft", "loud", "short", "long", "faint", "sudden")
    places = ("in a hall", "in a yard", "at night", "by a road", "at dawn", "in a room", "on a hill", "at noon")
    script: dict[str, Stages] = {
        "<|extract|>": [
            ['{"events": ["a low hum"', '{"events": ["two quick taps"'],
            ['], "scenes": ["an empty hall"]}', '], "scenes": ["a quiet street"]}'],
        ]
    }
    for label in labels:
        stages = []
        for number in range(captions):
            opened = '{"captions": ["' if number == 0 else '", "'
            texts = [
                f"a {adjective} {label} {places[(index + number) % 8]}" for index, adjective in enumerate(adjectives)
            ]
            stages.append([f"{opened}{text}" for text in texts])
        script[f"<|{label}|>"] = [*stages, [f'", "the last {label}"]}}']]
    return script


def chat_template(labels: Sequence[str]) -> str:
    """Template of a chat whose last token says which reply follows."""
    chosen = "".join(f'{{% if \'"label": "{label}"\' in said %}}<|{label}|>{{% endif %}}' for label in labels)
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n{% set said = messages[-1]['content'] %}"
        '{% if \'"scenes": ["phrase"\' in said %}<|extract|>{% else %}' + chosen + "{% endif %}"
    )


def scripted_tokenizer(script: Mapping[str, Stages], special: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the script's pieces as tokens, which no text is ever split into."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = [text for stages in script.values() for stage in stages for text in stage]
    written = [level.pre_tokenize_str(text)[0][0] for text in dict.fromkeys(pieces)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([*alphabet, *written]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    starts = [token for token in script if len(token) > 1]
    fast.add_special_tokens({"additional_special_tokens": [*dict.fromkeys([*special, *starts])]})
    return fast


def text_sizes(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Settings of a Qwen2 of one layer."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }


def write_script(model: Any, tokenizer: PreTrainedTokenizerFast, script: Mapping[str, Stages]) -> None:
    """Set the weights of a Qwen2, so that each start token (or the character it names) leads to its reply."""
    import torch

    def token(text: str) -> int:
        found: int = tokenizer.convert_tokens_to_ids(
            text if text in script else tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0]
        )
        return found

    body = getattr(model, "language_model", model)
    body = getattr(body, "model", body)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                weight.zero_()
        embedding = body.get_input_embeddings().weight
        embedding.zero_()
        head.weight.zero_()
        state = 0
        for start, stages in script.items():
            before = [token(start)] if len(start) > 1 else [tokenizer.convert_tokens_to_ids("Ċ")]
            for stage in [*stages, None]:
                after = [tokenizer.eos_token_id] if stage is None else [token(text) for text in stage]
                embedding[before, state] = 1.0
                head.weight[after, state] = 8.0
                before, state = after, state + 1
    assert state <= embedding.shape[1], f"{state} places in replies, {embedding.shape[1]} fit"


def save_scripted_chat(folder: Path, labels: Sequence[str]) -> None:
    """A Qwen2 that writes captions of the labels as JSON, in the layout of Qwen2.5-7B-Instruct's repository."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    script = caption_script(labels)
    tokenizer = scripted_tokenizer(script, CHAT)
    tokenizer.chat_template = chat_template(labels)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**text_sizes(tokenizer)))
    write_script(model, tokenizer, script)
    model.generation_config = GenerationConfig(
        do_sample=True,
        repetition_penalty=1.05,
        temperature=0.7,
        top_k=20,
        top_p=0.8,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)


def save_scripted_audio_llm(folder: Path) -> None:
    """A Qwen2-Audio that says one of four sentences of any recording, in the layout of its repository."""
    import torch
    from transformers import Qwen2AudioConfig, Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

    said = [f"A {sound} is heard in {place}." for sound in ("low hum", "sharp click") for place in ("a hall", "rain")]
    script: dict[str, Stages] = {"\n": [said]}
    tokenizer = scripted_tokenizer(script, [*CHAT, *AUDIO])
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "d_model": 16,
            "max_source_positions": 50,
        },
        text_config={"model_type": "qwen2", **text_sizes(tokenizer)},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    torch.manual_seed(0)
    model = Qwen2AudioForConditionalGeneration(config)
    write_script(model, tokenizer, script)
    model.save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(
        feature_size=16, sampling_rate=16000, hop_length=160, chunk_length=1, n_fft=400
    ).save_pretrained(folder)
