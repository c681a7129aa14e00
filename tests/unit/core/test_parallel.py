from __future__ import annotations

import os
from typing import Literal

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from common.errors import DataError
from common.runtime.parallel import cpu_count, run_items
from common.runtime.split_guard import RUNNING, running_as


def square(x: int) -> int:
    if x == 3:
        raise ValueError("three")
    return x * x


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_with_their_index_and_an_error_does_not_stop_the_rest(workers: int) -> None:
    results = dict(run_items(square, [1, 2, 3, 4], workers=workers))
    assert {index: value for index, value in results.items() if index != 2} == {0: 1, 1: 4, 3: 16}
    assert isinstance(results[2], ValueError)


class AwkwardError(DataError):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)


def awkward(x: int) -> int:
    if x == 2:
        raise AwkwardError("reason", "no audio in x.flac")
    return x


def test_an_error_that_cannot_be_unpickled_arrives_as_its_kind() -> None:
    results = dict(run_items(awkward, [1, 2, 3], workers=2))
    assert isinstance(results[1], DataError)
    assert str(results[1]) == "no audio in x.flac"
    assert (results[0], results[2]) == (1, 3)


def stage_of(x: int) -> str | None:
    return RUNNING.get()


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_are_part_of_the_stage_that_started_them(start: Literal["fork", "spawn"]) -> None:
    with running_as("evaluate_classifier"):
        assert dict(run_items(stage_of, [1, 2], 2, start)) == dict.fromkeys(range(2), "evaluate_classifier")
    assert set(dict(run_items(stage_of, [1, 2], 2, start)).values()) == {None}


def threads_of_blas(x: int) -> list[int]:
    import scipy.linalg

    scipy.linalg.eigh(np.eye(2))
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_a_workers_linear_algebra_has_one_thread() -> None:
    with threadpool_limits(2):
        found = dict(run_items(threads_of_blas, [1, 2], workers=2))
    assert all(threads and set(threads) == {1} for threads in found.values()), found


def test_cpu_count_is_within_the_machine() -> None:
    assert 1 <= cpu_count() <= (os.cpu_count() or 1)
