"""Small inputs of train_classifier: three classes of sounds, two replicates, a tiny AST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.classifier.model import build_classifier, save_classifier
from common.config.methods import DEFAULT_METHODS, METHODS
from common.config.recipes import LOSERS
from components.train_classifier.run import run
from tests.kit.clips import generated_clip
from tests.kit.gold import classes_gold, write_dataset, write_synthetic
from tests.kit.models import AST_ARCHITECTURE
from tests.kit.sounds import CLASS_LABELS, RATE, class_sound

SYNTHIO = METHODS["synthio"].recipe.name  # type: ignore[union-attr]


class World(NamedTuple):
    """Folders of the stage's inputs, in its order."""

    classifier: Path
    gold: Path
    vanilla: Path
    accepted: Path


def write_generated(
    folder: Path, recipe: str, classes: tuple[int, ...], rounds: tuple[int, ...], seed: int = 1
) -> None:
    """Write clips of a recipe: one for each replicate, class, and place in `rounds`."""
    rng = np.random.default_rng(seed)
    clips, audio = [], {}
    for replicate in (0, 1):
        for label_id in classes:
            for index, round_ in enumerate(rounds):
                clip = generated_clip(
                    recipe,
                    replicate,
                    f"train{replicate}-{label_id}-0",
                    index,
                    round_,
                    label=CLASS_LABELS[label_id],
                    label_id=label_id,
                    duration_s=7000 / RATE,
                )
                clips.append(clip)
                audio[clip.clip_id] = class_sound(label_id, rng)
    write_synthetic(folder, clips, audio)


def write_world(folder: Path) -> World:
    """Write the inputs below `folder`."""
    world = World(*(folder / name for name in World._fields))
    save_classifier(build_classifier(AST_ARCHITECTURE, ["x", "y"], -6.0, 3.0, seed=1), world.classifier)
    classes_gold(world.gold)
    write_generated(world.vanilla, LOSERS.name, (0, 1), (0, 0, 0))
    write_generated(world.accepted, SYNTHIO, (0, 1, 2), (0, 1))
    return world


def config(methods: tuple[str, ...] = DEFAULT_METHODS, **settings: Any) -> dict[str, Any]:
    """The stage's config: AST alone, a few steps; `settings` are the stage's own."""
    optim = {"steps": 8.0, "batch_size": 6, "learning_rate": 3e-3, "record_every": 2, "evaluate_every": 4}
    return {
        "settings": {
            "optim": optim,
            "oracle_steps": 10,
            "noise": {"copies": 1},
            "learners": {"names": ["ast"]},
            **settings,
        },
        "replicates": [0.0, 1.0],
        "methods": {name: METHODS[name].model_dump(mode="json") for name in methods},
        "augmentation_factors": [2.0],
        "rounds": 1.0,
    }


def train(world: World, out: Path, **kwargs: Any) -> dict[str, Any]:
    """Run the stage on `world`; `kwargs` as those of `config`."""
    return run_on(world, out, config(**kwargs))


def run_on(world: World, out: Path, config: dict[str, Any], **folders: Path) -> dict[str, Any]:
    """Run the stage with `config`; of the corpus, CLAP and retrieved clips those in `folders`, which are else unread."""
    given = {f"{name}_path": str(folders.get(name, world.vanilla)) for name in ("retrieved", "corpus", "clap")}
    return run(*map(str, world), str(out), str(out.parent / "metrics.json"), config=config, code_version="v1", **given)


def give_further_labels(folder: Path, unknown: bool = False) -> None:
    """Every clip of the first label also holds the last one."""
    metadata = folder / "clips" / "metadata.jsonl"
    rows = [json.loads(line) for line in metadata.read_text().splitlines()]
    for row in rows:
        if row["label_id"] == 0:
            row["further_labels"] = ["no such label" if unknown else CLASS_LABELS[2]]
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_multi_label(world: World) -> None:
    """Let labels be independent, and every clip of the first label also hold the last one."""
    write_dataset(world.gold, multi_label=True)
    for folder in (world.gold, world.vanilla, world.accepted):
        give_further_labels(folder)
