"""Inputs of the report: records and figures of all earlier stages, and hashes of their artifacts."""

from collections.abc import Mapping
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
from common.storage.artifacts import CLIPS, METADATA, artifact_hash
from common.storage.hashing import hash_json


class Inputs:
    """Everything read from the artifacts, without audio.

    Attributes:
        folders: of the artifacts, by the names in `component.py`.
        seconds: for the page alone.
        codec: class in the `vae` slot of the text-to-audio model; empty in a run that generates no clips.
        writing: of the last round's prompts; describes how the captions of all rounds were written.
        rejected: rejected clips of the first round.
        hashes: SHA-256 (hex) by name of the artifact.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        """Raises DataError: an artifact is invalid. StorageError: a file is missing."""
        self.folders = folders
        self.evaluation = read(Evaluation, folders["evaluation"] / "evaluation.json")
        self.gold = GoldSet(folders["gold"])
        self.health = read(Health, folders["gold"] / "health.json")
        self.selection = read(Selection, folders["classifiers"] / "selection.json")
        self.seconds = read(Seconds, folders["classifiers"] / "seconds.json")
        self.align = read(AlignAccount, folders["aligned"] / "align.json")
        self.filtered = read(FilterAccount, folders["accepted"] / "filter.json")
        self.writing = read(CaptionAccount, folders["prompts"] / "captions.json")
        self.captions = read_records(folders["captions"] / "captions.jsonl", Caption)
        self.vanilla, self.accepted, self.rejected = (
            _clips(folders[name]) for name in ("vanilla", "accepted", "rejected")
        )
        index = folders["t2a"] / "model_index.json"
        self.codec = str(read_json(index).get("vae", ["", ""])[1]) if index.is_file() else ""
        self.corpus: dict[str, Any] = read_json(folders["corpus"] / "manifest.json")
        self.hashes = {
            "gold clips": clips_hash(folders["gold"], self.gold.clips.values()),
            "corpus": hash_json(_placeless(self.corpus)),
            "text-to-audio model": _weights_hash(folders["t2a"]),
            "aligned models": _weights_hash(folders["aligned"]),
            "fine-tuned CLAP": _weights_hash(folders["clap"]),
            "delivered classifier": _weights_hash(folders["classifiers"] / "delivered"),
            "accepted clips": clips_hash(folders["accepted"], self.accepted),
        }
        self.captioners = sorted({caption.captioner for caption in self.captions})
        self.writers = sorted({clip.writer for clip in [*self.vanilla, *self.accepted, *self.rejected]})


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
