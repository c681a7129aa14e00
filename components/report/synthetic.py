"""Figures on synthetic clips: how captions were written, similarity to real clips, classes without clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.config.methods import Method
from common.contracts.generation import Tally

SOURCES = {
    "mixcap": "MixCap",
    "plain": "from the clip's own caption",
    "label_only": "from the label alone",
    "template": "template",
}
"""Kinds of captions with their titles, in the order of the table."""


def writing(account: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise how the captions of all rounds were written.

    Tokens and money count all replies, whether this run paid for them or found them in the cache; so a first run, a
    resumed one and a rerun report the same.

    Returns writer; sources by name (diversity, label recall, in_run, by_label); pieces, repaired, replaced, reasons;
    input_tokens, output_tokens, cost; rounds (prompts and replaced of each).
    """
    tallies = [Tally.model_validate(row["how"]) for row in account["rounds"]]
    whole = sum(tallies, start=Tally())
    sources = {name: account["sources"][name] for name in SOURCES if name in account["sources"]}
    return {
        "writer": account["writer"],
        "sources": {
            name: {key: value for key, value in row.items() if key != "how"}
            | {key: row["how"][key] for key in ("pieces", "repaired", "replaced")}
            for name, row in sources.items()
        },
        **whole.model_dump(mode="json", exclude={"usage"}),
        **whole.usage.whole.model_dump(mode="json"),
        "rounds": [
            {"round": row["round"], "prompts": row["prompts"], "replaced": tally.replaced}
            for row, tally in zip(account["rounds"], tallies, strict=True)
        ],
    }


def likeness(filtered: Mapping[str, Any]) -> dict[str, dict[str, float | int]]:
    """Similarity of each recipe's clips to their nearest real training clip, by cosine of CLAP embeddings.

    Returns:
        By recipe: `clips` scored, `near_copies` among them, and `median` and `highest` similarity of those accepted.
    """
    rows: dict[str, dict[str, float | int]] = {}
    scored = [row for row in filtered["candidates"] if row.get("nearest_similarity") is not None]
    for recipe in sorted({row["recipe"] for row in scored}):
        own = [row for row in scored if row["recipe"] == recipe]
        kept = [row["nearest_similarity"] for row in own if row["reason"] is None]
        rows[recipe] = {"clips": len(own), "near_copies": sum(row["reason"] == "near_copy" for row in own)}
        if kept:
            rows[recipe] |= {"median": float(np.median(kept)), "highest": max(kept)}
    return rows


def empty_classes(filtered: Mapping[str, Any], methods: Mapping[str, Method]) -> list[dict[str, Any]]:
    """Replicates and labels without an accepted clip, for recipes that a method of the run trains on."""
    used = {method.recipe.name for method in methods.values() if method.recipe is not None}
    return [row for row in filtered["empty_classes"] if row["recipe"] in used]


def empty_cautions(empty: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence on classes without an accepted clip; empty when every class has some."""
    if not empty:
        return []
    labels = sorted({str(row["label"]) for row in empty})
    seeds = ", ".join(str(seed) for seed in sorted({row["seed"] for row in empty}))
    shown = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
    return [
        f"In all rounds no synthetic clip was accepted for {shown} (replicate {seeds}); copies of real clips take "
        "their place in training there."
    ]
