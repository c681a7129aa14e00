"""Learners that a run tries on every method's clips, as data, and their settings."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field, field_validator

from common.config.base import Count, Frozen, NonNegative, PartialShare, Positive, Share
from common.errors import ConfigError, unknown_name


class Learner(Frozen):
    """A way from labelled clips to a classifier."""

    title: str
    simple: bool = False
    """Whether a sceptic would try it first; the verdict says so where it does best."""
    slow: bool = False
    """Whether one training takes seconds; its settings are then chosen by a single split."""
    frozen: str | None = None
    """The pretrained model whose features it takes, `classifier`, `clap` or `encoder` (one of the settings)."""
    on_spectrograms: bool = False
    """Whether it is trained on spectrograms, which SpecAugment can mask."""


AST, PROBE_FIRST, BLEND = "ast", "ast_probe_first", "blend"
"""The paper's learner, which is always trained; the same with another start; the mean of all others' probabilities."""

LEARNERS: dict[str, Learner] = {
    AST: Learner(title="fine-tuned AST", slow=True, on_spectrograms=True),
    PROBE_FIRST: Learner(title="AST, head first, then all", slow=True, on_spectrograms=True),
    "probe": Learner(title="logistic regression on frozen AST", simple=True, frozen="classifier"),
    "probe_clap": Learner(title="logistic regression on frozen CLAP", simple=True, frozen="clap"),
    "few_shot_clap": Learner(title="zero-shot CLAP with labelled clips", simple=True, frozen="clap"),
    "stats": Learner(title="linear discriminant on log-mel statistics", simple=True),
    "cnn": Learner(title="small CNN from scratch", simple=True, slow=True, on_spectrograms=True),
    BLEND: Learner(title="mean of learners"),
}


def probe_of(encoder: str) -> str:
    """Name of the learner that takes the features of an encoder of the settings."""
    return f"probe_{encoder}"


def is_encoder_probe(name: str) -> bool:
    """Whether a learner's name is that of an encoder's probe, see `probe_of`."""
    return name not in LEARNERS and re.fullmatch("probe_[a-z0-9_]+", name) is not None


def find_learner(name: str) -> Learner:
    """A learner by its name in `LEARNERS`, or the probe of an encoder. Raises ConfigError: the name is unknown."""
    if is_encoder_probe(name):
        encoder = name.removeprefix("probe_").replace("_", " ")
        return Learner(title=f"logistic regression on frozen {encoder}", simple=True, frozen="encoder")
    if name not in LEARNERS:
        raise unknown_name("learner", name, LEARNERS)
    return LEARNERS[name]


def learners_in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of `LEARNERS`, the probes of encoders beside that of CLAP."""
    order = list(LEARNERS)
    return sorted(names, key=lambda name: (order.index("probe_clap" if is_encoder_probe(name) else name), name))


class Encoder(Frozen):
    """A pretrained audio encoder that stays frozen."""

    checkpoint: str = Field(min_length=1, description="hub id, or a folder, of a CLAP, a Whisper or a PE-AV")
    revision: str | None = Field(None, description="commit of the hub id; null = that of common/models/models.yaml")


class LearnersConfig(Frozen):
    """Learners beside AST; repeated splits of training and validation clips together choose among the values."""

    names: tuple[str, ...] = Field(tuple(LEARNERS), description="trained on every method's clips; ast always is")
    encoders: dict[Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_]*$")], Encoder] = Field(
        {}, description="further frozen encoders: each gives the learner probe_<name>, beside those of `names`"
    )
    inverse_penalties: tuple[Positive, ...] = Field((0.01, 0.1, 1.0), min_length=1, description="scikit-learn's C")
    ridges: tuple[Positive, ...] = Field((0.1, 0.3, 1.0), min_length=1, description="of the linear discriminant; ours")
    cache_shares: tuple[Share, ...] = Field(
        (0.0, 0.5, 0.8, 0.95, 1.0),
        min_length=1,
        description="say of the labelled clips in few_shot_clap; 0 is zero-shot, 1 asks no text; ours",
    )
    cache_sharpness: tuple[Positive, ...] = Field(
        (1.0, 5.0, 25.0),
        min_length=1,
        description="how fast a labelled clip's say falls with its distance; near Tip-Adapter's",
    )
    synthetic_weights: tuple[NonNegative, ...] = Field(
        (0.0, 0.25, 1.0),
        min_length=1,
        description="total weight of a method's further clips, that of gold clips being 1; 0 leaves them out",
    )
    real_last: tuple[PartialShare, ...] = Field((0.0,), min_length=1, description="final share of steps on real clips")
    cnn_steps: Count = Field(300, description="steps of 16 examples of the small CNN; ours")
    copies: Count = Field(2, description="augmented copies of each clip, where AST has those of the augmentation; ours")
    splits: Count = Field(4, description="splits into halves, fitted both ways; slow learners take one half; ours")

    @field_validator("names")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in LEARNERS:
                raise unknown_name("learner", name, LEARNERS)
        if twice := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"learners: {', '.join(sorted(twice))} named twice")
        return names

    @field_validator("encoders")
    @classmethod
    def _free(cls, encoders: dict[str, Encoder]) -> dict[str, Encoder]:
        for name in encoders:
            if probe_of(name) in LEARNERS:
                raise ValueError(f"an encoder cannot be called {name}: {probe_of(name)} is another learner")
        return encoders
