"""Run the compiled pipeline on this machine, or with KFP_HOST on a cluster (`make run-pipeline`)."""

from __future__ import annotations

import argparse
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
from typing import Any

import yaml

from common.config.run import load_preset, with_llm_endpoint, with_reused_t2a
from common.datasets_registry import check_training_clips, fingerprint, resolve_dataset
from common.errors import ConfigError, StorageError, SynthioError
from common.licences import check_use
from common.methods import resolve_methods
from common.parallel import cpu_count
from common.storage import STORE_VARIABLE, read_json, write_json, write_text
from components.report.timing import insert_run_section
from pipelines.cluster import Connection
from pipelines.compile import compile_pipeline
from pipelines.console import Console
from pipelines.containers import container_runner, containers_with, make_writable
from pipelines.stopping import TASKS, Stopped
from pipelines.submit import submit

ROOT = Path(__file__).resolve().parent.parent
PASSED = ("AWS_", "SYNTHIO_LLM_API_KEY", "HF_TOKEN")
"""Variables of this process that a container gets as well."""


def main(argv: list[str] | None = None) -> int:
    """Compile, run, publish; the verdict and the report's path are printed last.

    Returns:
        0 when every part of the run succeeded, 1 on a failure, 2 on bad input, 128 + the signal that ended it.
    """
    options = _parser().parse_args(argv)
    TASKS.install()
    try:
        arguments = pipeline_arguments(options)
        connection = Connection.from_environment()
        if connection is not None:
            return submit(connection, arguments, options.profile, options.follow, options.fresh)
        with one_run(Path(options.runs)):
            return run_local(arguments, Path(options.runs).resolve(), options.runner, options.store, options.fresh)
    except SynthioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return stopped.status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make run-pipeline", description=__doc__)
    parser.add_argument("--dataset", default="demo", help="a registered name or a dataset YAML")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--n", default="", help="number of training clips; default: the dataset's")
    parser.add_argument("--methods", default="", help="comma-separated")
    parser.add_argument("--seeds", default="3", help="number of replicates")
    parser.add_argument("--overrides", default="", help="section.field=value …")
    parser.add_argument("--reuse-t2a-from", default="", help="text-to-audio model of an earlier run, folder or s3://…")
    parser.add_argument("--llm-endpoint", default="", help="OpenAI-compatible server that writes the captions")
    parser.add_argument("--budget", default="0", help="US dollars by estimate; 0 = no limit")
    parser.add_argument("--runs", default="runs", help="folder of all runs and of the store")
    parser.add_argument("--store", default="", help="of finished work: a folder or s3://…; default: RUNS/store")
    parser.add_argument("--runner", default="subprocess", choices=("subprocess", "docker"))
    parser.add_argument("--profile", default="", help="with KFP_HOST: where the stages run; default: one-gpu")
    parser.add_argument("--fresh", action="store_true", help="run every task again; the items in the store still count")
    parser.add_argument("--follow", action="store_true", help="with KFP_HOST: wait until the run ends")
    return parser


def pipeline_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The pipeline's parameters, checked before anything starts.

    Raises:
        ConfigError: a name or number is wrong.
    """
    config = with_reused_t2a(load_preset(options.preset, options.overrides), options.reuse_t2a_from)
    config = with_llm_endpoint(config, options.llm_endpoint)
    resolve_methods(options.methods)
    spec = resolve_dataset(options.dataset)
    check_use(config, spec)
    n = number("N", options.n or "0", 0)
    check_training_clips(spec, n or spec.n)
    text = yaml.safe_dump(spec.model_dump(mode="json", exclude_none=True), sort_keys=True, allow_unicode=True)
    if "python3" in text:
        raise ConfigError(
            "the dataset's paths contain 'python3', which kfp's local runner rewrites; use a folder without it"
        )
    return {
        "dataset": text,
        "preset": options.preset,
        "n": n,
        "methods": options.methods,
        "seeds": number("SEEDS", options.seeds, 1),
        "reuse_t2a_from": _absolute(options.reuse_t2a_from),
        "llm_endpoint": options.llm_endpoint,
        "budget": dollars("BUDGET", options.budget),
        "overrides": options.overrides,
        "data_version": fingerprint(spec),
    }


def _absolute(place: str) -> str:
    return place if not place or "://" in place else str(Path(place).resolve())


def number(name: str, text: str, least: int) -> int:
    """The whole number that `text` states; ConfigError when it is none or below `least`."""
    if not text.isdecimal() or int(text) < least:
        raise ConfigError(f"{name}={text}: expected a whole number of at least {least}")
    return int(text)


def dollars(name: str, text: str) -> float:
    """The amount that `text` states; ConfigError when it is none or below 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name}={text}: expected US dollars, 0 or more")
    return value


