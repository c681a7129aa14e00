"""Export a classifier to ONNX, waveform in and probabilities out, and check it (`make export-onnx MODEL=<dir>`)."""

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import DataError
from common.storage import publish_file
from pipelines.commands.options import place

OPTIONS = {"--model": ..., "--out": ...}

TOLERANCE = 1e-4


def export_onnx(model: Path, made: Path) -> float:
    """Export a classifier to the file `made`, and check that ONNX Runtime gives the model's probabilities with it.

    Input `waveform` is one mono clip (samples,), float32, full scale ±1, of any length, at the rate of the metadata
    `sample_rate_hz`; output `probabilities` is (labels,). All metadata are JSON: `labels` by output index,
    `sample_rate_hz`, `multi_label`, `shortest` (samples up to which the graph itself fills a shorter clip with zeros),
    and `threshold` where the classifier states one.

    Raises:
        ConfigError: the classifier is a model on waveforms, or a rate of a blend is no whole fraction of its highest.
        DataError: there is no classifier or not all of it, or the graph gives other answers.

    Returns largest difference of probabilities between ONNX Runtime and `open_classifier` on trial sounds.
    """
    import onnx
    import onnxruntime
    import torch

    from common.learners.graph import answer
    from common.learners.opened import open_classifier

    opened = open_classifier(model)
    module = answer(model, opened)
    rate = opened.sample_rates_hz[-1]
    sounds = trial_sounds(rate, module.window_s)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The newer exporter writes the weights to a separate file; this one writes a single file.
        torch.onnx.export(
            module,
            (torch.from_numpy(sounds[0]),),
            str(made),
            input_names=["waveform"],
            output_names=["probabilities"],
            dynamic_axes={"waveform": {0: "samples"}},
            dynamo=False,
        )
    graph = onnx.load(str(made))
    told = {
        "labels": opened.labels,
        "sample_rate_hz": rate,
        "multi_label": opened.multi_label,
        "shortest": module.shortest,
        **({} if opened.threshold is None else {"threshold": opened.threshold}),
    }
    onnx.helper.set_model_props(graph, {name: json.dumps(value, ensure_ascii=False) for name, value in told.items()})
    onnx.save(graph, str(made))
    session = onnxruntime.InferenceSession(str(made))
    found = np.stack([session.run(None, {"waveform": sound})[0] for sound in sounds])
    difference = float(np.abs(found - opened.probabilities(sounds, rate)).max())
    if not difference <= TOLERANCE:
        raise DataError(
            f"{model}: the exported graph's probabilities differ by {difference:.2g}, expected at most {TOLERANCE:g}; "
            "use `make classify`, and report the versions of torch, onnx and onnxruntime"
        )
    return difference


def trial_sounds(sample_rate_hz: int, window_s: float) -> Sequence[np.ndarray]:
    """Sounds of several lengths and levels (T,) float32; the first lasts one and a half windows, others are shorter."""
    rng = np.random.default_rng(0)
    time = np.arange(round(1.5 * window_s * sample_rate_hz)) / sample_rate_hz
    strokes = np.exp(-5 * (time % 0.7)) * np.sin(2 * np.pi * (400 + 150 * np.sin(2 * time)) * time)
    pink = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(time.size)) / np.sqrt(1 + np.arange(time.size // 2 + 1)), time.size
    )
    sound: np.ndarray = (0.4 * strokes + pink / np.abs(pink).max() * 0.03).astype(np.float32)

    def part(share: float) -> np.ndarray:
        return np.asarray(sound[: round(share * window_s * sample_rate_hz)])

    silence = np.zeros(sample_rate_hz // 3, np.float32)
    return [
        *(sound, np.float32(1e-3) * part(0.3), np.clip(20 * part(0.7), -1, 1), part(0.9) + np.float32(0.1)),
        *(silence, np.concatenate([silence, part(0.4), silence]), sound[:100]),
    ]


def run(options: argparse.Namespace) -> int:
    """Export the classifier and print how near its answers are; exit status 0 = written, 2 = bad input."""
    target = place(options.out)
    with publish_file(target) as made:
        difference = export_onnx(options.model, made)
    print(f"{target}: probabilities within {difference:.1g} of the model's")
    return 0
