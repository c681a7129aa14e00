"""Local run of the compiled pipeline, and publication of its results."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import DataError, StorageError
from common.runtime.parallel import cpu_count
from common.storage import STORE_VARIABLE, read_json, write_json, write_text
from components.report.page import page_of
from pipelines.dags.compile import compile_pipeline
from pipelines.local.containers import container_runner, containers_with, make_writable
from pipelines.local.stopping import TASKS
from pipelines.sources import ROOT

if TYPE_CHECKING:
    from pipelines.local.observe import Observer

UNFINISHED = {"train-classifier", "evaluate-classifier", "report"}
"""Stages that succeed with the remaining items when one failed; after a failure their cached results are deleted."""
PASSED = ("AWS_", "SYNTHIO_LLM_API_KEY", "HF_TOKEN")
"""Prefixes of environment variables that are passed to containers."""


@contextlib.contextmanager
def one_run(runs: Path) -> Iterator[None]:
    """Context that locks the folder `runs` against other runs.

    Raises StorageError: another run uses the folder, or it cannot be written.
    """
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock = (runs / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"cannot write to {runs}: {error.strerror}; choose another folder with RUNS=") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"another run is using {runs}; wait for it, or choose another folder with RUNS="
            ) from error
        yield


def prepare_local(
    runs: Path, runner: str, store: str, fresh: bool, specs: Sequence[dict[str, Any]]
) -> contextlib.AbstractContextManager[None]:
    """Set up kfp's local runner; `run_local` describes the other arguments.

    Args:
        specs: the datasets, whose files are mounted in containers.

    Returns the context in which the pipeline must run.
    """
    from kfp import local

    environment = {
        STORE_VARIABLE: store or str(runs / "store"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        # Waiting threads sleep; spinning ones made training 20 times slower where another process used the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    TASKS.variables = {**environment, "PYTHONPATH": str(ROOT)}
    root = runs / "kfp"
    launcher: Any = local.SubprocessRunner(use_venv=False)
    places: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if runner == "docker":
        passed = {key: value for key, value in os.environ.items() if key.startswith(PASSED)}
        launcher = container_runner(
            {**environment, **passed}, network="://" in store or "SYNTHIO_LLM_API_KEY" in passed
        )
        make_writable([root, runs / "store"])
        inputs = [Path(spec[key]) for spec in specs for key in ("labels", "audio", "root") if spec.get(key)]
        places = containers_with([runs / "store"], inputs)
    local.init(
        runner=launcher,
        pipeline_root=str(root),
        enable_caching=not fresh,
        cache_root=str(runs / "cache"),
        raise_on_error=True,
    )
    return places


def run_local(
    arguments: dict[str, Any], runs: Path, runner: str = "subprocess", store: str = "", fresh: bool = False
) -> int:
    """Run the compiled pipeline on this machine and publish the results below `runs`.

    Args:
        runner: `subprocess`, or `docker` for a container per task.
        store: folder or s3:// address of the run store; empty = a folder below `runs`.
        fresh: disable KFP's cache, so that every task runs again.

    Returns exit status: 0 = everything succeeded, 1 = the run or an item failed.
    """
    spec = yaml.safe_load(arguments["dataset"])
    name = spec["name"]
    folder = new_folder(runs, f"{name}-{arguments['preset']}")
    compiled = compile_pipeline(ROOT / "build" / "synthio.yaml")
    places = prepare_local(runs, runner, store, fresh, [spec])
    print(f"running {name} with preset {arguments['preset']}; full log: {folder / 'log.txt'}", flush=True)
    run, outputs, observer = execute(compiled, arguments, folder, places)
    if run["state"] != "succeeded":
        return 1
    failures = publish(outputs, folder, run)
    _point_latest(runs, folder)
    if failures:
        # A stage with a failed item still succeeds with the others; it must not be cached for the next run.
        observer.evict(UNFINISHED)
        for failure in failures:
            print(f"failed item: {json.dumps(failure)}", file=sys.stderr)
    print(read_json(folder / "report.json")["verdict"]["text"])
    print(f"report: {runs / 'latest' / 'report.html'}")
    return 1 if failures else 0


def new_folder(runs: Path, name: str) -> Path:
    """Make the folder of a run that begins now."""
    folder = runs / f"{name}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    return folder


def execute(
    compiled: Path, arguments: dict[str, Any], folder: Path, places: contextlib.AbstractContextManager[None]
) -> tuple[dict[str, Any], dict[str, Path], Observer]:
    """Run a compiled pipeline, write `log.txt` and `run.json` to `folder`, and tell which tasks failed.

    Returns the content of run.json, the paths of the pipeline's outputs, and what was observed.
    """
    from kfp import components

    from pipelines.local.observe import Observer

    start, observer, outputs = time.monotonic(), Observer(), dict[str, Path]()
    run: dict[str, Any] = {"state": "failed"}
    log = (folder / "log.txt").open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    try:
        with log, places, observer.watching(), contextlib.redirect_stdout(log), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = components.load_component_from_file(str(compiled))(**arguments)
            outputs = {key: Path(artifact.path) for key, artifact in task.outputs.items()}
        run["state"] = "succeeded"
    except Exception:
        if not observer.failures():
            raise
        for row in observer.failures():
            print(f"error in {row['name']}: {row['error']}", file=sys.stderr)
        print(f"full log: {folder / 'log.txt'}", file=sys.stderr)
    except KeyboardInterrupt:
        run["state"] = "interrupted"
        raise
    finally:
        wall_s = time.monotonic() - start
        inside_s = sum(row["model_seconds"] for row in observer.stages)
        run |= {
            "stages": observer.stages,
            "wall_seconds": round(wall_s, 2),
            "outside_models_share": round(max(0.0, 1 - inside_s / wall_s), 4),
            "machine": machine(),
            "arguments": arguments,
            "artifacts": observer.artifacts,
        }
        write_json(folder / "run.json", run)
    return run, outputs, observer


def publish(outputs: dict[str, Path], folder: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Copy the run's results to `folder`; return the failed items named in report.json."""
    for name in ("report.json", "page.json"):
        shutil.copyfile(outputs["results"] / name, folder / name)
    shutil.copytree(outputs["classifier"], folder / "classifier")
    shutil.copytree(outputs["synthetic"] / "clips", folder / "synthetic")
    aligned = sorted(path.parent for path in outputs["aligned"].glob("*/*/model_index.json"))
    model = aligned[0] if aligned else outputs["t2a"]
    if (model / "model_index.json").is_file():
        shutil.copytree(model, folder / "t2a")
    write_text(folder / "report.html", page_of(folder, run))
    failures: list[dict[str, Any]] = read_json(folder / "report.json")["failures"]
    return failures


def _point_latest(runs: Path, folder: Path) -> None:
    link = runs / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(runs / "latest")


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json of a local run. Raises DataError: `folder` is no run."""
    if not (folder / "run.json").is_file():
        raise DataError(f"no run in {folder}: expected run.json there; give RUN=runs/<name of a run>")
    record: dict[str, Any] = read_json(folder / "run.json")
    return record


def machine() -> dict[str, Any]:
    """Description of this machine for run.json: CPU, cores, memory (GiB), Python version."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": cpu,
        "cores": cpu_count(),
        "memory_gb": round(memory_kb / 2**20, 1),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