@contextlib.contextmanager
def one_run(runs: Path) -> Iterator[None]:
    """Context in which no other run uses the folder `runs`.

    Raises:
        StorageError: another one does, or it cannot be written.
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
    """Set up kfp's local runner; see `run_local` for the arguments.

    Args:
        specs: the datasets, whose files a container must see.

    Returns:
        The context in which the pipeline runs.
    """
    from kfp import local

    environment = {
        STORE_VARIABLE: store or str(runs / "store"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONUNBUFFERED": "1",
        # Waiting threads sleep: where another process wants the cores, spinning ones made training 20 times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    os.environ |= {**environment, "PYTHONPATH": str(ROOT)}
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
    """Run the compiled YAML on this machine and publish the results below `runs`.

    Args:
        arguments: the pipeline's parameters.
        runs: folder of all runs.
        runner: `subprocess`, or `docker` for a container per task.
        store: of finished work; empty = a folder below `runs`.
        fresh: take no task's result from an earlier run.
    """
    from kfp import components

    from pipelines.observe import Observer

    start = time.monotonic()
    spec = yaml.safe_load(arguments["dataset"])
    name = spec["name"]
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{name}-{arguments['preset']}-{stamp}"
    folder.mkdir(parents=True)
    compiled = compile_pipeline(ROOT / "build" / "synthio.yaml")
    places = prepare_local(runs, runner, store, fresh, [spec])
    print(f"running {name} with preset {arguments['preset']}; full log: {folder / 'log.txt'}", flush=True)
    observer, console, outputs = Observer(), Console(folder / "log.txt"), {}
    state = "failed"
    try:
        with places, observer.watching(), contextlib.redirect_stdout(console), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            task = components.load_component_from_file(str(compiled))(**arguments)
            outputs = {key: Path(artifact.path) for key, artifact in task.outputs.items()}
        state = "succeeded"
    except RuntimeError:
        print(
            f"error in {observer.running}: {console.error or 'see the log'}\nfull log: {folder / 'log.txt'}",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        wall_s = time.monotonic() - start
        run = {
            "state": state,
            "stages": observer.stages,
            "wall_seconds": round(wall_s, 2),
            "outside_models_share": round(max(0.0, 1 - console.model_s / wall_s), 4),
            "machine": machine(),
            "arguments": arguments,
            "artifacts": observer.artifacts,
            "report_config": observer.report_config,
        }
        write_json(folder / "run.json", run)
        console.close()
    if state != "succeeded":
        return 1
    failures = publish(outputs, folder, run)
    _point_latest(runs, folder)
    if failures:
        # A stage that lost an item still hands on the rest; it must not count as done next time.
        observer.evict({"train-classifier", "evaluate-classifier", "report"})
        for failure in failures:
            print(f"failed item: {json.dumps(failure)}", file=sys.stderr)
    print(read_json(folder / "report.json")["verdict"]["text"])
    print(f"report: {runs / 'latest' / 'report.html'}")
    return 1 if failures else 0


def publish(outputs: dict[str, Path], folder: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """Copy the run's results to `folder`; returns the failed items named in report.json."""
    html = (outputs["results"] / "report.html").read_text(encoding="utf-8")
    shutil.copyfile(outputs["results"] / "report.json", folder / "report.json")
    shutil.copytree(outputs["classifier"], folder / "classifier")
    shutil.copytree(outputs["synthetic"] / "clips", folder / "synthetic")
    aligned = sorted(path.parent for path in outputs["aligned"].glob("*/*/model_index.json"))
    shutil.copytree(aligned[0] if aligned else outputs["t2a"], folder / "t2a")
    write_text(folder / "report.html", insert_run_section(html, run))
    failures: list[dict[str, Any]] = read_json(folder / "report.json")["failures"]
    return failures


def _point_latest(runs: Path, folder: Path) -> None:
    link = runs / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(runs / "latest")


def machine() -> dict[str, Any]:
    """This machine, for run.json."""
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


if __name__ == "__main__":
    sys.exit(main())
