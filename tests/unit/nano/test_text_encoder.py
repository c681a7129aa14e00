"""The text encoder of nano: what it learns to predict."""

from __future__ import annotations

import numpy as np

from contrib.nano.text_encoder import _course


def test_the_course_of_a_clip_is_its_mean_in_each_third_and_its_deviation() -> None:
    latent = np.array([[0, 0, 1, 1, 5, 5], [2, 2, 2, 2, 2, 2]], dtype=np.float32)
    np.testing.assert_allclose(_course(latent), [0, 2, 1, 2, 5, 2, latent[0].std(), 0], rtol=1e-6)


def test_a_clip_of_fewer_than_three_frames_has_a_course_too() -> None:
    assert np.isfinite(_course(np.ones((4, 1), dtype=np.float32))).all()
