"""Regeneration of a clip from its provenance and the model's folder alone."""

from pathlib import Path

from common.audio.matching import Recording
from common.audio.signal import write_flac
from common.config.t2a import SynthesizeAudioConfig
from common.errors import DataError
from common.records.clips import Prompt
from common.records.provenance import Provenance
from common.storage.artifacts import artifact_hash
from common.storage.hashing import hash_file
from components.synthesize_audio.generate import decode, load_model, sample_batch
from components.synthesize_audio.requests import Request, Source


def remake(provenance: Provenance, model: Path, target: Path, source: Path | None = None) -> None:
    """Generate a clip again on the CPU and write its FLAC file to `target`; the same bytes in the same `environment`.

    Raises DataError: the model, or the clip that it started from (`source`), differs from the one used.
    """
    found = artifact_hash(model)
    if found != provenance.model_hash:
        raise DataError(
            f"{model} has the hash {found[:12]}, but {provenance.clip_id} was made by {provenance.model_hash[:12]}; "
            "name the folder of that model"
        )
    settings = SynthesizeAudioConfig.model_validate(provenance.settings)
    request = _request(provenance, model, source)
    loaded = load_model(str(model), "cpu", settings)
    # The sampler fills the batch up with copies; a clip depends on the batch size, not on its neighbours.
    latent = sample_batch(loaded.backend, [request], settings, loaded.texts)[0]
    clip = decode(loaded.backend, latent, request, settings)
    write_flac(target, clip.audio, clip.sample_rate_hz)


def _request(provenance: Provenance, model: Path, source: Path | None) -> Request:
    start = None
    if provenance.source_sha256 is not None and provenance.noise_level is not None:
        if source is None or hash_file(source) != provenance.source_sha256:
            origin = provenance.start_clip_id or provenance.source_clip_id
            raise DataError(
                f"{provenance.clip_id} started from {'corpus' if provenance.start == 'corpus' else 'gold'} clip "
                f"{origin!r} with SHA-256 "
                f"{provenance.source_sha256[:12]}; name that file, found {source}"
            )
        level, corpus_clip = provenance.noise_level, provenance.start_clip_id
        start = Source(str(source), provenance.source_sha256, level, provenance.duration_s, corpus_clip)
    return Request(
        prompt=Prompt(**provenance.descent),
        model_path=str(model),
        model_hash=provenance.model_hash,
        sampling_seed=provenance.sampling_seed,
        duration_s=provenance.duration_s,
        frames=provenance.frames,
        target_rms_dbfs=provenance.target_rms_dbfs,
        source=start,
        recording=Recording(**provenance.recording) if provenance.recording else None,
        windows=provenance.windows,
    )
