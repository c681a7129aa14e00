"""Recipes of synthetic clips: what the stages that make clips know of the methods.

Apart from the methods, whose code changes the classifiers alone: no model that generates is trained again for them.
"""

from __future__ import annotations

from typing import Literal

from common.config.base import Frozen

Alignment = Literal["none", "dpo", "erm"]
CaptionSource = Literal["template", "label_only", "plain", "mixcap"]
MAX_ROUNDS = 3
"""Upper bound of `rounds`; loops are unrolled at compile time. The official code stops at three."""


class Recipe(Frozen):
    """Origin of the clips in the synthetic slot. Methods with equal recipes share their clips.

    `source="corpus"` takes the clips of the pretraining corpus nearest by CLAP; `source="corpus_label"` those of the
    clip's label, or whose caption names it; `source="real"` takes labelled clips of the dataset that the replicate uses
    neither for training nor for validation.
    """

    source: Literal["generate", "corpus", "corpus_label", "real"] = "generate"
    start: Literal["noise", "corpus"] = "noise"
    """Of generated clips: pure noise, or a corpus clip of the label, noised (SDEdit, arXiv 2108.01073)."""
    alignment: Alignment = "none"
    captions: CaptionSource = "template"
    filter: bool = False
    matched: bool = False
    """Whether clips are matched to gold's recording conditions, whatever `synthesize_audio.match_recording` says."""
    rounds: int | None = None
    """Rounds of self-reflection; None = `rounds` of the run."""

    @property
    def name(self) -> str:
        """Readable, unique name; part of clip ids."""
        if self.source != "generate":
            return {"corpus": "retrieved", "corpus_label": "of-label", "real": "extra-real"}[self.source]
        parts = [self.alignment, self.captions.replace("_", ""), "filtered" if self.filter else "all"]
        parts += ["matched"] if self.matched else []
        return "-".join([*parts, "from-corpus"] if self.start == "corpus" else parts)

    @property
    def from_corpus(self) -> bool:
        """Whether its clips are those of the pretraining corpus."""
        return self.source in ("corpus", "corpus_label")

    @property
    def corpus_clips(self) -> Recipe | None:
        """Recipe of the corpus clips that it takes or starts from; None = it needs none."""
        if self.start == "corpus":
            return OF_LABEL
        return self if self.from_corpus else None


LOSERS = Recipe(alignment="none", captions="template", filter=False, rounds=0)
"""Template prompts through the unaligned model: the losers of preference pairs, and `vanilla`."""

RETRIEVED = Recipe(source="corpus", rounds=0)
OF_LABEL = Recipe(source="corpus_label", rounds=0)
