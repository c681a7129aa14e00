"""Long recordings are classified window by window, as the whole of them would be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from common.audio import signal as stream
from common.audio.file import AudioError
from common.audio.signal import open_mono, read_audio, read_mono
from common.classifier import inference
from common.classifier.inference import peak_of, stream_logits
from common.classifier.model import Classifier, load_classifier
from tests.kit.models import write_other_classifier
from tests.kit.predictions import predict_logits

RATE = 16000


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    made = tmp_path_factory.mktemp("wave")
    write_other_classifier("hubert", made)
    return load_classifier(made, 0.25)


def parts(x: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """`x` in parts of random length."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, len(x) + 1, 7))
    return iter([part for part in np.split(x, cuts) if len(part)])


@pytest.mark.parametrize("kind", ["classifier", "levelled", "wave"])
@pytest.mark.parametrize("samples", [1, 399, 400, 3999, 4000, 4001, 7919, 8080, 8081, 30000, 120001])
def test_logits_of_a_stream_are_those_of_the_whole_clip(
    kind: str, samples: int, classifier: Classifier, levelled: Classifier, wave: Classifier
) -> None:
    loaded = {"classifier": classifier, "levelled": levelled, "wave": wave}[kind]
    clip = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
    clip *= np.linspace(0, 1, samples, dtype=np.float32)
    whole = predict_logits(loaded, [clip], RATE, 3)[0]
    found = stream_logits(loaded, parts(clip), samples, peak_of(parts(clip)))
    np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("second", ["none", "other", "opposite", "weaker"])
@pytest.mark.parametrize("frames", [1, 50, 40000])
def test_a_stream_holds_the_samples_of_the_whole_file(tmp_path: Path, rate: int, second: str, frames: int) -> None:
    rng = np.random.default_rng(4)
    first = 0.3 * rng.standard_normal(frames)
    channels = {"none": [first], "other": [first, 0.3 * rng.standard_normal(frames)]}
    channels |= {"opposite": [first, -first], "weaker": [first, -0.95 * first]}
    soundfile.write(tmp_path / "a.wav", np.stack(channels[second], axis=1), rate, subtype="FLOAT")
    expected = read_mono(tmp_path / "a.wav", RATE)
    with open_mono(tmp_path / "a.wav", RATE) as made:
        blocks = list(made.blocks)
    assert made.samples == len(expected) == sum(map(len, blocks))
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-6)


@pytest.mark.parametrize("values", [[], [0.1, np.nan], [np.inf]])
def test_a_stream_refuses_what_reading_refuses(tmp_path: Path, values: list[float]) -> None:
    soundfile.write(tmp_path / "a.wav", np.array(values), RATE, subtype="FLOAT")
    with pytest.raises(AudioError) as whole:
        read_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError) as streamed, open_mono(tmp_path / "a.wav", RATE):
        pass
    assert (streamed.value.reason, str(streamed.value)) == (whole.value.reason, str(whole.value))


def test_memory_does_not_grow_with_the_recording(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    monkeypatch.setattr(stream, "_STREAM_FRAMES", 4000)
    joined = np.concatenate

    def counted(arrays: list[np.ndarray], *args: int, **kwargs: int) -> np.ndarray:
        held.append(sum(map(len, arrays)))
        return joined(arrays, *args, **kwargs)

    monkeypatch.setattr(np, "concatenate", counted)
    monkeypatch.setattr(inference, "BATCH_SIZE", 4)
    transformed = inference.feature_logits
    monkeypatch.setattr(
        inference, "feature_logits", lambda *a, **k: (held.append(sum(map(len, a[1])) * 160), transformed(*a, **k))[1]
    )
    largest = []
    for seconds in (10, 100):
        with soundfile.SoundFile(tmp_path / "a.flac", "w", 8000, 2, format="FLAC") as file:
            for number in range(seconds):
                file.write(0.1 * np.random.default_rng(number).standard_normal((8000, 2)))
        held.clear()
        with open_mono(tmp_path / "a.flac", RATE) as audio:
            assert audio.samples == seconds * RATE
            stream_logits(classifier, audio.blocks, audio.samples)
        largest.append(max(held))
    # Four windows of 48 frames, and what is in hand between them.
    assert largest[0] == largest[1] <= 4 * 48 * 160
