"""Construction of a CLAP of any size from random weights, and its contrastive training on features of clips."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from common.audio.signal import resample
from common.clap.scorer import ClapScorer, audio_embeddings, text_embeddings, tokenize
from common.config.base import OptimConfig
from common.config.clap import ClapArchitecture
from common.corpus.vocabulary import EOS_ID, PAD_ID, Vocabulary, build_tokenizer
from common.runtime.seeding import derive_seed, epoch_rows
from common.storage.checkpoints import Checkpoints
from common.training import WHOLE, Curve, Part, fit

MAX_LOGIT_SCALE = 100.0
"""Upper limit of the learned temperature, as in CLIP (arXiv 2103.00020)."""


def build_clap(architecture: ClapArchitecture, vocabulary: Vocabulary, seed: int) -> ClapScorer:
    """Build a CLAP with random weights, for the pieces of a corpus."""
    tokenizer = build_tokenizer(vocabulary, architecture.max_tokens, for_clap=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "clap weights"))
        model = ClapModel(clap_config(architecture, len(tokenizer)))
    return ClapScorer(model, tokenizer, build_extractor(architecture))


def clap_config(architecture: ClapArchitecture, vocabulary_size: int) -> ClapConfig:
    """Convert an architecture to a `ClapConfig`."""
    audio = {
        "spec_size": architecture.spec_size,
        "num_mel_bins": architecture.mel_bins,
        "patch_size": architecture.patch_size,
        "patch_stride": [architecture.patch_size, architecture.patch_size],
        "patch_embeds_hidden_size": architecture.patch_width,
        "hidden_size": architecture.patch_width * 2 ** (len(architecture.depths) - 1),
        "depths": list(architecture.depths),
        "num_attention_heads": list(architecture.audio_heads),
        "num_hidden_layers": len(architecture.depths),
        "window_size": architecture.attention_window,
        "enable_fusion": False,
    }
    text = {
        "vocab_size": vocabulary_size,
        "hidden_size": architecture.text_width,
        "num_hidden_layers": architecture.text_layers,
        "num_attention_heads": architecture.text_heads,
        "intermediate_size": architecture.text_ff_width,
        # RoBERTa numbers positions from the padding token's id upwards.
        "max_position_embeddings": architecture.max_tokens + PAD_ID + 1,
        "pad_token_id": PAD_ID,
        "bos_token_id": EOS_ID,
        "eos_token_id": EOS_ID,
        "hidden_dropout_prob": architecture.dropout,
        "attention_probs_dropout_prob": architecture.dropout,
    }
    return ClapConfig(audio_config=audio, text_config=text, projection_dim=architecture.projection_dim)


def build_extractor(architecture: ClapArchitecture) -> ClapFeatureExtractor:
    """Build the feature extractor of an architecture; unfused checkpoints use `rand_trunc`."""
    return ClapFeatureExtractor(
        feature_size=architecture.mel_bins,
        sampling_rate=architecture.sample_rate_hz,
        hop_length=architecture.hop_length,
        max_length_s=architecture.window_s,
        fft_window_size=architecture.fft_size,
        frequency_min=architecture.frequency_min_hz,
        frequency_max=architecture.frequency_max_hz,
        truncation="rand_trunc",
        padding=architecture.padding,
    )


def freeze_batch_norm(model: nn.Module) -> None:
    """Freeze the statistics (evaluation mode) and weights of the batch norms.

    Small batches would spoil the statistics, and a resumed training would lack them, as they are not
    parameters. Training the weights at the input would double the cost of a step, because it needs a gradient
    through the folding of the spectrogram.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)


@torch.no_grad()
def set_input_statistics(model: ClapModel, features: Tensor) -> None:
    """Set mean and variance of each mel band in the input normalisation to those of (N, 1, frames, mel_bins)."""
    norm = model.audio_model.audio_encoder.batch_norm
    variance, mean = torch.var_mean(features.double(), dim=(0, 1, 2))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def soft_targets(keys: Sequence[Hashable]) -> Tensor:
    """Targets (B, B): each row has equal shares at the columns with an equal key.

    The plain contrastive loss would count a second clip with the same caption as a negative.
    """
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    ids = torch.tensor([numbers[key] for key in keys])
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(1, keepdim=True)


def contrastive_loss(
    model: ClapModel, features: Tensor, ids: Tensor, mask: Tensor, targets: Tensor, part: Part = WHOLE
) -> tuple[Tensor, float]:
    """Two-way cross-entropy of a batch's audio and texts.

    Args:
        features: (B, 1, frames, mel_bins).
        ids: (B, S) tokens; `mask` as they.
        targets: (G, G), from `soft_targets`, of the G rows that `part` gathers: all B of them with one process.
        part: the rows of other processes are negatives too.

    Returns the loss (scalar), and the share of clips whose nearest text is a matching one.
    """
    audio, text = part.gather(audio_embeddings(model, features)), part.gather(text_embeddings(model, ids, mask))
    similarity = audio @ text.T
    scales = [scale.exp().clamp(max=MAX_LOGIT_SCALE) for scale in (model.logit_scale_a, model.logit_scale_t)]
    best = similarity.detach().argmax(1, keepdim=True)
    accuracy = float((targets.gather(1, best) > 0).float().mean())
    return two_way_cross_entropy(similarity, targets, *scales), accuracy


