"""Pretraining on several nodes: a process on each, one store, and the stage that takes the model from it."""

from __future__ import annotations

import json
import socket
from multiprocessing import get_context
from pathlib import Path

import pytest
from accelerate.utils import patch_environment

from common.config.t2a import PretrainT2APlan
from common.errors import ConfigError
from components.pretrain_t2a.nodes import main
from components.pretrain_t2a.run import run
from tests.kit.corpus import spectral_corpus
from tests.kit.models import PRETRAIN_T2A


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return spectral_corpus(tmp_path / "corpus")


def node(rank: int, port: int, store: Path, cache: Path, job: list[str]) -> None:
    """What torchrun starts on a node with one process, with the variables that it sets."""
    where = {"rank": rank, "local_rank": 0, "world_size": 2, "local_world_size": 1}
    folders = {"synthio_store": str(store), "synthio_cache": str(cache)}
    with patch_environment(**where, **folders, master_addr="127.0.0.1", master_port=port):
        main(job)


@pytest.mark.e2e
def test_two_nodes_train_one_model_and_the_stage_finds_it_in_the_store(
    corpus: Path, run_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PretrainT2APlan.model_validate({"settings": PRETRAIN_T2A, "seed": 0})
    job = ["--corpus", corpus.as_uri(), "--config", plan.model_dump_json(), "--code-version", "t"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = get_context("forkserver")
    nodes = [
        context.Process(target=node, args=(rank, port, run_store, tmp_path / f"node{rank}", job)) for rank in range(2)
    ]
    for process in nodes:
        process.start()
    try:
        for process in nodes:
            process.join(timeout=300)
        assert [process.exitcode for process in nodes] == [0, 0]
    finally:
        for process in nodes:
            process.kill()
    monkeypatch.setattr("components.pretrain_t2a.pretraining.run_job", lambda where: pytest.fail("it trains again"))
    folder = tmp_path / "t2a"
    figures = run(
        str(corpus), str(folder), str(tmp_path / "metrics.json"), config={"settings": PRETRAIN_T2A, "seed": 0.0},
        code_version="t",
    )  # fmt: skip
    assert figures["steps"] == 10 and (folder / "model_index.json").is_file()
    assert json.loads((folder / "training.json").read_text())["sha256"]
    assert not list(run_store.rglob("work/*/step-*")), "unfinished work is left in the store"


def test_settings_that_train_nothing_and_artifacts_that_are_not_there_are_refused(tmp_path: Path) -> None:
    published = {"settings": {"start": "stabilityai/stable-audio-open-1.0", "optim": None}, "seed": 0}
    with pytest.raises(ConfigError, match="train no text-to-audio model"):
        main(["--corpus", str(tmp_path), "--config", json.dumps(published), "--code-version", "t"])
    plan = json.dumps({"settings": PRETRAIN_T2A, "seed": 0})
    with pytest.raises(ConfigError, match="name the address of an artifact `corpus`"):
        main(["--corpus", str(tmp_path / "absent"), "--config", plan, "--code-version", "t"])
