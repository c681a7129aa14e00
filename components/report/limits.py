"""What a run cannot tell, in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

TRAINED_CODEC = "AutoencoderOobleck"


def limits(facts: Mapping[str, Any], named: Callable[[str], Markup]) -> list[str | Markup]:
    """Sentences that follow from how the run was made.

    Args:
        facts: codec (class), captioners and writers (lists of names), replicates, n_test, groups (numbers).
        named: marks a name up and escapes it.
    """
    lines: list[str | Markup] = []
    if facts["codec"] != TRAINED_CODEC:
        lines.append(
            Markup(
                "Audio is coded by {}, a fixed transform in the place of a trained autoencoder: fine detail of the "
                "sounds is simplified, and results with a trained one may differ."
            ).format(named(facts["codec"]))
        )
    if any("grammar" in writer for writer in facts["writers"]):
        lines.append(
            "New captions were composed by a small built-in grammar, not by a language model: they vary words and "
            "acoustics, but know nothing of the world."
        )
    if any("acoustics" in name for name in facts["captioners"]):
        lines.append("Real clips were captioned from their label and measured acoustics, not by a model that listens.")
    if facts["replicates"] < 5:
        count = "One replicate" if facts["replicates"] == 1 else f"{facts['replicates']} replicates"
        lines.append(
            f"{count}: training is subject to chance, and so few repetitions measure that chance roughly. Intervals "
            "are widened for it, yet a small gain can be missed or, more rarely, imagined."
        )
    groups = f" of {facts['groups']} groups" if facts["groups"] else ""
    lines.append(
        f"The test set has {facts['n_test']} clips{groups}. The figures hold for sounds recorded as these were, not "
        "for other microphones, rooms or speakers."
    )
    lines.append(
        "CLAP chooses which clips are kept and also measures how close the synthetic clips are to the real ones. The "
        "oracle is a second opinion, but it has heard the training clips."
    )
    return lines
