"""The classifier as a transformers directory: building, a fresh seeded head, loading, saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import ASTConfig
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTForAudioClassification,
)
from transformers.utils.logging import disable_progress_bar

from common.classifier.features import LogMel
from common.config.classifier import ASTArchitecture
from common.errors import DataError
from common.storage import read_json

MODEL_TYPE = "audio-spectrogram-transformer"


@dataclass(frozen=True)
class Classifier:
    """A model with the features that it expects."""

    model: ASTForAudioClassification
    extractor: ASTFeatureExtractor
    log_mel: LogMel

    @property
    def labels(self) -> list[str]:
        """Label strings by output index."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms that it takes."""
        return self.log_mel.sample_rate_hz

    @property
    def multi_label(self) -> bool:
        """Whether labels are independent (sigmoid) instead of exclusive (softmax)."""
        return self.model.config.problem_type == "multi_label_classification"


def build_classifier(
    architecture: ASTArchitecture, labels: Sequence[str], mean: float, std: float, seed: int
) -> Classifier:
    """A classifier with random weights.

    Args:
        architecture: sizes.
        labels: label strings by output index.
        mean: of the log-mel features before normalisation.
        std: of the same; features become (x - mean) / (2 std).
        seed: of the weights.
    """
    config = ASTConfig(
        hidden_size=architecture.hidden_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        intermediate_size=architecture.intermediate_size,
        hidden_dropout_prob=architecture.dropout,
        attention_probs_dropout_prob=architecture.dropout,
        patch_size=architecture.patch_size,
        frequency_stride=architecture.frequency_stride,
        time_stride=architecture.time_stride,
        max_length=architecture.max_length,
        num_mel_bins=architecture.num_mel_bins,
        **_label_maps(labels),
    )
    extractor = ASTFeatureExtractor(
        sampling_rate=architecture.sample_rate_hz,
        num_mel_bins=architecture.num_mel_bins,
        max_length=architecture.max_length,
        mean=mean,
        std=std,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ASTForAudioClassification(config)
    return Classifier(model.eval(), extractor, LogMel(extractor))


def load_classifier(path: Path) -> Classifier:
    """Load an Audio Spectrogram Transformer directory of transformers.

    Args:
        path: holds config.json, preprocessor_config.json and safetensors weights.

    Raises:
        DataError: no such directory, another kind of model, or damaged files.
    """
    config_path = path / "config.json"
    if not config_path.is_file():
        raise DataError(
            f"no classifier at {path}: expected a folder with config.json, preprocessor_config.json, model.safetensors"
        )
    found = read_json(config_path).get("model_type")
    if found != MODEL_TYPE:
        raise DataError(
            f"{config_path}: model_type is {found!r}; expected {MODEL_TYPE!r}, as train_classifier writes it"
        )
    disable_progress_bar()
    try:
        extractor = ASTFeatureExtractor.from_pretrained(path, local_files_only=True)
        model = ASTForAudioClassification.from_pretrained(
            path, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot load the classifier at {path}: {error}; make it again or copy the whole folder"
        ) from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise DataError(f"the weights at {path} are damaged: {error}; copy the folder again") from error
    _check_agreement(model, extractor, path)
    return Classifier(model.eval(), extractor, LogMel(extractor))


def _check_agreement(model: ASTForAudioClassification, extractor: ASTFeatureExtractor, path: Path) -> None:
    expected = (model.config.max_length, model.config.num_mel_bins)
    found = (extractor.max_length, extractor.num_mel_bins)
    if expected != found:
        raise DataError(
            f"{path}: the model takes {expected[0]} frames of {expected[1]} mel bins, its feature extractor gives "
            f"{found[0]} of {found[1]}; the two files belong to different models"
        )


def with_fresh_head(pretrained: Classifier, labels: Sequence[str], seed: int) -> Classifier:
    """A new classifier with the body of `pretrained` and a head for `labels`.

    The head is drawn from a generator of its own (normal, `initializer_range` of the model; zero
    bias; layer norm 1 and 0): an unseeded head alone moves accuracy by some points.

    Args:
        pretrained: left unchanged.
        labels: label strings by output index.
        seed: of the head.
    """
    config = ASTConfig.from_dict({**pretrained.model.config.to_dict(), **_label_maps(labels), "problem_type": None})
    with torch.random.fork_rng(devices=[]):
        model = ASTForAudioClassification(config)
    body = pretrained.model.audio_spectrogram_transformer.state_dict()
    model.audio_spectrogram_transformer.load_state_dict(body)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head = model.classifier
        head.layernorm.weight.fill_(1.0)
        head.layernorm.bias.zero_()
        head.dense.weight.normal_(0.0, config.initializer_range, generator=generator)
        head.dense.bias.zero_()
    return Classifier(model.eval(), pretrained.extractor, pretrained.log_mel)


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write a directory that `transformers.pipeline("audio-classification")` loads."""
    disable_progress_bar()
    classifier.model.save_pretrained(folder)
    classifier.extractor.save_pretrained(folder)


def _label_maps(labels: Sequence[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
