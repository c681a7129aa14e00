"""Captions from a local chat model through transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessorList

from common.captions.records import Price, Reply, Request, Usage
from common.captions.sampling import SeededSampling, default_device
from common.config.captions import ChatModelConfig
from common.errors import ConfigError
from common.log import Progress, get_logger
from common.models.registry import locate
from common.runtime.timing import model_time

log = get_logger("captions")


class ChatModelWriter:
    """A `CaptionWriter` on this machine's GPU or CPU; loaded at the first request that the cache cannot answer."""

    def __init__(self, config: ChatModelConfig) -> None:
        self._config = config

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """Tokenizer and model.

        Raises:
            ConfigError: the checkpoint cannot be loaded or has no chat template.
        """
        checkpoint = self._config.checkpoint
        try:
            folder = locate(checkpoint.model, checkpoint.revision)
            # Left padding, because generation continues from the last position of every row.
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=checkpoint.dtype, use_safetensors=True)
        except (ConfigError, OSError, ValueError) as error:
            raise ConfigError(
                f"cannot load the chat model {checkpoint.model}: {str(error).splitlines()[0]}; expected a "
                "transformers checkpoint with safetensors; check writer.chat_model.checkpoint"
            ) from error
        if not tokenizer.chat_template:
            raise ConfigError(f"{checkpoint.model} has no chat template; expected an instruction-tuned model")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, model.to(default_device()).eval()

    @property
    def name(self) -> str:
        """Model id and commit."""
        return f"transformers:{self._config.checkpoint.model}@{(self._config.checkpoint.revision or 'local')[:12]}"

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of each request, batch by batch; prompts of similar length share a batch."""
        if not requests:
            return
        tokenizer, _ = self._loaded
        prompts = [
            tokenizer.apply_chat_template(
                [message.model_dump() for message in request.messages], tokenize=False, add_generation_prompt=True
            )
            for request in requests
        ]
        order = sorted(range(len(requests)), key=lambda index: (len(prompts[index]), requests[index].task.task_id))
        progress = Progress(log, "captions_written", len(requests))
        for start in range(0, len(order), self._config.batch_size):
            batch = order[start : start + self._config.batch_size]
            with model_time():
                replies = self._generate([prompts[index] for index in batch], [requests[index].seed for index in batch])
            yield from zip(batch, replies, strict=True)
            progress.advance(len(batch))

    @torch.inference_mode()
    def _generate(self, prompts: list[str], seeds: list[int]) -> list[Reply]:
        tokenizer, model = self._loaded
        # The template has already added the special tokens.
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(model.device)
        generated = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=GenerationConfig(
                max_new_tokens=self._config.max_new_tokens,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=model.generation_config.eos_token_id or tokenizer.eos_token_id,
            ),
            logits_processor=LogitsProcessorList([SeededSampling(seeds, self._config.temperature, self._config.top_p)]),
        )
        new = generated[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        sent = inputs["attention_mask"].sum(dim=1).tolist()
        written = (new != tokenizer.pad_token_id).sum(dim=1).tolist()
        return [
            Reply(text=text.strip(), usage=Usage(requests=1, paid=Price(input_tokens=i, output_tokens=o)))
            for text, i, o in zip(texts, sent, written, strict=True)
        ]
