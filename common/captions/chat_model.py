"""Captions from a local chat model through transformers."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LogitsProcessorList

from common.captions.constrained import KeepToForm, ReplyForm
from common.captions.records import Reply, Request
from common.captions.sampling import SeededSampling, loading, name_of, prepare
from common.config.captions import ChatModelConfig, CheckConfig
from common.contracts.generation import Price, Usage
from common.errors import ConfigError
from common.log import Progress, get_logger
from common.runtime.timing import model_time

log = get_logger("captions")


_OPEN_THOUGHT = re.compile(r"<(think|thinking)>\s*\Z")
"""End of a prompt whose template makes the model think first (DeepSeek-R1)."""


class ChatModelWriter:
    """A `CaptionWriter` on this machine's GPU or CPU; loaded at the first request that the cache cannot answer.

    Decoding is constrained to replies that pass the checks (`common.captions.constrained`). Templates that know a
    switch for thinking are asked for none.
    """

    def __init__(self, config: ChatModelConfig, checks: CheckConfig) -> None:
        self._config, self._checks = config, checks

    @cached_property
    def _loaded(self) -> tuple[Any, Any, list[int]]:
        """Tokenizer, model and end tokens. Raises ConfigError: the checkpoint cannot be loaded or has no template."""
        checkpoint = self._config.checkpoint
        with loading("chat model", checkpoint, "check writer.chat_model.checkpoint") as folder:
            # Left padding, because generation continues from the last position of every row.
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=checkpoint.dtype, use_safetensors=True)
        if not tokenizer.chat_template:
            raise ConfigError(f"{checkpoint.model} has no chat template; expected an instruction-tuned model")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, *prepare(model, tokenizer)

    @property
    def name(self) -> str:
        """Model id and commit."""
        return name_of(self._config.checkpoint)

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of each request, batch by batch; prompts of similar length share a batch."""
        if not requests:
            return
        prompts = [self._prompt(request) for request in requests]
        order = sorted(range(len(requests)), key=lambda index: (len(prompts[index]), requests[index].task.task_id))
        progress = Progress(log, "captions_written", len(requests))
        for start in range(0, len(order), self._config.batch_size):
            batch = order[start : start + self._config.batch_size]
            with model_time():
                replies = self._generate([prompts[index] for index in batch], [requests[index] for index in batch])
            yield from zip(batch, replies, strict=True)
            progress.advance(len(batch))

    def _prompt(self, request: Request) -> str:
        try:
            prompt = self._templated(request.messages)
        except TemplateError:
            # Gemma's template knows no system role.
            prompt = self._templated(
                [{"role": "user", "content": "\n\n".join(one["content"] for one in request.messages)}]
            )
        thought = _OPEN_THOUGHT.search(prompt)
        return f"{prompt.rstrip()}\n</{thought.group(1)}>\n\n" if thought else prompt

    def _templated(self, messages: Sequence[dict[str, str]]) -> str:
        return str(
            self._loaded[0].apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,  # Qwen3, GLM; templates ignore what they do not know
                thinking=False,  # Granite, DeepSeek-V3.1
            )
        )

    @torch.inference_mode()
    def _generate(self, prompts: list[str], requests: list[Request]) -> list[Reply]:
        tokenizer, model, ends = self._loaded
        # The template has already added the special tokens.
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = inputs.to(model.device)
        length = inputs["input_ids"].shape[1]
        limits = [self._config.max_new_tokens * request.room for request in requests]
        sampling = SeededSampling([request.seed for request in requests], self._config.temperature, self._config.top_p)
        forms = [ReplyForm(request.task, self._checks) for request in requests]
        keeping = KeepToForm(tokenizer, [form if form.usable else None for form in forms], length, ends)
        generated = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=GenerationConfig(max_new_tokens=max(limits), do_sample=False),
            logits_processor=LogitsProcessorList([sampling, keeping]),
        )
        rows = [row[:limit] for row, limit in zip(generated[:, length:].tolist(), limits, strict=True)]
        sent = inputs["attention_mask"].sum(dim=1).tolist()
        return [self._reply(row, tokens) for row, tokens in zip(rows, sent, strict=True)]

    def _reply(self, row: list[int], sent: int) -> Reply:
        tokenizer, _, ends = self._loaded
        end = next((position for position, token in enumerate(row) if token in ends), None)
        written = row if end is None else row[: end + 1]
        return Reply(
            text=tokenizer.decode(written, skip_special_tokens=True).strip(),
            failure="cut_off" if end is None and ends else None,
            usage=Usage(requests=1, paid=Price(input_tokens=sent, output_tokens=len(written))),
        )
