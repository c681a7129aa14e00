from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from transformers import ClapConfig, ClapModel

from common.clap.training import clap_config
from common.config.clap import ClapArchitecture, PretrainClapConfig, ThresholdConfig


def test_the_default_architecture_is_the_published_one() -> None:
    with torch.device("meta"):
        published = ClapModel(ClapConfig())
        ours = ClapModel(clap_config(ClapArchitecture(), published.config.text_config.vocab_size))
    different = {
        name for name, p in ours.named_parameters() if p.shape != dict(published.named_parameters())[name].shape
    }
    # RoBERTa's table has one more position, because its padding token has id 1.
    assert different == {"text_model.embeddings.position_embeddings.weight"}


def test_a_spectrogram_that_does_not_fit_the_image_is_an_error() -> None:
    with pytest.raises(ValidationError, match="raise hop_length or spec_size"):
        ClapArchitecture(hop_length=240)


def test_a_model_without_checkpoint_must_be_trained() -> None:
    with pytest.raises(ValidationError, match="set optim or checkpoint"):
        PretrainClapConfig(checkpoint=None)


def test_a_percentile_threshold_needs_a_percentile() -> None:
    with pytest.raises(ValidationError, match="needs a percentile"):
        ThresholdConfig(kind="percentile", percentile=None)
