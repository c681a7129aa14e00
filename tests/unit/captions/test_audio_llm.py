from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2AudioProcessor

from common.captions.records import prompt_book
from common.config.captions import AudioLLMConfig, CaptionClipsConfig, Checkpoint
from common.errors import ConfigError
from components.caption_clips.acoustics import Recording
from components.caption_clips.audio_llm import AUDIO_TOKEN, AudioLLMCaptioner, audio_prompt, audio_tokens
from components.caption_clips.captioning import checked_captions
from tests.kit.clips import gold_clip
from tests.unit.captions.small_models import (
    byte_tokenizer,
    feature_extractor,
    save_chat_model,
    save_omni_thinker,
    save_qwen2_audio,
)


def recordings(count: int) -> list[Recording]:
    made = []
    for index in range(count):
        length = 6000 + 2000 * index
        audio = np.random.default_rng(index).standard_normal(length).astype(np.float32) * 0.1
        clip = gold_clip(f"clip{index}", "dog bark", duration_s=length / 16000)
        made.append(Recording(clip, audio))
    return made


def settings(folder: Path, temperature: float = 1.0) -> AudioLLMConfig:
    return AudioLLMConfig(
        checkpoint=Checkpoint(model=str(folder), revision=None), max_new_tokens=6, temperature=temperature, batch_size=4
    )


@pytest.mark.parametrize("save", [save_qwen2_audio, save_omni_thinker])
def test_a_caption_depends_on_its_clip_and_seed_only(save: Callable[[Path], Path], tmp_path: Path) -> None:
    captioner = AudioLLMCaptioner(settings(save(tmp_path)))
    clips = recordings(3)
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    captions = captioner.caption(clips, [1, 2, 3])
    assert torch.equal(before, torch.random.get_rng_state())
    assert captioner.caption(clips[::-1], [3, 2, 1]) == captions[::-1]
    assert captioner.caption(clips[:1], [1]) == captions[:1]
    assert captioner.caption(clips, [4, 5, 6]) != captions
    assert captioner.sample_rate_hz == 16000


def test_the_checkpoints_own_sampling_settings_do_not_apply(tmp_path: Path) -> None:
    folder = save_qwen2_audio(tmp_path)
    plain = AudioLLMCaptioner(settings(folder)).caption(recordings(2), [1, 2])
    file = folder / "generation_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"repetition_penalty": 9.0, "suppress_tokens": [*range(99)]})
    )
    assert AudioLLMCaptioner(settings(folder)).caption(recordings(2), [1, 2]) == plain


def test_the_prompt_is_what_the_models_own_processor_makes() -> None:
    processor = Qwen2AudioProcessor(feature_extractor(), byte_tokenizer(), chat_template=None)
    processor.chat_template = processor.default_chat_template
    content = [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": prompt_book().audio_caption}]
    chat = [{"role": "user", "content": content}]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert audio_prompt("qwen2_audio") == text
    for recording in recordings(3):
        ids = processor(text=text, audio=[recording.audio], sampling_rate=16000, return_tensors="pt")
        frames = int(ids["feature_attention_mask"].sum())
        wanted = int((ids["input_ids"] == processor.audio_token_id).sum())
        assert audio_tokens(frames) == wanted
        expanded = text.replace(AUDIO_TOKEN, AUDIO_TOKEN * wanted)
        assert processor.tokenizer(expanded, add_special_tokens=False)["input_ids"] == ids["input_ids"][0].tolist()


def test_noise_from_a_random_model_is_replaced_by_the_measured_caption(tmp_path: Path) -> None:
    captioner = AudioLLMCaptioner(settings(save_qwen2_audio(tmp_path)))
    captions, refusals = checked_captions(recordings(4), [1, 2, 3, 4], captioner, CaptionClipsConfig())
    assert len(captions) == len(refusals) == 4
    assert all("dog bark" in one.caption and one.captioner == "acoustics/1" for one in captions)


def test_a_model_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_chat_model(tmp_path)
    feature_extractor().save_pretrained(folder)
    with pytest.raises(ConfigError, match="type of audio LLM 'qwen2'"):
        AudioLLMCaptioner(settings(folder))


def test_a_missing_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"caption_clips\.backend=acoustics"):
        AudioLLMCaptioner(settings(tmp_path / "absent"))


def test_a_branch_instead_of_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="40 hex digits"):
        Checkpoint(model="Qwen/Qwen2-Audio-7B-Instruct", revision="main")
