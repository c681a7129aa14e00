"""Work that is done once a test run, whichever worker needs it first."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from pipelines.cluster.placement import profile_names

ROOT = Path(__file__).resolve().parents[2]


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run share; the base folder of a worker lies in it."""
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` unless another test or worker has filled it; a failed attempt fails all who ask."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done, failed = folder.with_name(f"{folder.name}.done"), folder.with_name(f"{folder.name}.failed")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if failed.exists():
            pytest.fail(f"made once for all tests, and failed: {failed.read_text(encoding='utf-8')}")
        if not done.exists():
            try:
                make(folder)
            except BaseException as error:
                failed.write_text(str(error), encoding="utf-8")
                raise
            done.touch()
    return folder


class Job(NamedTuple):
    """One pipeline to compile, with the arguments of `compile_pipeline`."""

    pipeline: str = "synthio"
    profile: str = "local"
    fresh: bool = False

    @property
    def file(self) -> str:
        return f"{self.pipeline}-{Path(self.profile).stem}{'-fresh' if self.fresh else ''}.yaml"


PROFILES = tuple(profile_names())
COMMON = (
    *(Job(profile=name) for name in PROFILES),
    *(Job("benchmark", name) for name in PROFILES),
    Job("synthio", "one-gpu", fresh=True),
)
"""What tests read, compiled by one process for all of them."""


def compile_jobs(jobs: Sequence[Job], folder: Path) -> None:
    """Compile in a process of its own: KFP inspects the stack for each task, which takes ten times longer in a test."""
    code = """
import json, sys
from pathlib import Path
from pipelines.dags.compile import compile_pipeline
for pipeline, profile, fresh, target in json.loads(sys.argv[1]):
    compile_pipeline(Path(target), profile, fresh, pipeline)
"""
    arguments = json.dumps([(*job, str(folder / job.file)) for job in jobs])
    subprocess.run(
        [sys.executable, "-c", code, arguments], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


class Compiled:
    """The compiled pipelines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, pipeline: str = "synthio", profile: str = "local", fresh: bool = False) -> Path:
        """The compiled file of one of `COMMON`; tests must not change it."""
        return once(self._folder, partial(compile_jobs, COMMON)) / Job(pipeline, profile, fresh).file

    def documents(self, pipeline: str = "synthio", profile: str = "local", fresh: bool = False) -> list[Any]:
        """The specification, and on a cluster the platform's part; tests must not change them."""
        return documents(self.path(pipeline, profile, fresh))


@cache
def documents(path: Path) -> list[Any]:
    """The documents of a YAML file, read once a worker."""
    return list(yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader))
