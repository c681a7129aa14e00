"""Finished clips in the item store: written with their facts, read back as records and provenance."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.audio.signal import write_flac
from common.config.t2a import SynthesizeAudioConfig, SynthesizeAudioPlan
from common.contracts.base import read
from common.contracts.gold import Dataset
from common.models.registry import published_models
from common.records.audio_folder import copy_audio_folder
from common.records.provenance import Provenance, write_provenance
from common.storage import read_json, write_json
from common.storage.hashing import hash_file
from common.storage.items import ItemStore
from components.synthesize_audio.generate import Generated
from components.synthesize_audio.requests import Request, recipe_of, synthetic_clip

AUDIO, RECORD = "clip.flac", "made.json"
"""File names of a finished clip in the item store."""

MODEL_ACCOUNT = "training.json"
_MODEL_FACTS = ("start", "revision")


def write_clip(folder: Path, clip: Generated, environment: Mapping[str, Any]) -> None:
    """Write a finished clip with duration, gain, signal check, hash and environment."""
    write_flac(folder / AUDIO, clip.audio, clip.sample_rate_hz)
    write_json(
        folder / RECORD,
        {
            "duration_s": clip.audio.shape[-1] / clip.sample_rate_hz,
            "sample_rate_hz": clip.sample_rate_hz,
            "gain_db": clip.gain_db,
            "signal": clip.signal,
            "sha256": hash_file(folder / AUDIO),
            "environment": dict(environment),
        },
    )


def publish(
    target: Path,
    requests: Sequence[Request],
    plan: SynthesizeAudioPlan,
    store: ItemStore,
    t2a: Path,
    gold: Path,
    code_version: str,
) -> tuple[Counter[str], float]:
    """Write clips and provenance by clip id, in bounded memory; returns counts by signal check, and seconds."""
    models = {path: model_account(t2a) | model_account(Path(path)) for path in {r.model_path for r in requests}}
    licence = read(Dataset, gold / "dataset.json").licence
    requests = sorted(requests, key=lambda request: request.prompt.prompt_id)
    files: dict[str, Path] = {}
    signals: Counter[str] = Counter()
    lengths_s: list[float] = []

    def accounts() -> Iterator[Provenance]:
        for request in requests:
            item = store.path(**request.key(plan.settings))
            files[request.prompt.prompt_id], made = item / AUDIO, read_json(item / RECORD)
            signals[made["signal"]] += 1
            lengths_s.append(made["duration_s"])
            model = {**models[request.model_path], "alignment": recipe_of(request.prompt, plan.recipes).alignment}
            yield provenance(request, plan.settings, made, model=model, gold_licence=licence, code_version=code_version)

    write_provenance(target, accounts())
    records = (
        synthetic_clip(request, plan.settings, read_json(files[request.prompt.prompt_id].with_name(RECORD)))
        for request in requests
    )
    copy_audio_folder(target, records, files)
    return signals, sum(lengths_s)


def provenance(
    request: Request,
    settings: SynthesizeAudioConfig,
    made: Mapping[str, Any],
    *,
    model: Mapping[str, Any],
    gold_licence: str,
    code_version: str,
) -> Provenance:
    """Provenance of a finished clip, from its stored facts; `model` is its `model_account`, and its alignment."""
    source = request.source
    return Provenance(
        **request.prompt.descent,
        clip_id=request.prompt.prompt_id,
        sha256=made["sha256"],
        model_hash=request.model_hash,
        model=dict(model),
        gold_licence=gold_licence,
        sampling_seed=request.sampling_seed,
        duration_s=request.duration_s,
        frames=request.frames,
        windows=request.windows,
        start="noise" if source is None else "corpus" if source.corpus_clip else "source",
        start_clip_id=source.corpus_clip if source else None,
        noise_level=source.noise_level if source else None,
        source_sha256=source.sha256 if source else None,
        target_rms_dbfs=request.target_rms_dbfs,
        recording=asdict(request.recording) if request.recording else None,
        gain_db=made["gain_db"],
        signal=made["signal"],
        settings=settings.model_dump(mode="json"),
        code_version=code_version,
        environment=made["environment"],
    )


def model_account(folder: Path) -> dict[str, Any]:
    """Origin of a model folder: id, revision and licence, as far as its `training.json` states them."""
    if not (folder / MODEL_ACCOUNT).is_file():
        return {}
    account = read_json(folder / MODEL_ACCOUNT)
    facts = {fact: account[fact] for fact in _MODEL_FACTS if account.get(fact) is not None}
    known = published_models().get(str(facts.get("start")))
    return {**facts, "licence": known.licence} if known else facts
