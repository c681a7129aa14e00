"""Start, train and judge a CLAP on the captioned corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from common.audio import resample, to_mono
from common.clap.model import build_clap, set_input_statistics
from common.clap.scorer import ClapScorer
from common.clap.training import retrieval_figures, train_contrastive, window_features
from common.config.clap import PretrainClapConfig
from common.corpus import CorpusClip
from common.errors import ConfigError
from common.text import template_caption
from common.vocabulary import Vocabulary


def starting_point(settings: PretrainClapConfig, vocabulary: Vocabulary, seed: int) -> ClapScorer:
    """The published checkpoint, verified, or random weights.

    Raises:
        ConfigError: the checkpoint cannot be had, lacks weights, or is no CLAP with safetensors.
    """
    if settings.checkpoint is None:
        return build_clap(settings.architecture, vocabulary, seed)
    name, revision = settings.checkpoint, settings.revision
    try:
        model, loading = ClapModel.from_pretrained(
            name, revision=revision, use_safetensors=True, output_loading_info=True
        )
        extractor = ClapFeatureExtractor.from_pretrained(name, revision=revision)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"pretrain_clap.checkpoint {name!r} at revision {revision!r}: {error}. Expected a ClapModel with "
            "safetensors weights; set checkpoint to a name or directory, or to null to train one"
        ) from error
    if loading["missing_keys"]:
        raise ConfigError(f"checkpoint {name!r} lacks weights: {', '.join(sorted(loading['missing_keys'])[:5])}")
    return _verified(ClapScorer(model, tokenizer, extractor), name)


def _verified(scorer: ClapScorer, name: str) -> ClapScorer:
    """Embed a sound and two texts: a broken or mismatched checkpoint shows at once."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(scorer.sample_rate_hz).astype(np.float32)
    rows = np.concatenate(
        [scorer.embed_audio([noise], scorer.sample_rate_hz), scorer.embed_text([template_caption("rain"), "a violin"])]
    )
    if not np.isfinite(rows).all() or np.abs(np.linalg.norm(rows, axis=1) - 1).max() > 1e-3:
        raise ConfigError(f"checkpoint {name!r} gives no unit-norm embeddings: choose another one")
    if float(rows[1] @ rows[2]) > 0.999:
        raise ConfigError(f"checkpoint {name!r} embeds different texts alike: choose another one")
    return scorer


def pretrain(
    scorer: ClapScorer, clips: Iterable[CorpusClip], settings: PretrainClapConfig, *, seed: int, checkpoint_dir: Path
) -> list[dict[str, float]]:
    """Train on the corpus's training clips, in place; returns the curve.

    Args:
        scorer: from `starting_point`.
        clips: at most `settings.max_clips` of them are used.
        settings: `optim` must be given.
        seed: enters every draw.
        checkpoint_dir: where unfinished work is kept.

    Raises:
        ConfigError: `optim` is null.
    """
    if settings.optim is None:
        raise ConfigError("pretrain_clap.optim is null: there is nothing to train")
    texts: list[list[str]] = []
    keys: list[str | None] = []

    def audio() -> Iterator[np.ndarray]:
        for clip in islice(clips, settings.max_clips):
            label = clip.label if settings.use_labels else None
            texts.append([clip.caption] if label is None else [clip.caption, template_caption(label)])
            keys.append(label)
            yield resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz)

    features, owners = window_features(scorer, audio(), scorer.sample_rate_hz)
    if settings.checkpoint is None:
        set_input_statistics(scorer.model, features)
    if torch.cuda.is_available():
        scorer.model.to("cuda")
    return train_contrastive(
        scorer,
        features,
        [texts[owner] for owner in owners],
        [keys[owner] for owner in owners],
        settings.optim,
        seed=seed,
        name="pretrain_clap",
        equalizer_db=settings.equalizer_db,
        checkpoint_dir=checkpoint_dir,
    )


def judge(scorer: ClapScorer, clips: Iterable[CorpusClip], max_clips: int) -> dict[str, float]:
    """Retrieval figures on held-out clips: of label prompts where there are labels, else of captions.

    Clips without a label are left out where others have one.
    """
    audio: list[np.ndarray] = []
    labels: list[str | None] = []
    captions: list[str] = []
    for clip in islice(clips, max_clips):
        audio.append(resample(to_mono(clip.audio), clip.sample_rate_hz, scorer.sample_rate_hz))
        labels.append(clip.label)
        captions.append(clip.caption)
    texts = [template_caption(label) if label is not None else None for label in labels] if any(labels) else captions
    kept = [index for index, text in enumerate(texts) if text is not None]
    distinct = sorted({text for text in texts if text is not None})
    if len(distinct) < 2:
        return {}
    similarity = scorer.embed_audio([audio[i] for i in kept], scorer.sample_rate_hz) @ scorer.embed_text(distinct).T
    return {**retrieval_figures(similarity, [distinct.index(str(texts[i])) for i in kept]), "clips": float(len(kept))}
