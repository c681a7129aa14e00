"""Inputs of the report: records and figures of all earlier stages, and hashes of their artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.contracts.base import read
from common.contracts.evaluation import Evaluation
from common.contracts.generation import AlignAccount, CaptionAccount, FilterAccount
from common.contracts.gold import Health
from common.contracts.training import Seconds, Selection
from common.records.audio_folder import clips_hash, read_clips
from common.records.clips import Caption, SyntheticClip, read_records
from common.records.gold import GoldSet
from common.storage import read_json
from common.storage.artifacts import artifact_hash
from common.storage.hashing import hash_json
from common.storage.packing import CLIPS, METADATA


@dataclass(frozen=True)
class Folders:
    """Folders of the stage's input artifacts."""

    evaluation: Path
    gold: Path
    corpus: Path
    t2a: Path
    aligned: Path
    clap: Path
    classifiers: Path
    captions: Path
    prompts: Path
    vanilla: Path
    accepted: Path
    rejected: Path


@dataclass(frozen=True)
class Inputs:
    """Everything read from the artifacts, without audio.

    Attributes:
        seconds: for the page alone.
        codec: class in the `vae` slot of the text-to-audio model; empty without one.
        writing: captions.json of the last round's prompts; describes how the captions of all rounds were written.
        rejected: rejected clips of the first round.
        hashes: SHA-256 (hex) by name of the artifact.
    """

    folders: Folders
    evaluation: Evaluation
    gold: GoldSet
    health: Health
    selection: Selection
    seconds: Seconds
    align: AlignAccount
    filtered: FilterAccount
    codec: str
    corpus: dict[str, Any]
    captions: list[Caption]
    writing: CaptionAccount
    vanilla: list[SyntheticClip]
    accepted: list[SyntheticClip]
    rejected: list[SyntheticClip]
    hashes: dict[str, str]


def read_inputs(folders: Folders) -> Inputs:
    """Read everything but audio.

    Raises:
        DataError: a set's records are invalid.
        StorageError: a stage's figures are missing.
    """
    gold = GoldSet(folders.gold)
    vanilla, accepted, rejected = (_clips(path) for path in (folders.vanilla, folders.accepted, folders.rejected))
    return Inputs(
        folders=folders,
        evaluation=read(Evaluation, folders.evaluation / "evaluation.json"),
        gold=gold,
        health=read(Health, folders.gold / "health.json"),
        selection=read(Selection, folders.classifiers / "selection.json"),
        seconds=read(Seconds, folders.classifiers / "seconds.json"),
        align=read(AlignAccount, folders.aligned / "align.json"),
        filtered=read(FilterAccount, folders.accepted / "filter.json"),
        codec=_codec(folders.t2a),
        corpus=read_json(folders.corpus / "manifest.json"),
        captions=read_records(folders.captions / "captions.jsonl", Caption),
        writing=read(CaptionAccount, folders.prompts / "captions.json"),
        vanilla=vanilla,
        accepted=accepted,
        rejected=rejected,
        hashes={
            "gold clips": clips_hash(folders.gold, gold.clips.values()),
            "corpus": hash_json(_placeless(read_json(folders.corpus / "manifest.json"))),
            "text-to-audio model": _weights_hash(folders.t2a),
            "aligned models": _weights_hash(folders.aligned),
            "fine-tuned CLAP": _weights_hash(folders.clap),
            "delivered classifier": _weights_hash(folders.classifiers / "delivered"),
            "accepted clips": clips_hash(folders.accepted, accepted),
        },
    )


def _codec(t2a: Path) -> str:
    """Class in the `vae` slot; "" in a run that generates no clips and has no model."""
    index = t2a / "model_index.json"
    return str(read_json(index).get("vae", ["", ""])[1]) if index.is_file() else ""


def _placeless(manifest: dict[str, Any]) -> dict[str, Any]:
    """Drop the shards' addresses from a corpus manifest, so that equal corpora in different stores hash alike."""
    shards = [{name: value for name, value in shard.items() if name != "uri"} for shard in manifest.get("shards", [])]
    return {**manifest, "shards": shards}


def _weights_hash(folder: Path) -> str:
    """Hash of all safetensors files; training records may contain times."""
    return artifact_hash(folder, folder.rglob("*.safetensors"))


def _clips(folder: Path) -> list[SyntheticClip]:
    if not (folder / CLIPS / METADATA).is_file():
        return []
    return sorted(read_clips(folder, SyntheticClip), key=lambda clip: clip.clip_id)
