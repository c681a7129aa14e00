"""Stand-ins for the published models that presets name: tiny, with the classes, layout and quirks of the real repositories.

What is known of those, and kept here: Stable Audio Open's configurations were written by an old diffusers from a
conversion script (`sample_size: 1024.0`), its tokenizer by an old transformers, and the same weights lie beside in one
file and as a pickle. LAION's CLAP is a pickle with buffers that its class no longer saves. Qwen's weights come in
several files with an index.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from common.models.registry import MODELS_FILE
from tests.kit.encoders import write_encoder
from tests.kit.hub import Hub, publish
from tests.kit.models import AST_ARCHITECTURE, CLAP_ARCHITECTURE, T2A_SHAPES, fill_zero_weights
from tests.kit.scripted import save_scripted_audio_llm, save_scripted_chat

STABLE_AUDIO = "stabilityai/stable-audio-open-1.0"
FLAN_T5 = "google/flan-t5-large"
CLAP = "laion/clap-htsat-unfused"
LARGER_CLAP = "laion/larger_clap_general"
WHISPER = "openai/whisper-small"
AST = "MIT/ast-finetuned-audioset-10-10-0.4593"
QWEN_AUDIO = "Qwen/Qwen2-Audio-7B-Instruct"
QWEN_CHAT = "Qwen/Qwen2.5-7B-Instruct"

OLD_DIFFUSERS = "0.30.0.dev0"
WORDS = ("sound of a", "a dog in a hall", "rain at night", "a low hum", "two quick taps")


def t5_tokenizer(max_length: int) -> Any:
    """A T5 tokenizer with a hundred extra ids; it knows a few words and the letters."""
    from transformers import T5Tokenizer

    from common.corpus.vocabulary import build_vocabulary

    return T5Tokenizer(vocab=build_vocabulary(WORDS * 2), extra_ids=100, model_max_length=max_length)


def age_t5_tokenizer(folder: Path, max_length: int) -> None:
    """Rewrite a saved tokenizer as transformers wrote it in 2024, with the sentencepiece model beside it."""
    extra = [f"<extra_id_{number}>" for number in range(100)]
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    settings = {
        "additional_special_tokens": extra,
        "clean_up_tokenization_spaces": True,
        "extra_ids": 100,
        "model_max_length": max_length,
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
        **special,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": extra, **special}))
    (folder / "spiece.model").write_bytes(b"\x0a\x0e no reader of today opens this")


def save_stable_audio(folder: Path) -> None:
    """A stereo pipeline at 44.1 kHz with 2,048 samples a latent frame."""
    import torch
    from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

    from common.config.t2a import PretrainT2AConfig
    from components.pretrain_t2a.architecture import build_pipeline

    torch.manual_seed(0)
    vae = AutoencoderOobleck(
        encoder_hidden_size=8,
        downsampling_ratios=[2, 4, 4, 8, 8],
        channel_multiples=[1, 1, 1, 1, 1],
        decoder_channels=4,
        decoder_input_channels=4,
        audio_channels=2,
        sampling_rate=44100,
    )
    # A constant offset in the decoded audio would have the filter turn all clips down.
    with torch.no_grad():
        for weight in vae.decoder.conv2.parameters():
            if weight.ndim == 3 and weight.shape[-1] > 1:
                weight -= weight.mean(-1, keepdim=True)
    shapes = {**T2A_SHAPES, "text_encoder": {**T2A_SHAPES["text_encoder"], "max_seconds": 512}}
    shapes |= {"sigma_min": 0.3, "sigma_max": 500.0}
    model = build_pipeline(PretrainT2AConfig.model_validate(shapes), vae, t5_tokenizer(128), seed=0)
    fill_zero_weights(model.transformer)
    model.save(folder)
    age_t5_tokenizer(folder / "tokenizer", 128)
    for path in folder.rglob("*config.json"):
        written = json.loads(path.read_text(encoding="utf-8"))
        if "_diffusers_version" in written:
            written["_diffusers_version"] = OLD_DIFFUSERS
        if path.parent.name == "transformer":
            written["sample_size"] = 1024.0
        path.write_text(json.dumps(written, indent=2), encoding="utf-8")
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index |= {"_diffusers_version": OLD_DIFFUSERS, "tokenizer": ["transformers", "T5TokenizerFast"]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    for name in ("model.safetensors", "model.ckpt", "vae_model.ckpt"):
        (folder / name).write_bytes(b"the same weights for another library")
    (folder / "model_config.json").write_text("{}", encoding="utf-8")
    sounds = "\n".join(["id,title,author,license,url", *(f"{n},t,a,cc0,https://freesound.org/s/{n}" for n in (7, 100))])
    (folder / "freesound_dataset_attribution2.csv").write_text(sounds + "\n", encoding="utf-8")
    (folder / "fma_dataset_attribution2.csv").write_text("id,title\n", encoding="utf-8")
    _about(folder)


def save_flan_t5(folder: Path) -> None:
    """A T5 of encoder and decoder."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = t5_tokenizer(512)
    torch.manual_seed(1)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    age_t5_tokenizer(folder, 512)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    _about(folder)


