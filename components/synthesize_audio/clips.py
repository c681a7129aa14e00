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
from common.records.clips import SyntheticClip
from common.records.provenance import Provenance
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


class Published:
    """Finished clips for the artifact, ordered by clip id and read one at a time to bound memory.

    Of the clips read so far, `signals` counts results of the signal checks, and `audio_s` the seconds.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        plan: SynthesizeAudioPlan,
        store: ItemStore,
        t2a: Path,
        gold: Path,
        code_version: str,
    ) -> None:
        self._plan, self._store, self._code_version = plan, store, code_version
        self._requests = {request.prompt.prompt_id: request for request in requests}
        self._models = {
            path: model_account(t2a) | model_account(Path(path)) for path in {r.model_path for r in requests}
        }
        self._licence = read(Dataset, gold / "dataset.json").licence
        self.signals: Counter[str] = Counter()
        self.audio_s = 0.0

    def records(self) -> Iterator[SyntheticClip]:
        """Yield the records, and count them in `signals` and `audio_s`."""
        for clip_id in sorted(self._requests):
            request = self._requests[clip_id]
            clip = synthetic_clip(request, self._plan.settings, read_json(self._item(request) / RECORD))
            self.signals[clip.signal] += 1
            self.audio_s += clip.duration_s
            yield clip

    def file(self, clip: SyntheticClip) -> Path:
        """Path of a clip's audio file."""
        return self._item(self._requests[clip.clip_id]) / AUDIO

    def accounts(self) -> Iterator[Provenance]:
        """Yield the provenance of each clip."""
        for clip_id in sorted(self._requests):
            request = self._requests[clip_id]
            alignment = recipe_of(request.prompt, self._plan.recipes).alignment
            yield provenance(
                request,
                self._plan.settings,
                read_json(self._item(request) / RECORD),
                model={**self._models[request.model_path], "alignment": alignment},
                gold_licence=self._licence,
                code_version=self._code_version,
            )

    def _item(self, request: Request) -> Path:
        return self._store.path(**request.key(self._plan.settings))


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
