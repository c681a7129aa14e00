import os
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl, local
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec

from pipelines.local.observe import Observer, in_order
from tests.kit.once import Compiled


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
    from kfp.local import cache, graph_utils, subprocess_task_handler
    from kfp.local.orchestrator import task_executor

    def functions() -> tuple[Any, ...]:
        handler = (subprocess_task_handler.run_local_subprocess, subprocess_task_handler.replace_python_executable)
        own = (task_executor.execute_single_task, cache.LocalCache.get, cache.LocalCache.compute_key)
        return (*own, graph_utils.topological_sort_tasks, *handler)

    before = functions()
    run()
    assert before == functions()


def test_the_dataset_is_prepared_first_and_every_run_has_the_same_order(compiled: Compiled) -> None:
    tasks = {
        name: PipelineTaskSpec(dependent_tasks=task.get("dependentTasks", []))
        for name, task in compiled.documents()[0]["root"]["dag"]["tasks"].items()
    }
    orders = [in_order(dict(items)) for items in (tasks.items(), reversed(tasks.items()))]
    assert orders[0] == orders[1] and orders[0][::-1][:2] == ["plan", "prepare-dataset"]
    begun: set[str] = set()
    for name in reversed(orders[0]):
        assert set(tasks[name].dependent_tasks) <= begun
        begun.add(name)
    assert begun == set(tasks)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def work(way: str, after: str) -> str:
    import os
    import sys

    if way == "raise":
        raise ValueError("no clips in Größe")
    if way == "exit":
        sys.exit(3)
    if way == "kill":
        os.kill(os.getpid(), 9)
    return way


@dsl.pipeline(name="branches")
def branches(way: str) -> str:
    """Two tasks that fail, neither of which depends on the other: kfp would start both."""
    first, second = work(way=way, after=""), work(way=way, after="")
    return work(way=first.output, after=second.output).output


@dsl.pipeline(name="cell")
def cell(way: str) -> str:
    first, second = work(way=way, after=""), work(way="two", after="")
    return work(way=first.output, after=second.output).output


@dsl.pipeline(name="study")
def study() -> str:
    with dsl.ParallelFor(["kill", "fine", "raise"], parallelism=1) as way:
        looped = cell(way=way)
    return work(way="last", after="").after(looped).ignore_upstream_failure().output


def observed(pipeline: Any, place: Path, **arguments: Any) -> Observer:
    runner = local.SubprocessRunner(use_venv=False)
    local.init(runner=runner, pipeline_root=str(place / "kfp"), raise_on_error=False)
    observer = Observer()
    with observer.watching():
        pipeline(**arguments)
    return observer


@pytest.mark.parametrize(
    ("way", "error"),
    [
        ("raise", "ValueError: no clips in Größe"),
        ("exit", "the process ended with status 3, last line: "),
        ("kill", "the process was ended by SIGKILL; most often the machine ran out of memory"),
    ],
)
def test_the_task_that_failed_is_named_with_its_error_and_nothing_starts_after_it(
    tmp_path: Path, way: str, error: str
) -> None:
    observer = observed(branches, tmp_path, way=way)
    (row,) = observer.stages
    assert (row["name"], row["state"]) == ("work", "failed") and row["error"].startswith(error)


def test_a_failed_cell_of_a_study_ends_alone(tmp_path: Path) -> None:
    observer = observed(study, tmp_path)
    by_cell: dict[int | None, list[str]] = {}
    for row in observer.stages:
        by_cell.setdefault(row["cell"], []).append(row["state"])
    assert by_cell[1] == ["succeeded"] * 3 and by_cell[None] == ["succeeded"]
    for number in (0, 2):
        assert by_cell[number][-1] == "failed" and by_cell[number].count("failed") == 1
    assert ["SIGKILL" in row["error"] or "no clips" in row["error"] for row in observer.failures()] == [True, True]


def test_an_error_of_the_runner_itself_is_that_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kfp.local import task_dispatcher

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(task_dispatcher, "run_single_task_implementation", full)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path))
    observer = Observer()
    with pytest.raises(OSError, match="No space"), observer.watching():
        two(x=1)
    assert [(row["state"], row["error"]) for row in observer.stages] == [
        ("failed", "[Errno 28] No space left on device")
    ]


PATHS = ("python3", "/home/anna/python3-projects/runs", "a python3 -m b", "python3.11/python3", "--python3=python3")


def test_paths_that_name_the_interpreter_arrive_as_they_are(tmp_path: Path) -> None:
    place, text = tmp_path / "python3-projects" / "python3", "; ".join(PATHS)
    observer = observed(texts, place, text=text)
    assert [row["state"] for row in observer.stages] == ["succeeded"]
    kept = Path(observer.artifacts["keep"]["kept"])
    assert kept.read_text() == text and kept.is_relative_to(place)


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def keep(text: str, kept: dsl.Output[dsl.Artifact]) -> None:
    with open(kept.path, "w") as file:
        file.write(text)


@dsl.pipeline(name="texts")
def texts(text: str) -> None:
    keep(text=text)


def test_an_interpreter_in_a_folder_with_an_awkward_name_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "Anna's python3 env"
    place.mkdir()
    (place / "python").symlink_to(sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    assert [row["state"] for row in observed(two, tmp_path, x=1).stages] == ["succeeded"] * 2
