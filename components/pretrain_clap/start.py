"""What the training of a CLAP starts from: a published checkpoint, verified, or random weights."""

from __future__ import annotations

import numpy as np
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel

from common.clap.model import build_clap
from common.clap.scorer import ClapScorer
from common.config.clap import PretrainClapConfig
from common.errors import ConfigError
from common.models import locate
from common.text import template_caption
from common.vocabulary import Vocabulary

FILES = ("*.json", "*.txt", "*.safetensors")


def starting_point(settings: PretrainClapConfig, vocabulary: Vocabulary, seed: int) -> ClapScorer:
    """The published checkpoint, verified, or random weights.

    Raises:
        ConfigError: the checkpoint cannot be had, lacks weights, or is no CLAP with safetensors.
    """
    if settings.checkpoint is None:
        return build_clap(settings.architecture, vocabulary, seed)
    name, revision = settings.checkpoint, settings.revision
    folder = locate(name, revision, FILES)
    try:
        model, loading = ClapModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        extractor = ClapFeatureExtractor.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
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
