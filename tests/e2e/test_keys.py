"""No key of the machine that submits a run is found anywhere after it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from pipelines.dags.compile import compile_pipeline
from tests.kit.smoke import CANARY, KEYS, SmokeRun, run_pipeline, succeeded
from tests.unit.captions.stub import Send, good, serve


def test_no_key_is_found_anywhere_after_a_whole_run(smoke: SmokeRun, tmp_path: Path) -> None:
    """The endpoint gives the key back in whatever way it can; the store, artifacts, report and logs hold none of it."""
    runs = Path(shutil.copytree(smoke.runs, tmp_path / "runs", symlinks=True))
    ways = itertools.cycle(
        [
            lambda request: Send(status=500, body=CANARY.encode()),
            lambda request: Send(json.dumps({"captions": [f"a {CANARY}", CANARY]})),
            lambda request: Send(CANARY),
            *[good] * 9,
        ]
    )
    with serve(lambda request, number: next(ways)(request)) as stub:
        overrides = " ".join(
            f"{name}.writer.backend=endpoint {name}.writer.endpoint.base_url={stub.url} {name}.writer.endpoint.model=stub"
            f" {name}.writer.endpoint.max_wait_s=0.01"
            for name in ("augment_captions", "revise_captions")
        )
        options = ("--methods", "gold,synthio")
        told = [succeeded(run_pipeline(runs, smoke.dataset, *options, overrides=overrides, **KEYS))]
        sent = len(stub.requests)
        assert sent > 50 and set(stub.keys) == {f"Bearer {CANARY}"}
        told.append(run_pipeline(runs, smoke.dataset, *options, overrides=overrides, **KEYS))
        assert len(stub.requests) == sent, "a rerun costs nothing"
    report = json.loads((runs / "latest" / "report.json").read_text(encoding="utf-8"))
    assert report["writing"]["writer"] == "endpoint:stub" and report["writing"]["input_tokens"] > 1000
    assert report["writing"]["reasons"]["echoed_key"] > 1
    with pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        for profile in ("local", "one-gpu"):
            compile_pipeline(tmp_path / f"{profile}.yaml", profile)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 500
    assert [path for path in files if CANARY.lower().encode() in path.read_bytes().lower()] == []
    assert not any(CANARY.lower() in (run.stdout + run.stderr).lower() for run in told)
