"""Parts of Stable Audio Open Small (arXiv 2505.08175) that diffusers lacks. Saved models name this module.

Shapes from sandst1/stable-audio-mlx at 1faf0d5 (src/models/dit.py).
"""

from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioNumberConditioner
from torch import Tensor, nn

_QK_NORM_EPS = 1e-6


class StableAudioSmallDiT(StableAudioDiTModel):
    """Stable Audio's transformer with normalised queries and keys; defaults: the published shapes, 341 M parameters."""

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        sample_size: int = 256,
        in_channels: int = 64,
        num_layers: int = 16,
        attention_head_dim: int = 128,
        num_attention_heads: int = 8,
        num_key_value_attention_heads: int = 8,
        out_channels: int = 64,
        cross_attention_dim: int = 1024,
        time_proj_dim: int = 256,
        global_states_input_dim: int = 768,
        cross_attention_input_dim: int = 768,
    ) -> None:
        # diffusers has registered the arguments by now.
        super().__init__(**{name: value for name, value in self.config.items() if not name.startswith("_")})
        for block in self.transformer_blocks:
            for attention in (block.attn1, block.attn2):
                attention.norm_q = nn.LayerNorm(attention_head_dim, eps=_QK_NORM_EPS)
                attention.norm_k = nn.LayerNorm(attention_head_dim, eps=_QK_NORM_EPS)


class StableAudioSmallProjection(ModelMixin, ConfigMixin):
    """Projection of text states and of seconds from `min_value` to `max_value` to the conditioning width."""

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self, text_encoder_dim: int, conditioning_dim: int = 768, min_value: float = 0, max_value: float = 256
    ) -> None:
        super().__init__()
        same = text_encoder_dim == conditioning_dim
        self.text_projection = nn.Identity() if same else nn.Linear(text_encoder_dim, conditioning_dim)
        self.seconds_total = StableAudioNumberConditioner(conditioning_dim, min_value, max_value)

    def forward(self, text_hidden_states: Tensor, seconds_total: Tensor) -> tuple[Tensor, Tensor]:
        """Project states `(B, S, E)` and seconds `(B,)` to `(B, S, C)` and `(B, 1, C)`."""
        return self.text_projection(text_hidden_states), self.seconds_total(seconds_total)


class StableAudioSmallPipeline(DiffusionPipeline):
    """The model's parts as a diffusers pipeline, saved in one folder."""

    def __init__(
        self, vae: Any, text_encoder: Any, projection_model: Any, tokenizer: Any, transformer: Any, scheduler: Any
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            projection_model=projection_model,
            tokenizer=tokenizer,
            transformer=transformer,
            scheduler=scheduler,
        )
