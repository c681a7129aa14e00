from __future__ import annotations

import pytest
import torch
from diffusers.schedulers.scheduling_cosine_dpmsolver_multistep import CosineDPMSolverMultistepScheduler

from common.diffusion.backend import error
from common.diffusion.objective import V, alpha_sigma, draw_times, drop_rows, noisy, v_target


def clean(x, v, t):
    alpha, sigma = alpha_sigma(t[:, None, None])
    return alpha * x - sigma * v


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, 7, generator=generator), torch.randn(5, 3, 7, generator=generator)


def test_signal_and_noise_amplitudes_lie_on_the_unit_circle():
    alpha, sigma = alpha_sigma(torch.tensor([0.0, 1 / 3, 0.5, 1.0]))
    assert torch.allclose(alpha, torch.tensor([1.0, 3**0.5 / 2, 0.5**0.5, 0.0]), atol=1e-6)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(4))


def test_v_is_the_velocity_of_the_noisy_latents_in_angle(pair):
    z, eps = pair
    t, h = torch.full((5,), 0.3, dtype=torch.float64), 1e-5
    z, eps = z.double(), eps.double()
    slope = (noisy(z, eps, t + h) - noisy(z, eps, t - h)) / (2 * h) * (2 / torch.pi)
    assert torch.allclose(slope, v_target(z, eps, t), atol=1e-8)


def test_the_true_v_gives_back_the_clean_latents(pair):
    z, eps = pair
    t = torch.tensor([0.01, 0.25, 0.5, 0.75, 0.99])
    assert torch.allclose(clean(noisy(z, eps, t), v_target(z, eps, t), t), z, atol=1e-5)


def test_training_formulas_equal_the_schedulers_preconditioning(pair):
    z, eps = pair
    scheduler = CosineDPMSolverMultistepScheduler(sigma_min=0.03, sigma_max=80)
    for sigma in (0.05, 1.0, 40.0):
        edm = torch.tensor(sigma)
        t = scheduler.precondition_noise(edm).expand(5)
        sample = z + edm * eps
        assert torch.allclose(scheduler.precondition_inputs(sample, edm), noisy(z, eps, t), atol=1e-5)
        v = v_target(z, eps, t)
        x0 = scheduler.precondition_outputs(sample, v, edm)
        assert torch.allclose(x0, clean(noisy(z, eps, t), v, t), atol=2e-4)
        assert torch.allclose(x0, z, atol=2e-4)


def test_error_is_the_mean_square_over_channels_and_frames_and_has_gradients(pair):
    z, eps = pair

    class Constant:
        objective = V
        value = torch.tensor(0.5, requires_grad=True)

        def predict(self, x, t, condition):
            return self.value.expand_as(x)

    t = torch.linspace(0.1, 0.9, 5)
    errors = error(Constant(), z, eps, t, None)
    assert torch.allclose(errors, ((0.5 - v_target(z, eps, t)) ** 2).mean(dim=(1, 2)))
    errors.sum().backward()
    assert Constant.value.grad is not None


def test_uniform_times_cover_every_stratum_once():
    t = draw_times(64, torch.Generator().manual_seed(0))
    assert sorted((t * 64).long().tolist()) == list(range(64))


def test_logit_normal_times_follow_the_logistic_of_a_standard_normal():
    t = draw_times(20000, torch.Generator().manual_seed(0), "logit_normal")
    assert torch.logit(t).mean().abs() < 0.03
    assert (torch.logit(t).std() - 1).abs() < 0.03


def test_guidance_dropout_replaces_whole_rows_by_the_null_condition(backend):
    condition = backend.condition(["sound of a bell"] * 400, [1.0] * 400)
    drop = torch.rand(400, generator=torch.Generator().manual_seed(0)) < 0.1
    dropped = drop_rows(condition, backend.null(condition), drop)
    zero = (dropped.cross == 0).flatten(1).all(1)
    assert torch.equal(zero, drop) and 20 < int(zero.sum()) < 65
    assert torch.equal(dropped.cross[~zero], condition.cross[~zero])
    assert torch.equal(dropped.global_, condition.global_)
