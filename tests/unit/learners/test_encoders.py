"""Frozen encoders of the settings: what they hear, how a learner keeps them, and which folders are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import PeAudioFeatureExtractor, PeAudioModel, WhisperFeatureExtractor, WhisperModel

from common.audio.signal import levelled, resample
from common.config.learners import LEARNERS, LearnersConfig, find_learner, is_encoder_probe, learners_in_order, probe_of
from common.config.run import load_preset
from common.datasets.registry import resolve_dataset
from common.errors import ConfigError, DataError
from common.learners.architectures import check_encoders, copy_encoder, encoder_files
from common.learners.front_ends import ENCODER, FrontEnd, open_encoder
from common.learners.model import hears_through, load_learner
from common.learners.opened import open_classifier, save_blend
from common.models.licences import licensed_parts
from common.models.registry import named_models
from common.storage.artifacts import artifact_hash
from tests.kit.encoders import ENCODERS, RATE, encoder_probe, write_encoder
from tests.kit.learners import member
from tests.kit.models import write_other_classifier
from tests.kit.sounds import class_sound


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(kind, folder / kind) for kind in ENCODERS}


def sounds(hears: FrontEnd) -> list[np.ndarray]:
    """Three sounds of other lengths than each other, of at least half a second."""
    draws = np.random.default_rng(4)
    return [resample(class_sound(k, draws), 16000, hears.sample_rate_hz)[: 6000 - 700 * k] for k in range(3)]


@pytest.mark.parametrize("kind", ENCODERS)
def test_features_are_of_the_clip_alone_and_not_of_its_level(folders: dict[str, Path], kind: str) -> None:
    hears = open_encoder(folders[kind])
    assert hears.sample_rate_hz == (16000 if kind == "whisper" else RATE)
    clips = sounds(hears)
    together = hears(clips)
    assert len({row.shape for row in together}) == 1 and together[0].ndim == 1
    for clip, row in zip(clips, together, strict=True):
        assert (hears([clip])[0] == row).all()
        assert hears([np.float32(0.02) * clip])[0] == pytest.approx(row, abs=1e-4)
        assert all(np.ptp(row - other) > 0.0 for other in together if other is not row)
    for silent in hears([np.zeros(100, np.float32), np.zeros(3 * hears.sample_rate_hz, np.float32)]):
        assert np.isfinite(silent).all()
    with pytest.raises(DataError, match="finite"):
        hears([np.full(1000, np.nan, np.float32)])


def test_whisper_is_averaged_over_the_frames_that_hold_sound(folders: dict[str, Path]) -> None:
    hears, model = open_encoder(folders["whisper"]), WhisperModel.from_pretrained(folders["whisper"]).eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folders["whisper"])

    def frames(clip: np.ndarray) -> np.ndarray:
        made = extractor(levelled(clip), sampling_rate=16000, return_tensors="pt")
        with torch.inference_mode():
            return np.asarray(model.encoder(**made).last_hidden_state[0])

    clip = sounds(hears)[0]
    assert hears([clip])[0] == pytest.approx(frames(clip)[:19].mean(axis=0), abs=1e-5), "6000 samples, frames of 320"
    assert hears([clip])[0] != pytest.approx(frames(clip).mean(axis=0), abs=1e-3)
    long = np.tile(levelled(clip), 4)[:24000]
    both = [hears([long[:16000]])[0], hears([long[8000:]])[0]]
    assert hears([long])[0] == pytest.approx(np.mean(both, axis=0), abs=2e-2), "two windows"


def test_pe_av_gives_its_pooled_embedding_alone_and_inside_the_model_with_video(folders: dict[str, Path]) -> None:
    hears = open_encoder(folders["pe_audio"])
    clip = sounds(hears)[0]
    extractor = PeAudioFeatureExtractor.from_pretrained(folders["pe_audio"])
    made = extractor(levelled(clip), sampling_rate=RATE).input_values[0]
    with torch.inference_mode():
        expected = (
            PeAudioModel.from_pretrained(folders["pe_audio"])
            .eval()
            .get_audio_embeds(torch.as_tensor(made).reshape(1, 1, -1))[0]
            .numpy()
        )
    assert expected.shape == (24,) and hears([clip])[0] == pytest.approx(expected, abs=1e-5)
    inside = open_encoder(folders["pe_audio_video"])([clip])[0]
    assert inside == pytest.approx(hears([clip])[0], abs=1e-6)


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_saved_learner_opens_with_its_encoder_and_in_a_blend(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    made, saved = encoder_probe(folders[kind]), tmp_path / "saved"
    saved.mkdir()
    made.save(saved)
    assert hears_through(saved) == ENCODER and len(list(saved.iterdir())) == 2, "it copies the encoder"
    clips = sounds(made.encoder)
    expected = made.of_waveforms(clips)
    assert load_learner(saved).of_features(open_encoder(folders[kind])(clips)) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(DataError, match=r"hears through a pretrained model.*expected the folder encoder/"):
        load_learner(saved).of_waveforms(clips)
    copy_encoder(folders[kind], saved / ENCODER)
    assert artifact_hash(saved / ENCODER) == artifact_hash(folders[kind], encoder_files(folders[kind]))
    assert open_classifier(saved).probabilities(clips, made.sample_rate_hz) == pytest.approx(expected, abs=1e-6)
    save_blend(tmp_path / "blend", [(member("probe_own"), saved)])
    heard = open_classifier(tmp_path / "blend").probabilities(clips, made.sample_rate_hz)
    assert heard == pytest.approx(expected, abs=1e-5)


def test_other_folders_are_refused_with_what_they_hold_before_anything_is_trained(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    write_other_classifier("hubert", tmp_path / "hubert")
    (tmp_path / "empty").mkdir()
    known = r"supported model types: clap \(CLAP\), pe_audio .*, pe_audio_video \(PE-AV\), whisper \(Whisper\)"
    for name, found in (("hubert", "a model of the type 'hubert'"), ("empty", "no config.json with a model_type")):
        with pytest.raises(DataError, match=f"the encoder at {tmp_path / name} holds {found}.*{known}"):
            open_encoder(tmp_path / name)
        override = f'train_classifier.learners.encoders={{"own":{{"checkpoint":"{tmp_path / name}"}}}}'
        with pytest.raises(DataError, match=found):
            check_encoders(load_preset("tiny", override).train_classifier.learners.encoders)
    override = f'train_classifier.learners.encoders={{"own":{{"checkpoint":"{folders["whisper"]}"}}}}'
    check_encoders(load_preset("tiny", override).train_classifier.learners.encoders)


@pytest.mark.parametrize("kind", ["pe_audio", "whisper"])
def test_a_cut_or_foreign_file_of_weights_is_named(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    copy_encoder(folders[kind], tmp_path)
    weights = tmp_path / "model.safetensors"
    parts = load_file(weights)
    save_file({name: part for name, part in parts.items() if "norm" not in name}, weights, {"format": "pt"})
    with pytest.raises(DataError, match=f"the encoder at {tmp_path} lacks weights: .*norm"):
        open_encoder(tmp_path)
    weights.write_bytes(weights.read_bytes()[:300])
    with pytest.raises(DataError, match=f"cannot load the encoder at {tmp_path} .*copy the folder again"):
        open_encoder(tmp_path)


def test_an_encoder_of_the_settings_is_a_published_model_and_a_learner() -> None:
    asked = "train_classifier.learners.encoders=" + json.dumps(
        {"ear": {"checkpoint": "some/ear", "revision": "0" * 40}}
    )
    config = load_preset("tiny", asked.replace(" ", ""))
    assert named_models(config) == {"some/ear": "0" * 40}
    part = next(each for each in licensed_parts(config, resolve_dataset("demo")) if each.name == "some/ear")
    assert part.kind == "classifier"
    assert probe_of("ear") == "probe_ear" and is_encoder_probe("probe_ear")
    assert find_learner("probe_big_ear").title == "logistic regression on frozen big ear"
    assert not is_encoder_probe("probe_clap") and find_learner("probe_clap") is LEARNERS["probe_clap"]
    names = ["stats", "probe_ear", "blend", "probe", "ast"]
    assert learners_in_order(names) == ["ast", "probe", "probe_ear", "stats", "blend"]
    with pytest.raises(ConfigError, match="unknown learner 'svm'"):
        find_learner("svm")
    for name in ("clap", "Ear", "a b"):
        with pytest.raises(ValidationError, match=r"encoder cannot be called clap|pattern"):
            LearnersConfig.model_validate({"encoders": {name: {"checkpoint": "/x"}}})
