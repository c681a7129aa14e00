"""Configuration of a whole run: a preset, with `section.field=value` overrides, and errors in one line."""

import copy
import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from common.config.base import SCOPE, Count, Frozen
from common.config.captions import AugmentCaptionsConfig, CaptionClipsConfig, ReviseCaptionsConfig
from common.config.clap import FilterAudioConfig, FinetuneClapConfig, PretrainClapConfig, RetrieveAudioConfig
from common.config.classifier import PretrainClassifierConfig
from common.config.corpus import PrepareCorpusConfig
from common.config.dataset import DeclaredUse, PrepareDatasetConfig
from common.config.evaluation import EvaluateClassifierConfig
from common.config.methods import METHODS
from common.config.recipes import MAX_ROUNDS
from common.config.t2a import AlignT2AConfig, PretrainT2AConfig, SynthesizeAudioConfig
from common.config.train_classifier import TrainClassifierConfig
from common.errors import ConfigError, unknown_name

AUTO_FACTORS = (1, 2, 4, 8)
"""Factors tried by `augmentation_factor: auto`."""

Settings = TypeVar("Settings", bound=Frozen)

PRESETS_DIR = Path(__file__).parent / "presets"


class RunConfig(Frozen):
    """Every setting of a run, one section per stage."""

    seed: int = Field(0, ge=0, lt=2**31, description="of everything that replicates share")
    scope: str = Field("", pattern=SCOPE, description="place in the store; a run with a new one makes all itself")
    rounds: int = Field(3, ge=0, le=MAX_ROUNDS, description="of self-reflection; official code: at most 3")
    augmentation_factor: Annotated[int, Field(ge=1, le=20)] | Literal["auto"] = Field(
        2, description="synthetic clips per gold clip; official code: 2. auto: validation chooses among 1, 2, 4 and 8"
    )
    losers_per_clip: Count = Field(2, description="j of the paper; official code: 2")
    methods: tuple[str, ...] = Field((), description="of a run that names none; empty = `DEFAULT_METHODS`")
    use: DeclaredUse = Field("research", description="`plan` refuses data and models whose licence forbids it")
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
    """Load preset `name`, a file in `PRESETS_DIR` without `.yaml`, with `overrides` applied.

    A run without a pretraining corpus leaves out those of the preset's methods that need one.

    Raises ConfigError: unknown preset, unknown field (the message lists near ones), or a bad value.
    """
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    values = yaml.safe_load((PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    preset = validated(RunConfig, values, f"preset {name}")
    config = with_overrides(preset, overrides)
    if config.prepare_corpus.source != "none" or config.methods != preset.methods:
        return config
    kept = tuple(method for method in config.methods if not METHODS[method].takes_corpus)
    return config.model_copy(update={"methods": kept})


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


_PAIRS = re.compile(r"""\s+(?=\w+(?:\.\w+)*=)(?=(?:[^"]|"[^"]*")*$)""")
"""White space before a name with `=`, outside of double quotes."""


class _Begun(dict[str, Any]):
    """A section that was null and has got some fields; whether it has all that it needs, validation says."""


def with_overrides(settings: Settings, overrides: str) -> Settings:
    """Apply space-separated `section.field=value` pairs, values in YAML, such as `align_t2a.optim.steps=50 rounds=1`.

    A value may hold spaces, as a path does; it ends before the next name with `=`.

    Raises ConfigError: unknown field (the message lists near ones), or a bad value.
    """
    if not overrides.split():
        return settings
    values = settings.model_dump()
    for pair in _PAIRS.split(overrides.strip()):
        _override(values, pair)
        # A later override may make this one valid, so ignore errors here; a valid state gains new defaults.
        with suppress(ValidationError):
            values = type(settings).model_validate(copy.deepcopy(values)).model_dump()
    return validated(type(settings), values, f"overrides {overrides!r}")


def _override(values: dict[str, Any], pair: str) -> None:
    path, separator, text = pair.partition("=")
    if not separator:
        raise ConfigError(f"override {pair!r} is no section.field=value, for example align_t2a.beta=100")
    node: Any = values
    keys = path.split(".")
    for depth, key in enumerate(keys):
        if not isinstance(node, dict) or (key not in node and not isinstance(node, _Begun)):
            where = ".".join(keys[:depth]) or "the run"
            known = node if isinstance(node, dict) else []
            raise unknown_name(f"override (field of {where})", key, known)
        if depth == len(keys) - 1:
            try:
                value = yaml.safe_load(text)
                node[key] = os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value
            except yaml.YAMLError as error:
                raise ConfigError(
                    f"override {pair!r}: its value is no valid YAML; put text in double quotes"
                ) from error
        elif node.get(key) is None:
            node[key] = _Begun()
        node = node[key]


def validated(kind: type[Settings], values: dict[str, Any], where: str, secret: bool = False) -> Settings:
    """Settings of a kind from their values.

    Raises ConfigError: a value is wrong; the message names the first one.
    """
    try:
        config = kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the run"
        found = "" if secret else f" (found {first.get('input')!r:.80})"
        raise ConfigError(f"{where}: {field}: {first['msg']}{found}") from (None if secret else error)
    # Settings travel as JSON, which has neither.
    for field, value in _leaves(config.model_dump()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}: {field}: expected a finite number (found {value})")
    return config


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested settings with their paths, such as `align_t2a.optim.steps`."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item, path)
    else:
        yield path, value
