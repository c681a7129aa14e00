"""The classifier as a transformers directory: building, fresh seeded head, loading, saving."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.models.audio_spectrogram_transformer.configuration_audio_spectrogram_transformer import ASTConfig
from transformers.models.audio_spectrogram_transformer.feature_extraction_audio_spectrogram_transformer import (
    ASTFeatureExtractor,
)
from transformers.models.audio_spectrogram_transformer.modeling_audio_spectrogram_transformer import (
    ASTForAudioClassification,
)
from transformers.utils.logging import disable_progress_bar

from common.classifier.features import HOP_LENGTH, WINDOW_S, FrontEnd, LogMel, front_end_of
from common.config.classifier import ASTArchitecture, LevelConfig
from common.errors import ConfigError, DataError
from common.storage import read_json

AST = "audio-spectrogram-transformer"
HEAD = "classifier"
"""Name of the last layers in every audio classifier of transformers."""
POSITIONS = "audio_spectrogram_transformer.embeddings.position_embeddings"
MULTI_LABEL = "multi_label_classification"


@dataclass(frozen=True)
class Classifier:
    """A model of `AutoModelForAudioClassification`, and its front end in place of the extractor saved beside it."""

    model: Any
    extractor: Any
    front_end: FrontEnd

    @property
    def labels(self) -> list[str]:
        """Labels by output index."""
        return [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of the input waveforms."""
        return self.front_end.sample_rate_hz

    @property
    def multi_label(self) -> bool:
        """Whether labels are independent (sigmoid) instead of exclusive (softmax)."""
        return bool(self.model.config.problem_type == MULTI_LABEL)

    def logits(self, windows: Tensor) -> Tensor:
        """Logits (B, labels) of windows (B, max_length, bins), on the model's device."""
        device = next(self.model.parameters()).device
        inputs = {name: value.to(device) for name, value in self.front_end.inputs(windows).items()}
        return self.model(**inputs).logits


def build_classifier(
    architecture: ASTArchitecture,
    labels: Sequence[str],
    mean: float,
    std: float,
    seed: int,
    level: LevelConfig | None = None,
) -> Classifier:
    """Build a classifier with random weights; log-mel features become (x - mean) / (2 std)."""
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
    extractor = build_extractor(architecture, level, mean=mean, std=std)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ASTForAudioClassification(config)
    return Classifier(model.eval(), extractor, LogMel(extractor))


def build_extractor(architecture: ASTArchitecture, level: LevelConfig | None, **settings: Any) -> ASTFeatureExtractor:
    """Feature extractor of an architecture, with further `settings` of its class."""
    return ASTFeatureExtractor(
        sampling_rate=architecture.sample_rate_hz,
        num_mel_bins=architecture.num_mel_bins,
        max_length=architecture.max_length,
        **settings,
        **(level.model_dump() if level else {}),
    )


def log_mel_of(classifier: Classifier, setting: str) -> LogMel:
    """Front end of a classifier on spectrograms, which alone can follow a setting of `pretrain_classifier`.

    Raises ConfigError: it takes waveforms.
    """
    if not isinstance(classifier.front_end, LogMel):
        raise ConfigError(
            f"pretrain_classifier.{setting} is given for a {type(classifier.model).__name__}, which takes waveforms; "
            "leave it out, or name an Audio Spectrogram Transformer"
        )
    return classifier.front_end


def at_level(classifier: Classifier, level: LevelConfig) -> Classifier:
    """The same model, which hears every clip at one level.

    Raises ConfigError: it takes waveforms, whose extractor has a normalisation of its own.
    """
    log_mel_of(classifier, "level")
    extractor = type(classifier.extractor).from_dict({**classifier.extractor.to_dict(), **level.model_dump()})
    return Classifier(classifier.model, extractor, LogMel(extractor))


