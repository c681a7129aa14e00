"""Configuration of a whole run: a preset, with overrides."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field

from common.config.base import SCOPE, Frozen
from common.config.captions import AugmentCaptionsConfig, CaptionClipsConfig, ReviseCaptionsConfig
from common.config.clap import FilterAudioConfig, FinetuneClapConfig, PretrainClapConfig, RetrieveAudioConfig
from common.config.classifier import PretrainClassifierConfig
from common.config.corpus import PrepareCorpusConfig
from common.config.dataset import PrepareDatasetConfig
from common.config.evaluation import EvaluateClassifierConfig
from common.config.licence import DeclaredUse
from common.config.overrides import validated, with_overrides
from common.config.recipes import MAX_ROUNDS
from common.config.t2a import AlignT2AConfig, PretrainT2AConfig, SynthesizeAudioConfig
from common.config.train_classifier import TrainClassifierConfig
from common.errors import unknown_name

AUTO_FACTORS = (1, 2, 4, 8)
"""Factors tried by `augmentation_factor: auto`."""

PRESETS_DIR = Path(__file__).parent / "presets"


class RunConfig(Frozen):
    """Every setting of a run, one section per stage."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="of everything that replicates share")
    scope: str = Field(
        default="",
        pattern=SCOPE,
        description="place in the store where finished work is kept and looked for, apart from that of other runs: a "
        "run with a new one makes everything itself. Empty = the place that runs share",
    )
    rounds: int = Field(default=3, ge=0, le=MAX_ROUNDS, description="of self-reflection; official code: at most 3")
    augmentation_factor: Annotated[int, Field(ge=1, le=20)] | Literal["auto"] = Field(
        default=2,
        description="synthetic clips per gold clip; official code: 2. auto: validation chooses among 1, 2, 4 and 8 for "
        "each method and replicate, at the price of 8 clips and four trainings",
    )
    losers_per_clip: int = Field(default=2, ge=1, description="j of the paper; official code: 2")
    use: DeclaredUse = Field(
        default="research",
        description="what the run's models and clips are for; `plan` refuses data and models whose licence forbids it",
    )
    prepare_corpus: PrepareCorpusConfig
    pretrain_t2a: PretrainT2AConfig
    pretrain_clap: PretrainClapConfig
    pretrain_classifier: PretrainClassifierConfig
    prepare_dataset: PrepareDatasetConfig
    finetune_clap: FinetuneClapConfig
    retrieve_audio: RetrieveAudioConfig = RetrieveAudioConfig()
    caption_clips: CaptionClipsConfig
    synthesize_audio: SynthesizeAudioConfig
    align_t2a: AlignT2AConfig
    augment_captions: AugmentCaptionsConfig
    filter_audio: FilterAudioConfig
    revise_captions: ReviseCaptionsConfig
    train_classifier: TrainClassifierConfig
    evaluate_classifier: EvaluateClassifierConfig

    @property
    def augmentation_factors(self) -> tuple[int, ...]:
        """Factors that validation chooses from, ascending; a single one unless `auto`."""
        return AUTO_FACTORS if self.augmentation_factor == "auto" else (self.augmentation_factor,)


@cache
def preset_names() -> tuple[str, ...]:
    """Names of the presets in `PRESETS_DIR`, sorted."""
    return tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.yaml")))


def load_preset(name: str, overrides: str = "") -> RunConfig:
    """Load preset `name` with `overrides` applied.

    Args:
        name: a file in `PRESETS_DIR`, without `.yaml`.

    Raises ConfigError: unknown preset, unknown field (the message lists near ones), or a bad value.
    """
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    values = yaml.safe_load((PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    return with_overrides(validated(RunConfig, values, f"preset {name}"), overrides)


def with_reused_t2a(config: RunConfig, uri: str) -> RunConfig:
    """Set `config` to reuse an earlier run's text-to-audio model at `uri` instead of training; "" changes nothing.

    Raises ConfigError: the model cannot be reused with these settings.
    """
    if not uri:
        return config
    values = config.model_dump()
    values["pretrain_t2a"]["reuse"] = uri
    return validated(RunConfig, values, f"reuse_t2a_from {uri!r}")


def with_llm_endpoint(config: RunConfig, address: str) -> RunConfig:
    """Set `config` to write and revise captions with the OpenAI-compatible server at `address`; "" changes nothing.

    The requested model stays that of the settings, `augment_captions.writer.endpoint.model`.

    Raises ConfigError: `address` is not the URL of a server, or contains credentials.
    """
    if not address:
        return config
    values = config.model_dump()
    for stage in ("augment_captions", "revise_captions"):
        writer = values[stage]["writer"]
        writer["backend"], writer["endpoint"]["base_url"] = "endpoint", address
    # The message omits the address, which may contain the credentials that it is refused for.
    return validated(RunConfig, values, "llm_endpoint", secret=True)
