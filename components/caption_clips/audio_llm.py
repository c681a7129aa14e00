"""Captions from an audio LLM in transformers: Qwen2-Audio, or the Thinker of Qwen2.5-Omni."""

from collections.abc import Sequence

import torch
import transformers
from transformers import AutoConfig, AutoFeatureExtractor, AutoTokenizer, GenerationConfig, LogitsProcessorList

from common.captions.records import prompt_book
from common.captions.sampling import SeededSampling, loading, name_of, prepare
from common.config.captions import AudioLLMConfig
from common.errors import unknown_name
from components.caption_clips.acoustics import Recording

AUDIO_TOKEN = "<|AUDIO|>"

_AUDIO_TURN = {
    "qwen2_audio": f"Audio 1: <|audio_bos|>{AUDIO_TOKEN}<|audio_eos|>\n",
    "qwen2_5_omni": f"<|audio_bos|>{AUDIO_TOKEN}<|audio_eos|>",
    "qwen2_5_omni_thinker": f"<|audio_bos|>{AUDIO_TOKEN}<|audio_eos|>",
}
"""Text of a recording in the user's turn, by model type; from the chat templates of the published checkpoints."""


class AudioLLMCaptioner:
    """Captions from an audio LLM on the local GPU or CPU, one sentence each.

    Attributes:
        name: model and commit.
        batch_size: recordings per call.
        sample_rate_hz: of the model's feature extractor.

    Raises ConfigError: the checkpoint cannot be loaded, or its type is unknown.
    """

    def __init__(self, config: AudioLLMConfig) -> None:
        self._config, checkpoint = config, config.checkpoint
        advice = "check caption_clips.audio_llm.checkpoint, or set caption_clips.backend=acoustics"
        with loading("audio LLM", checkpoint, advice) as folder:
            model_type = AutoConfig.from_pretrained(folder).model_type
            self._prompt = audio_prompt(model_type)
            # Feature extractor and tokenizer only: Omni's own processor also needs libraries for images and video.
            self._extractor = AutoFeatureExtractor.from_pretrained(folder)
            # Left padding: generation continues from the last position of every row.
            self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            # Only the Thinker of Omni is loaded, which writes text; the talker, which speaks, is not needed.
            kind = "Qwen2Audio" if model_type == "qwen2_audio" else "Qwen2_5OmniThinker"
            model_class = getattr(transformers, f"{kind}ForConditionalGeneration")
            model = model_class.from_pretrained(folder, dtype=checkpoint.dtype, use_safetensors=True)
        self._model, _ = prepare(model, self._tokenizer)
        self.name, self.batch_size = name_of(checkpoint), config.batch_size
        self.sample_rate_hz = int(self._extractor.sampling_rate)

    @torch.inference_mode()
    def caption(self, recordings: Sequence[Recording], seeds: Sequence[int]) -> list[str]:
        """Captions of a batch; row i samples from its own generator, seeded with `seeds[i]`."""
        features = self._extractor(
            [recording.audio for recording in recordings],
            sampling_rate=self.sample_rate_hz,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        prompts = [
            self._prompt.replace(AUDIO_TOKEN, AUDIO_TOKEN * audio_tokens(int(frames)))
            for frames in features["attention_mask"].sum(dim=1)
        ]
        # The prompt already contains the special tokens.
        text = self._tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
        device = self._model.device
        generated = self._model.generate(
            input_ids=text["input_ids"].to(device),
            attention_mask=text["attention_mask"].to(device),
            input_features=features["input_features"].to(device, self._model.dtype),
            feature_attention_mask=features["attention_mask"].to(device),
            generation_config=GenerationConfig(max_new_tokens=self._config.max_new_tokens, do_sample=False),
            logits_processor=LogitsProcessorList([SeededSampling(seeds, self._config.temperature, self._config.top_p)]),
        )
        new = generated[:, text["input_ids"].shape[1] :]
        return [reply.strip() for reply in self._tokenizer.batch_decode(new, skip_special_tokens=True)]


def audio_prompt(model_type: str) -> str:
    """Chat with one recording, up to the assistant's turn; `AUDIO_TOKEN` marks the recording.

    Raises ConfigError: the model type is unknown.
    """
    if model_type not in _AUDIO_TURN:
        raise unknown_name("type of audio LLM", model_type, _AUDIO_TURN)
    return (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        f"{_AUDIO_TURN[model_type]}{prompt_book().audio_caption}<|im_end|>\n<|im_start|>assistant\n"
    )


def audio_tokens(frames: int) -> int:
    """Number of audio tokens for `frames` mel frames: a convolution and a pooling halve them, as in both models."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1