def load_classifier(path: Path, window_s: float = WINDOW_S) -> Classifier:
    """Load a transformers directory: an Audio Spectrogram Transformer, or another audio classifier.

    A missing head is drawn from a fixed seed. A waveform model that states its window keeps it.

    Raises:
        ConfigError: the model takes features of a kind that is not supported.
        DataError: no such directory, not an audio classifier, damaged files, or a spectrogram model lacks weights.
    """
    config_path = path / "config.json"
    if not os.path.isfile(config_path):
        raise DataError(
            f"no classifier at {path}: expected a folder with config.json, preprocessor_config.json, model.safetensors"
        )
    extractor_class, model_class = _classes(config_path)
    disable_progress_bar()
    try:
        extractor = extractor_class.from_pretrained(path, local_files_only=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, told = model_class.from_pretrained(
                path, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except SafetensorError as error:
        raise DataError(f"the weights at {path} are damaged: {error}; copy the folder again") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot load the classifier at {path}: {error}; make it again or copy the whole folder"
        ) from error
    front_end = front_end_of(extractor, getattr(model.config, "window_s", window_s))
    if isinstance(front_end, LogMel):
        _check_agreement(model, extractor, path)
        if lacking := sorted(name for name in told["missing_keys"] if not name.startswith(HEAD)):
            raise DataError(f"the classifier at {path} lacks weights: {', '.join(lacking[:3])}; copy the whole folder")
    else:
        model.config.window_s = front_end.max_length / front_end.sample_rate_hz
    return Classifier(model.eval(), extractor, front_end)


def _classes(config_path: Path) -> tuple[Any, Any]:
    """Classes of the feature extractor and the model; those of AST load without importing all others."""
    model_type = read_json(config_path).get("model_type")
    if model_type == AST:
        return ASTFeatureExtractor, ASTForAudioClassification
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification
    from transformers.models.auto.modeling_auto import MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES as KNOWN

    if model_type not in KNOWN:
        raise DataError(
            f"{config_path}: model_type is {model_type!r}, which is no audio classifier; expected one of "
            f"{', '.join(sorted(KNOWN))}"
        )
    return AutoFeatureExtractor, AutoModelForAudioClassification


def _check_agreement(model: Any, extractor: Any, path: Path) -> None:
    expected = (model.config.max_length, model.config.num_mel_bins)
    found = (extractor.max_length, extractor.num_mel_bins)
    if expected != found:
        raise DataError(
            f"{path}: the model takes {expected[0]} frames of {expected[1]} mel bins, its feature extractor gives "
            f"{found[0]} of {found[1]}; the two files belong to different models"
        )


def with_fresh_head(
    pretrained: Classifier, labels: Sequence[str], seed: int, multi_label: bool = False, window_s: float | None = None
) -> Classifier:
    """Build a new classifier with the body of `pretrained` and a new head for `labels`.

    The head has a generator of its own (normal, `initializer_range` of the model; zero
    bias; layer norm 1 and 0); an unseeded head alone moves accuracy by some points.

    Args:
        pretrained: left unchanged.
        window_s: seconds that the new classifier sees at once, if it is an Audio Spectrogram Transformer that sees
            more: it keeps the middle of the embeddings of position, as in the official code. None = as `pretrained`.
    """
    old = pretrained.model
    changes: dict[str, Any] = {**_label_maps(labels), "problem_type": MULTI_LABEL if multi_label else None}
    state, extractor, front_end = old.state_dict(), pretrained.extractor, pretrained.front_end
    if window_s is not None and isinstance(front_end, LogMel):
        frames = round(window_s * front_end.sample_rate_hz / HOP_LENGTH)
        if old.config.patch_size <= frames < front_end.max_length:
            changes["max_length"] = frames
            state[POSITIONS] = cut_positions(state[POSITIONS], old.config, frames)
            extractor = type(extractor).from_dict({**extractor.to_dict(), "max_length": frames})
            front_end = LogMel(extractor)
    if hasattr(old.config, "apply_spec_augment"):
        # Masks inside the model come from NumPy's global generator and would affect every method.
        changes["apply_spec_augment"] = False
    config = type(old.config).from_dict({**old.config.to_dict(), **changes})
    with torch.random.fork_rng(devices=[]):
        model = type(old)(config)
    head = getattr(model, HEAD)
    model.load_state_dict({**state, **{f"{HEAD}.{k}": v for k, v in head.state_dict().items()}})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in head.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.weight.fill_(1.0)
                layer.bias.zero_()
            elif isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, getattr(config, "initializer_range", 0.02), generator=generator)
                layer.bias.zero_()
    return Classifier(model.eval(), extractor, front_end)


def cut_positions(embeddings: Tensor, config: ASTConfig, frames: int) -> Tensor:
    """Embeddings of position for a shorter window: the middle ones in time, as in the official code of AST.

    Embeddings (1, 2 + rows * columns, C) are of two tokens and of the patches, frequency by frequency.
    """
    columns, kept = ((length - config.patch_size) // config.time_stride + 1 for length in (config.max_length, frames))
    first = columns // 2 - kept // 2
    patches = embeddings[:, 2:].unflatten(1, (-1, columns))[:, :, first : first + kept]
    return torch.cat([embeddings[:, :2], patches.flatten(1, 2)], dim=1)


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Save a directory that `transformers.pipeline("audio-classification")` loads.

    The pipeline does not apply `LEVEL`: it answers alike for a clip of that peak with nothing below that floor.
    """
    disable_progress_bar()
    classifier.model.save_pretrained(folder)
    classifier.extractor.save_pretrained(folder)


def _label_maps(labels: Sequence[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