def save_clap(folder: Path) -> None:
    """A CLAP without safetensors; buffers that older versions of its class saved are in the pickle."""
    import torch

    from common.clap.training import build_clap
    from common.corpus.vocabulary import build_vocabulary

    scorer = build_clap(CLAP_ARCHITECTURE.model_copy(update={"max_tokens": 512}), build_vocabulary(WORDS * 2), seed=1)
    scorer.save(folder)
    positions = torch.arange(scorer.model.config.text_config.max_position_embeddings).expand(1, -1)
    state = {**scorer.model.state_dict(), "text_model.embeddings.position_ids": positions}
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    _about(folder)


def save_ast(folder: Path) -> None:
    """An AST with AudioSet's number of labels."""
    from common.classifier.model import build_classifier, save_classifier

    labels = [f"label {number}" for number in range(527)]
    save_classifier(build_classifier(AST_ARCHITECTURE, labels, -4.2677393, 4.5689974, 0), folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    _about(folder)


def save_whisper(folder: Path) -> None:
    """A Whisper of encoder and decoder."""
    write_encoder("whisper", folder)
    (folder / "pytorch_model.bin").write_bytes(b"the same weights")
    _about(folder)


def _about(folder: Path) -> None:
    for name in (".gitattributes", "README.md", "LICENSE.md"):
        (folder / name).write_text("About this model.\n", encoding="utf-8")


def publish_models(hub: Hub, folder: Path, labels: Sequence[str], names: Sequence[str]) -> None:
    """Let the server have stand-ins at the commits of `models.yaml`, gated as the real ones are.

    Args:
        folder: for their files.
        labels: what the chat model writes captions for.
        names: hub ids.
    """
    listed = yaml.safe_load(MODELS_FILE.read_text(encoding="utf-8"))
    writers: dict[str, Callable[[Path], None]] = {
        STABLE_AUDIO: save_stable_audio,
        FLAN_T5: save_flan_t5,
        CLAP: save_clap,
        LARGER_CLAP: save_clap,
        WHISPER: save_whisper,
        AST: save_ast,
        QWEN_AUDIO: save_scripted_audio_llm,
        QWEN_CHAT: partial(save_scripted_chat, labels=labels),
    }
    for name in names:
        path = folder / name
        path.mkdir(parents=True)
        writers[name](path)
        publish(hub, name, listed[name]["revision"], path)
        if listed[name]["gated"]:
            hub.gated.add(name)


def list_stand_ins(hub: Hub, models_file: Path) -> None:
    """Put the hashes of the stand-ins where a `models.yaml` has those of the real files."""
    listed = yaml.safe_load(models_file.read_text(encoding="utf-8"))
    for (name, _), files in hub.files.items():
        entry = listed[name]
        entry["sha256"] = {file: _sha256(files[file]) for file in entry["sha256"]}
        if "convert" in entry:
            entry["convert"]["sha256"] = _sha256(files[entry["convert"]["file"]])
    models_file.write_text(yaml.safe_dump(listed), encoding="utf-8")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ESC50_LABELS = ("dog", "rain")
ESC50_CLIPS = 3
"""Recordings of each label in each fold."""


def write_esc50(root: Path) -> Path:
    """A miniature ESC-50 in its native layout: two categories, five folds, stereo-free waves at 44.1 kHz."""
    import soundfile

    rows = ["filename,fold,target,category,esc10,src_file,take"]
    (root / "audio").mkdir(parents=True)
    (root / "meta").mkdir()
    time = np.arange(22050) / 44100
    for fold in range(1, 6):
        for target, label in enumerate(ESC50_LABELS):
            for number in range(ESC50_CLIPS):
                source = 1000 * fold + 100 * target + number
                rng = np.random.default_rng(source)
                tone = np.sin(2 * np.pi * 500 * time) * (target == 0)
                name = f"{fold}-{source}-A-{target}.wav"
                soundfile.write(root / "audio" / name, 0.2 * tone + 0.05 * rng.standard_normal(len(time)), 44100)
                rows.append(f"{name},{fold},{target},{label},True,{source},A")
    (root / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root
