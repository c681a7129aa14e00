"""Options of the commands, declared once; each command's `OPTIONS` say which it has."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def place(text: str) -> Path:
    """Path of a file or folder; `~` is the home folder, which not every shell puts there after `NAME=`."""
    return Path(os.path.expanduser(text))


ARGUMENTS: dict[str, dict[str, Any]] = {
    "action": {"choices": ("build", "push")},
    "folder": {"nargs": "?", "type": place},
    "target": {"type": place, "help": "file to write"},
    "--arguments": {"help": "further arguments, such as --build-arg TORCH=…"},
    "--audio": {"type": place, "help": "audio file, or folder of audio files"},
    "--budget": {"help": "US dollars by estimate; 0 = no limit"},
    "--builder": {"help": "IMAGE_BUILDER: takes arguments, then the context"},
    "--cells": {"help": "dataset:n, separated by commas"},
    "--clap": {"help": "s3:// address of the artifact of pretrain_clap"},
    "--clip": {"help": "clip id, as in RUN/synthetic/metadata.jsonl, or its file there"},
    "--collections": {"help": "names with spaces between; default: all"},
    "--corpus": {"help": "folder that make nano-corpus made, or s3:// address of the artifact of prepare_corpus"},
    "--data": {"help": "folder of the collections"},
    "--dataset": {"help": "a registered name, a dataset YAML or a folder"},
    "--datasets": {"help": "comma-separated registered names or dataset YAMLs"},
    "--dry-run": {"action": "store_true", "help": "print the cost only"},
    "--export": {"choices": ("0", "1"), "help": "0: leave models/ as it is"},
    "--fetch": {"choices": ("0", "1"), "help": "0: never download a dataset that is missing"},
    "--follow": {"action": "store_true", "help": "with KFP_HOST: wait until the run ends"},
    "--fresh": {"action": "store_true", "help": "run every task again; the items in the store still count"},
    "--gpu": {"help": "kind of GPU for the estimate: a name in common/study/costs.yaml"},
    "--gpus": {},
    "--history": {"help": "of nights, to add a study to and to compare it with"},
    "--jobs": {"help": "processes"},
    "--json": {"action": "store_true"},
    "--learners": {"help": "comma-separated; default: all"},
    "--leave-out": {"help": "kept for evaluation; `none`: nothing"},
    "--llm-endpoint": {"help": "OpenAI-compatible server that writes the captions"},
    "--methods": {"help": "comma-separated; default: those of the preset"},
    "--model": {"type": place, "help": "directory, for example RUNS/latest/classifier"},
    "--n": {"help": "training clips, of a study comma-separated numbers; default: the dataset's"},
    "--nodes": {},
    "--notes": {"help": "sounds of General-MIDI banks"},
    "--out": {"help": "file or folder to write"},
    "--overrides": {"help": "section.field=value …"},
    "--parts": {"help": "of clap, encoder, t2a, comma-separated; default: all"},
    "--preset": {},
    "--price": {"help": "US dollars an hour; 0 = that of common/study/costs.yaml"},
    "--profile": {"help": "one of pipelines/profiles, or a YAML file; for a run with KFP_HOST: one-gpu by default"},
    "--registry": {"help": "another prefix; the profile that you compile with must name it"},
    "--reuse-t2a-from": {"help": "text-to-audio model of an earlier run, folder or s3://…"},
    "--run": {"type": place},
    "--runner": {"choices": ("subprocess", "docker")},
    "--runs": {"type": place, "help": "folder of all runs and of the store"},
    "--seed": {},
    "--seeds": {"help": "number of replicates"},
    "--shards": {},
    "--stages": {"help": "comma-separated: only the images of these; default: all"},
    "--store": {"help": "run store: a folder or s3://…; default: RUNS/store, or SYNTHIO_STORE"},
    "--words": {"help": "spoken words"},
    "--work": {"type": place, "help": "finished stages and checkpoints"},
}
"""How argparse takes each option; a command's `OPTIONS` say which it has, with their defaults, `...` = required."""

RUN_OPTIONS: dict[str, Any] = {
    **{"--preset": "tiny", "--methods": "", "--learners": "", "--seeds": "3", "--overrides": "", "--budget": "0"},
    **{"--runs": "runs", "--store": "", "--fetch": "1", "--runner": "subprocess", "--profile": ""},
    **{"--fresh": False, "--follow": False},
}
"""Options that a run and a study share."""


def declare(parser: argparse.ArgumentParser, options: Mapping[str, Any]) -> None:
    """Declare a command's options."""
    for name, default in options.items():
        needed = {"required": True} if name.startswith("--") else {}
        parser.add_argument(name, **ARGUMENTS[name], **(needed if default is ... else {"default": default}))
