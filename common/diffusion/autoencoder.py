"""Loading of a pipeline's `vae`: a learned Oobleck autoencoder or the spectral codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleck

from common.diffusion.spectral_codec import SpectralCodec
from common.errors import DataError
from common.storage import read_json

_CLASSES: dict[str, Any] = {"AutoencoderOobleck": AutoencoderOobleck, "SpectralCodec": SpectralCodec}


def load_autoencoder(path: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """Load the autoencoder saved in a folder (`save_pretrained`), in evaluation mode.

    Raises DataError: the folder holds another class.
    """
    name = read_json(Path(path) / "config.json").get("_class_name")
    if name not in _CLASSES:
        raise DataError(f"{path} holds a {name}, expected {' or '.join(_CLASSES)}")
    return _CLASSES[name].from_pretrained(str(path), dtype=dtype, use_safetensors=True).to(device).eval()