def two_way_cross_entropy(similarity: Tensor, targets: Tensor, scale_audio: Tensor, scale_text: Tensor) -> Tensor:
    """Mean of audio-to-text and text-to-audio cross-entropy (arXiv 2211.06687), of (B, B) cosines, audio by text.

    Targets (B, B) are symmetric, rows sum to 1. transformers' own loss takes text-to-audio twice.
    """
    cross_entropy = nn.functional.cross_entropy
    by_audio, by_text = similarity * scale_audio, similarity.T * scale_text
    return 0.5 * (cross_entropy(by_audio, targets) + cross_entropy(by_text, targets))


def window_features(scorer: ClapScorer, clips: Iterable[np.ndarray], sample_rate_hz: int) -> tuple[Tensor, list[int]]:
    """Features (W, 1 or 4, frames, mel_bins) of all windows of clips (T,) in [-1, 1], and the clip of each row."""
    rows: list[Tensor] = []
    owners: list[int] = []
    for index, clip in enumerate(clips):
        clip = resample(clip, sample_rate_hz, scorer.sample_rate_hz)
        features = scorer.features(torch.from_numpy(scorer.features.windows(clip)))
        rows.append(features)
        owners += [index] * len(features)
    return torch.cat(rows), owners


def train_contrastive(
    scorer: ClapScorer,
    count: int,
    features: Callable[[list[int]], Tensor],
    told: Callable[[int], tuple[Sequence[str], str | None]],
    optim: OptimConfig,
    *,
    seed: int,
    name: str,
    equalizer_db: float = 0.0,
    checkpoints: Checkpoints | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    best: Callable[[Sequence[Mapping[str, float]]], int] | None = None,
) -> Curve:
    """Train the scorer's model in place, with all processes of `common.training.launch`.

    Args:
        scorer: holds the model; left in evaluation mode.
        count: number of windows; each is a row.
        features: of some rows, (rows, 1 or 4, frames, mel_bins); each process asks for its own only.
        told: of a row, one or more wordings, of which each step draws one, and a key. Two rows match each other's text
            if their keys are equal, or, where a key is null, if their wordings are.
        name: for log lines; enters every draw.
        equalizer_db: range of the random gains of `equalizer_gains`; 0 = none.

    Returns the curve of `common.training.fit`.
    """
    model = scorer.model
    freeze_batch_norm(model)

    def loss(step: int, generator: torch.Generator, part: Part) -> tuple[Tensor, dict[str, float]]:
        freeze_batch_norm(model)
        chosen = epoch_rows(count, optim.batch_size, step, seed, name, "epoch").tolist()
        drawn = torch.randint(0, 2**31 - 1, (len(chosen),), generator=generator).tolist()
        own, together = part.rows(len(chosen)), part.gathered_rows(len(chosen))
        with part.waiting.running():
            known = [told(row) for row in chosen]
            texts = [said[number % len(said)] for (said, _), number in zip(known, drawn, strict=True)]
            matching = [key if key is not None else text for (_, key), text in zip(known, texts, strict=True)]
            heard = features(chosen[own])
        ids, mask = tokenize(scorer.tokenizer, texts, model)
        if equalizer_db:
            heard = heard + equalizer_gains(len(chosen), heard.shape[-1], equalizer_db, generator)[own]
        device = model.device
        targets = soft_targets(matching[together]).to(device)
        value, accuracy = contrastive_loss(
            model, heard.to(device), ids[own].to(device), mask[own].to(device), targets, part
        )
        return value, {"batch_accuracy": accuracy}

    curve = fit(model, loss, optim, seed=seed, name=name, checkpoints=checkpoints, evaluate=evaluate, best=best)
    model.eval()
    return curve


def equalizer_gains(count: int, mel_bins: int, deviation_db: float, generator: torch.Generator) -> Tensor:
    """Draw random smooth equalisers for log-mel spectrograms (FilterAugment, arXiv 2110.03282).

    Returns (count, 1, 1, mel_bins) dB; `deviation_db` is the standard deviation at each of six points over the bands.
    """
    points = deviation_db * torch.randn(count, 1, 6, generator=generator)
    gains = torch.nn.functional.interpolate(points, mel_bins, mode="linear", align_corners=True)
    return gains[:, :, None, :]
