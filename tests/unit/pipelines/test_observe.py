from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local

from pipelines.local.observe import Observer


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def double(x: int) -> int:
    return 2 * x


@dsl.pipeline(name="two")
def two(x: int = 1) -> int:
    first = double(x=x)
    return double(x=first.output).output


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def once(x: int = 1) -> Observer:
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(tmp_path / "kfp"),
            enable_caching=True,
            cache_root=str(tmp_path / "cache"),
        )
        observer = Observer()
        with observer.watching():
            two(x=x)
        return observer

    return once


def test_every_task_has_a_row_with_time_cache_use_and_outcome(run: Any) -> None:
    first = run()
    assert [(row["name"], row["cached"], row["state"]) for row in first.stages] == [
        ("double", False, "succeeded"),
        ("double-2", False, "succeeded"),
    ]
    assert all(row["seconds"] > 0 for row in first.stages)
    assert [row["cached"] for row in run().stages] == [True, True]


def test_an_evicted_stage_runs_again(run: Any) -> None:
    run().evict({"double"})
    assert [row["cached"] for row in run().stages] == [False, False]


def test_kfp_is_left_as_it_was(run: Any) -> None:
    from kfp.local import cache
    from kfp.local.orchestrator import task_executor

    before = (task_executor.execute_single_task, cache.LocalCache.get, cache.LocalCache.compute_key)
    run()
    assert before == (task_executor.execute_single_task, cache.LocalCache.get, cache.LocalCache.compute_key)
