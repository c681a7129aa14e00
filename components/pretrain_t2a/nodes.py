"""Pretraining on several nodes; torchrun starts this module in every process of a Kubeflow TrainJob.

`contrib/train_job.py` renders the TrainJob. The model goes to the run store, where the stage of a run with
the same settings, corpus, CLAP and code finds it.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from accelerate import PartialState

from common.config.t2a import PretrainT2APlan
from common.errors import ConfigError
from common.runtime.devices import check_gpus
from common.runtime.split_guard import running_as
from common.storage import cache_root, open_store, publish_dir
from common.storage.artifacts import verify_artifact
from common.storage.hashing import hash_json
from common.training.engine import PATIENCE
from components.pretrain_t2a.run import NAME, pretrain


def main(argv: list[str] | None = None) -> None:
    """Fetch the artifacts and pretrain; runs in every process.

    Raises:
        ConfigError: the settings train no model, an address holds no artifact, or torch finds no GPU.
        StorageError: an artifact is damaged.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True, help="address of the artifact of prepare_corpus")
    parser.add_argument("--clap", default="", help="address of the artifact of pretrain_clap")
    parser.add_argument("--config", required=True, help="the stage's settings as JSON")
    parser.add_argument("--code-version", required=True)
    options = parser.parse_args(argv)
    plan = PretrainT2APlan.model_validate(json.loads(options.config))
    if plan.settings.optim is None or plan.settings.reuse is not None:
        raise ConfigError("these settings train no text-to-audio model: there is nothing to do on several nodes")
    check_gpus()
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    with state.local_main_process_first():
        corpus = _fetched(options.corpus, "corpus")
        clap = _fetched(options.clap, "clap") if options.clap else None
    with running_as(NAME), tempfile.TemporaryDirectory() as target:
        pretrain(corpus, clap, Path(target), plan, options.code_version)
    state.destroy_process_group()


def _fetched(uri: str, label: str) -> Path:
    """Fetch an artifact to this node's cache and verify it.

    Raises:
        ConfigError: the address holds nothing.
        StorageError: the artifact is damaged.
    """
    folder = cache_root() / "inputs" / hash_json(uri)[:32]
    if not folder.is_dir():
        store = open_store(uri)
        keys = list(store.list())
        if not keys:
            raise ConfigError(f"{uri} is empty: name the address of an artifact `{label}`, as KFP shows it")
        with publish_dir(folder) as temporary:
            for key in keys:
                store.download(key, temporary / key)
    verify_artifact(NAME, label, folder)
    return folder


if __name__ == "__main__":
    main()
