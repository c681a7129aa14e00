from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from common.clap.figures import KERNEL_SCALE, frechet_distance, kernel_distance
from common.errors import DataError


def gaussian(n: int, scale: np.ndarray, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, len(scale))) * scale + mean


def test_frechet_of_one_dimension_is_the_closed_form() -> None:
    a, b = gaussian(50, np.array([1.0])), gaussian(70, np.array([3.0]), mean=2.0, seed=1)
    expected = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_frechet_equals_the_matrix_root_formula() -> None:
    a, b = gaussian(200, np.linspace(0.5, 2, 6)), gaussian(150, np.linspace(2, 0.5, 6), 0.3, seed=1)
    mixed = np.random.default_rng(2).standard_normal((6, 6))
    b = b @ mixed
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_is_finite_and_zero_on_itself_with_fewer_samples_than_dimensions() -> None:
    a = gaussian(5, np.ones(64))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 1) == pytest.approx(64)


def test_kernel_distance_of_two_pairs_is_the_closed_form() -> None:
    a, b = np.array([[0.0], [1.0]]), np.array([[3.0], [5.0]])
    k = lambda d: np.exp(-(d**2) / 2)  # noqa: E731
    expected = k(1) + k(2) - 2 * np.mean([k(3), k(5), k(2), k(4)])
    assert kernel_distance(a, b, bandwidth=1.0) == pytest.approx(KERNEL_SCALE * expected)
    assert kernel_distance(a, b) == pytest.approx(KERNEL_SCALE * expected)


def test_kernel_distance_is_unbiased_at_any_number_of_samples() -> None:
    scale = np.ones(4)
    values = [kernel_distance(gaussian(6, scale, seed=i), gaussian(9, scale, seed=1000 + i), 2.0) for i in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distance_grows_with_the_shift(distance) -> None:  # type: ignore[no-untyped-def]
    a = gaussian(100, np.ones(8))
    values = [distance(a, gaussian(100, np.ones(8), shift, seed=1)) for shift in (0.0, 0.5, 1.0)]
    assert values == sorted(values)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_a_single_row_is_an_error(distance) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="expected"):
        distance(np.zeros((1, 3)), np.zeros((4, 3)))


def test_blocks_change_no_kernel_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 8)), rng.standard_normal((70, 8)) + 0.3
    whole = kernel_distance(a, b)
    monkeypatch.setattr("common.clap.figures.BLOCK", 16)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-9)
    assert kernel_distance(a, a[:40]) < whole
