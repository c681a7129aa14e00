"""Export a classifier on spectrograms to ONNX and check it against PyTorch (`make export-onnx MODEL=<dir> [OUT=…]`)."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

from common.errors import ConfigError, DataError
from common.storage import publish_file
from pipelines.commands.arguments import place

TOLERANCE = 1e-4


def export_onnx(model: Path, target: Path) -> float:
    """Export a classifier to `target`, which is written only if ONNX Runtime gives the model's logits.

    The graph starts after the feature extractor, whose settings are in the directory's `preprocessor_config.json`.
    Input `input_values` is (B, frames, mel bins), normalised log-mel windows; output `logits` is (B, labels), in the
    order of the metadata `labels`, a JSON list. Classify a longer clip by the mean logits of its windows, as
    `make classify` does.

    Args:
        model: directory of a classifier on spectrograms.
        target: file to write.

    Returns:
        Largest difference of logits between ONNX Runtime and PyTorch on random windows.

    Raises:
        ConfigError: the classifier takes waveforms.
        DataError: there is no classifier, or the exported graph gives other logits; nothing is written then.
        StorageError: `target` cannot be written.
    """
    with publish_file(target) as made:
        return _export(model, made)


def _export(model: Path, made: Path) -> float:
    import numpy as np
    import onnx
    import onnxruntime
    import torch

    from common.classifier.model import load_classifier

    classifier = load_classifier(model)
    if not classifier.front_end.spectral:
        raise ConfigError(
            f"{model} holds a {type(classifier.model).__name__}, which takes waveforms through transformers' own "
            "extractor; only classifiers on spectrograms (AST) are exported"
        )

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = classifier.model.eval().cpu()

        def forward(self, input_values: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_values=input_values).logits
            return logits

    shape = (5, classifier.front_end.max_length, classifier.model.config.num_mel_bins)
    windows = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    module = Logits()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The newer exporter writes the weights to a separate file; this one writes a single file.
        torch.onnx.export(
            module,
            (windows[:2],),
            str(made),
            input_names=["input_values"],
            output_names=["logits"],
            dynamic_axes={"input_values": {0: "batch"}, "logits": {0: "batch"}},
            dynamo=False,
        )
        expected = module(windows).numpy()
    graph = onnx.load(str(made))
    onnx.helper.set_model_props(graph, {"labels": json.dumps(classifier.labels, ensure_ascii=False)})
    onnx.save(graph, str(made))
    session = onnxruntime.InferenceSession(str(made))
    difference = float(np.abs(session.run(None, {"input_values": windows.numpy()})[0] - expected).max())
    if difference > TOLERANCE:
        raise DataError(
            f"{model}: the exported graph's logits differ by {difference:.2g}, expected at most {TOLERANCE:g}; use "
            "`make classify`, and report the versions of torch, onnx and onnxruntime"
        )
    return difference


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--model", required=True, type=place, help="directory, for example RUNS/latest/classifier")
    parser.add_argument("--out", required=True, type=place, help="file to write")


def run(options: argparse.Namespace) -> int:
    """Export the classifier and print the largest difference of logits; exit status 0 = written, 2 = bad input."""
    difference = export_onnx(options.model, options.out)
    print(f"{options.out}: logits within {difference:.1g} of the model's")
    return 0
