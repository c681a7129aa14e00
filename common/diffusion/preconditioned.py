"""Stable Audio's transformer for latents whose channels differ in scale or outnumber its width.

The v-target holds the noise of every channel, which a network narrower than its input cannot carry to its output. As in
EDM (arXiv 2206.00364, table 1), here by channel, the linear estimate goes around the network, which then predicts
what is left at unit scale.
"""

from collections.abc import Sequence
from functools import wraps
from typing import Any

import torch

# diffusers looks in a class's module for the base by which it loads it.
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from torch import Tensor

from common.diffusion.objective import alpha_sigma


class PreconditionedDiT(StableAudioDiTModel):
    """`v = skip(t) x + scale(t) network(x, t)`, with the best `skip` for channels that are normal with `channel_std`.

    With `channel_std` 1, its initial value, it is the stock model. Arguments: those of `StableAudioDiTModel`.
    """

    channel_std: Tensor

    # diffusers reads the names of a config from the signature.
    @wraps(StableAudioDiTModel.__init__)  # type: ignore[misc]  # mypy knows no such decorator of a constructor
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.register_buffer("channel_std", torch.ones(self.config.in_channels))

    def fit_scale(self, latents: Sequence[Tensor]) -> None:
        """Set `channel_std` to the root mean square of clean latents `(D, L)`; they have mean 0."""
        if latents:
            self.channel_std.copy_(torch.cat(list(latents), dim=1).float().square().mean(dim=1).sqrt())

    def forward(self, hidden_states: Tensor, timestep: Tensor, *arguments: Any, **named: Any) -> tuple[Tensor]:
        """Tuple of v `(B, D, L)`, for noisy latents `(B, D, L)` at times `(B,)`: 0 = clean, 1 = noise."""
        output = super().forward(hidden_states, timestep, *arguments, **{**named, "return_dict": False})[0]
        alpha, sigma = alpha_sigma(timestep.float()[:, None, None])
        signal = self.channel_std.float().square()[:, None]
        power = alpha**2 * signal + sigma**2
        skip, scale = alpha * sigma * (1 - signal) / power, (signal / power).sqrt()
        return ((skip * hidden_states + scale * output).to(output.dtype),)
