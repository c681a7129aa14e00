"""Conversion of a published pickle of weights to safetensors, so that no stage ever reads a pickle."""

import os
from pathlib import Path

from common.errors import DataError


def convert_pickle(source: Path, target: Path) -> None:
    """Write the tensors of a pickled state dict as safetensors, atomically.

    The pickle is read with `weights_only=True`, which builds tensors and plain containers and runs no code of the file.
    Tensors that share memory become copies with the same values.

    Args:
        source: written by `torch.save`: names and tensors.
        target: in an existing folder; replaced if it is there.

    Raises DataError: the file asks for code, is damaged, or holds something other than named tensors.
    """
    import torch
    from safetensors.torch import save_file

    try:
        values = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile or damaged file raises
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DataError(
            f"{source} cannot be read without running code of it, or is damaged ({type(error).__name__}: {reason}): "
            "it is not converted; name another commit or model"
        ) from error
    if not isinstance(values, dict) or not values:
        raise DataError(f"{source} holds a {type(values).__name__}, expected names and tensors: it is not converted")
    tensors = {}
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise DataError(
                f"{source} holds a {type(value).__name__} as {name!r:.80}, expected names and dense tensors: it is not "
                "converted"
            )
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    part = target.with_name(f".{target.name}.part")
    save_file(tensors, part, metadata={"format": "pt"})
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.replace(target)
