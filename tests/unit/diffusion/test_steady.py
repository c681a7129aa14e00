from __future__ import annotations

import pytest
import torch

from common.diffusion.sampling import SteadyProcessor, steady
from common.diffusion.text import join

CAPTIONS = ["sound of a bell", "a loud dog bark", "siren"]


def predicted(backend, condition, standing):
    noisy = torch.randn(len(condition.cross), 48, 12, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, len(noisy))
    return backend.predict(noisy, t, condition), backend.predict(noisy, t, standing)


@pytest.mark.parametrize("guided", [True, False])
@torch.no_grad()
def test_a_steady_condition_predicts_what_the_condition_does(random_backend, guided):
    condition = random_backend.condition(CAPTIONS, [1.0, 0.5, 0.7])
    both = join([random_backend.null(condition), condition]) if guided else condition
    transformer = random_backend.transformer
    with steady(transformer, both, 3 if guided else 0) as standing:
        assert standing.cross.shape[1] == 1
        steadied, again = predicted(random_backend, standing, standing)
        assert torch.equal(steadied, again)
    expected, _ = predicted(random_backend, both, both)
    assert torch.allclose(steadied, expected, atol=1e-6)
    assert expected.std() > 0.1


def test_the_transformer_is_as_before_afterwards_also_after_an_error(random_backend):
    condition = random_backend.condition(CAPTIONS, [1.0] * 3)
    attentions = [block.attn2 for block in random_backend.transformer.transformer_blocks]
    stock = [attention.processor for attention in attentions]
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), steady(random_backend.transformer, condition, 0):
        assert all(isinstance(attention.processor, SteadyProcessor) for attention in attentions)
        raise KeyboardInterrupt
    assert [attention.processor for attention in attentions] == stock


def test_a_transformer_that_is_compiled_or_unknown_gets_the_condition_itself(random_backend):
    condition = random_backend.condition(CAPTIONS, [1.0] * 3)
    with steady(torch.nn.Linear(1, 1), condition, 0) as standing:
        assert standing is condition
    random_backend.transformer.transformer_blocks[0].compile(backend="eager")
    with steady(random_backend.transformer, condition, 0) as standing:
        assert standing is condition


@pytest.fixture
def random_backend(backend):
    """Random weights where a fresh model has zeros, so that every path counts."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in backend.transformer.parameters():
            if not parameter.any():
                parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return backend
