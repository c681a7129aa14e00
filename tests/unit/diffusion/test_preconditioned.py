"""The transformer whose linear part goes around the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.stable_audio_transformer import StableAudioDiTModel

from common.diffusion.objective import V
from common.diffusion.preconditioned import PreconditionedDiT

SHAPE = {
    "sample_size": 8, "in_channels": 6, "out_channels": 6, "num_layers": 1, "attention_head_dim": 4,
    "num_attention_heads": 2, "num_key_value_attention_heads": 1, "cross_attention_dim": 8,
    "cross_attention_input_dim": 8, "global_states_input_dim": 8, "time_proj_dim": 8,
}  # fmt: skip
STD = torch.tensor([0.1, 0.3, 1.0, 1.0, 3.0, 10.0])


def predict(model: StableAudioDiTModel, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    states = torch.ones(len(noisy), 2, 8), torch.ones(len(noisy), 1, 8)
    turns = torch.ones(noisy.shape[2] + 1, 2), torch.zeros(noisy.shape[2] + 1, 2)
    with torch.no_grad():
        output: torch.Tensor = model(
            noisy, t, encoder_hidden_states=states[0], global_hidden_states=states[1], rotary_embedding=turns
        )[0]
    return output


def test_at_scale_one_it_is_the_stock_model() -> None:
    torch.manual_seed(0)
    model = PreconditionedDiT(**SHAPE)
    stock = StableAudioDiTModel(**SHAPE)
    stock.load_state_dict({key: value for key, value in model.state_dict().items() if key != "channel_std"})
    noisy, t = torch.randn(3, 6, 8), torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(predict(model, noisy, t), predict(stock, noisy, t), atol=1e-5, rtol=0)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_a_silent_network_predicts_what_is_best_for_normal_channels(t: float) -> None:
    generator = torch.Generator().manual_seed(0)
    model = PreconditionedDiT(**SHAPE)
    for weight in model.parameters():
        torch.nn.init.zeros_(weight)
    clean = torch.randn(4000, 6, 8, generator=generator) * STD[:, None]
    model.fit_scale(list(clean))
    torch.testing.assert_close(model.channel_std, STD, rtol=0.02, atol=0)
    noise, times = torch.randn(clean.shape, generator=generator), torch.full((len(clean),), t)
    noisy, target = V.noisy(clean, noise, times), V.target(clean, noise, times)
    best = (noisy * target).mean(dim=(0, 2)) / noisy.square().mean(dim=(0, 2))
    torch.testing.assert_close(predict(model, noisy, times), best[:, None] * noisy, atol=0.1, rtol=0.05)


def test_scale_and_shape_are_saved(tmp_path: Path) -> None:
    model = PreconditionedDiT(**SHAPE)
    model.channel_std.copy_(STD)
    model.save_pretrained(tmp_path)
    loaded = PreconditionedDiT.from_pretrained(tmp_path)
    assert torch.equal(loaded.channel_std, STD) and loaded.config.num_layers == 1
