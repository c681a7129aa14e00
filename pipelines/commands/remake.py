"""Generate a synthetic clip again from its provenance (`make remake CLIP=…`), and compare it with the old file."""

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path

from common.errors import DataError
from common.records.provenance import Provenance, read_provenance
from common.storage import publish_file
from common.storage.hashing import hash_file
from pipelines.commands.options import place
from pipelines.local.run import read_run

OPTIONS = {"--run": "runs/latest", "--clip": ..., "--out": ""}


def remake_clip(run_dir: Path, clip_id: str, target: Path) -> bool:
    """Generate a clip of a finished run again, on the CPU, and write it to `target`.

    Returns whether its bytes are those of the old file. Raises DataError: there is no such run or clip, or the run's
    artifacts were removed.
    """
    from common.storage.artifacts import artifact_hash
    from components.synthesize_audio.remake import remake

    record = read_run(run_dir)
    if record["state"] != "succeeded":
        raise DataError(f"the run in {run_dir} did not finish; give the same make run-pipeline command again")
    artifacts = record["artifacts"]
    provenance = None
    for folder in (outputs["synthetic"] for outputs in artifacts.values() if "synthetic" in outputs):
        with contextlib.suppress(DataError):
            provenance = provenance or read_provenance(Path(folder), clip_id)
    if provenance is None:
        raise DataError(
            f"{run_dir} generated no clip {clip_id!r}; expected an id of {run_dir}/synthetic/metadata.jsonl"
        )
    aligned = sorted(path.parent for path in Path(artifacts["align-t2a"]["aligned"]).glob("*/*/model_index.json"))
    models = [Path(artifacts["pretrain-t2a"]["t2a"]), *aligned]
    model = next((folder for folder in models if artifact_hash(folder) == provenance.model_hash), None)
    if model is None:
        raise DataError(
            f"the model that made {clip_id} ({provenance.model_hash[:12]}) is gone; run the pipeline again, which "
            "takes over what is finished"
        )
    remake(provenance, model, target, _source(provenance, artifacts))
    return hash_file(target) == provenance.sha256


def _source(provenance: Provenance, artifacts: Mapping[str, Mapping[str, str]]) -> Path | None:
    """File of the clip that it may have started from."""
    if provenance.start == "corpus":
        found = Path(artifacts["retrieve-audio"]["retrieved"]) / "clips"
        return next((path for path in found.glob("*.flac") if hash_file(path) == provenance.source_sha256), None)
    return Path(artifacts["prepare-dataset"]["gold"]) / "clips" / f"{provenance.source_clip_id}.flac"


def run(options: argparse.Namespace) -> int:
    """Write the clip and say whether its bytes are the old ones; exit status 1 when they differ.

    `CLIP` may also be the name or path of the clip's file.
    """
    clip_id = Path(options.clip).name.removesuffix(".flac")
    target = place(options.out or f"{clip_id}.flac")
    with publish_file(target) as made:
        equal = remake_clip(options.run, clip_id, made)
    print(f"{target}: {'the same' if equal else 'other'} bytes as in the run")
    return 0 if equal else 1
