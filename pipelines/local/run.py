"""Local run of the compiled pipeline, and publication of its results."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import DataError, StorageError
from common.log import printable
from common.runtime.parallel import cpu_count
from common.storage import STORE_VARIABLE, read_json, write_json, write_text
from common.storage.local import locked
from components.report.page import page_of
from pipelines.dags.compile import compile_pipeline
from pipelines.sources import ROOT

if TYPE_CHECKING:
    from pipelines.local.observe import Observer

UNFINISHED = {"train-classifier", "evaluate-classifier", "report"}
"""Stages that succeed with the remaining items when one failed; after a failure their cached results are deleted."""
PASSED = ("AWS_", "SYNTHIO_LLM_API_KEY", "HF_TOKEN")
"""Prefixes of environment variables that are passed to containers."""


def one_run(runs: Path) -> contextlib.AbstractContextManager[None]:
    """Context that locks the folder `runs` against other runs.

    Raises StorageError: another run uses the folder, or it or the folder of temporary files cannot be written.
    """
    temporary = os.environ.get("TMPDIR", "")
    if temporary and not (os.path.isdir(temporary) and os.access(temporary, os.W_OK)):
        raise StorageError(f"TMPDIR={temporary} is no folder that can be written; make it, name another, or unset it")
    other = "choose another folder with RUNS="
    return locked(runs / ".lock", f"another run is using {runs}; wait for it, or {other}", other)


def _prepared(
    options: argparse.Namespace, runs: Path, specs: Sequence[dict[str, Any]]
) -> tuple[Observer, contextlib.AbstractContextManager[None]]:
    """Set up kfp's local runner; returns an observer of the run, and the context in which the pipeline must run."""
    from kfp import local

    from pipelines.local.observe import Observer, container_runner, containers_with, make_writable

    environment = {
        STORE_VARIABLE: options.store or str(runs / "store"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        # Waiting threads sleep; spinning ones made training 20 times slower where another process used the cores.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    observer = Observer({**environment, "PYTHONPATH": str(ROOT)})
    root = runs / "kfp"
    launcher: Any = local.SubprocessRunner(use_venv=False)
    places: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if options.runner == "docker":
        passed = {key: value for key, value in os.environ.items() if key.startswith(PASSED)}
        launcher = container_runner(
            {**environment, **passed}, network="://" in options.store or "SYNTHIO_LLM_API_KEY" in passed
        )
        make_writable([root, runs / "store"])
        inputs = [Path(spec[key]) for spec in specs for key in ("labels", "audio", "root") if spec.get(key)]
        places = containers_with(observer, [runs / "store"], inputs)
    local.init(
        runner=launcher,
        pipeline_root=str(root),
        enable_caching=not options.fresh,
        cache_root=str(runs / "cache"),
        raise_on_error=True,
    )
    return observer, places


def run_local(arguments: dict[str, Any], options: argparse.Namespace) -> int:
    """Run the compiled pipeline on this machine, and publish the results in a new folder of `options.runs`.

    Returns exit status: 0 = everything succeeded, 1 = the run or an item failed.
    """
    spec = yaml.safe_load(arguments["dataset"])
    what = f"{spec['name']} with preset {arguments['preset']}"
    folder, run, outputs, observer = execute("synthio", arguments, spec["name"], what, [spec], options)
    if run["state"] != "succeeded":
        return 1
    failures = publish(outputs, folder, run)
    latest = folder.with_name("latest")
    link = latest.with_name(f".latest-{os.getpid()}")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(latest)
    if failures:
        # A stage with a failed item still succeeds with the others; it must not be cached for the next run.
        observer.evict(UNFINISHED)
        for failure in failures:
            print(f"failed item: {json.dumps(failure)}", file=sys.stderr)
    print(read_json(folder / "report.json")["verdict"]["text"])
    print(f"report: {latest / 'report.html'}")
    return 1 if failures else 0


def execute(
    pipeline: str,
    arguments: dict[str, Any],
    name: str,
    what: str,
    specs: Sequence[dict[str, Any]],
    options: argparse.Namespace,
) -> tuple[Path, dict[str, Any], dict[str, Path], Observer]:
    """Run a pipeline in a new folder, write `log.txt` and `run.json` to it, and tell which tasks failed.

    Args:
        name: of the folder, before preset and time.
        what: for the terminal.
        specs: the datasets, whose files are mounted in containers.
        options: `runs`, `runner`, `store` and `fresh` of the command.

    Returns the folder, the content of run.json, the paths of the pipeline's outputs, and the observer of the run.
    """
    from kfp import components

    runs = options.runs.resolve()
    folder = runs / f"{name}-{arguments['preset']}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    compiled = compile_pipeline(ROOT / "build" / f"{pipeline}.yaml", pipeline=pipeline)
    observer, places = _prepared(options, runs, specs)
    print(f"running {what}; full log: {folder / 'log.txt'}", flush=True)
    start, outputs = time.monotonic(), dict[str, Path]()
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
            print(printable(f"error in {row['name']}: {row['error']}"), file=sys.stderr)
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
    return folder, run, outputs, observer


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
    return list(read_json(folder / "report.json")["failures"])


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json of a local run. Raises DataError: `folder` is no run."""
    if not (folder / "run.json").is_file():
        raise DataError(f"no run in {folder}: expected run.json there; give RUN=runs/<name of a run>")
    return dict(read_json(folder / "run.json"))


def machine() -> dict[str, Any]:
    """Description of this machine for run.json: CPU, cores, memory (GiB), Python version."""
    cpu, memory = platform.processor(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": cpu_count(),
        "memory_gb": round(memory / 2**30, 1),
        "python": platform.python_version(),
    }
