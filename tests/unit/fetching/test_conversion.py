"""A pinned pickle of weights becomes safetensors once, and runs no code; all models are looked at before one is sent."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from common.clap.scorer import ClapScorer
from common.errors import ConfigError, DataError, StorageError
from common.models import registry
from common.models.conversion import convert_pickle
from common.models.files import record_path, snapshot
from common.models.registry import locate
from common.storage import open_store
from pipelines.commands import main
from pipelines.commands.fetch_models import plan_fetch
from tests.kit.hub import Hub
from tests.kit.models import write_clap
from tests.kit.sounds import CLAP_RATE
from tests.unit.fetching.fetched import COMMIT, FILES, MODEL, fetch_model

CLAP = "someone/clap"
ENTRY = {"revision_seen": "here", "licence": "MIT", "gated": False, "restrictions": "none", "sha256": {}}


class Lists:
    """The list of known models, of which a test writes its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.entries = path, dict[str, Any]()

    def add(self, model: str, commit: str = COMMIT, **fields: Any) -> None:
        self.entries[model] = {**ENTRY, "revision": commit, **fields}
        self.path.write_text(yaml.safe_dump(self.entries), encoding="utf-8")
        registry.published_models.cache_clear()


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(registry, "MODELS_FILE", tmp_path / "models.yaml")
    yield Lists(tmp_path / "models.yaml")
    monkeypatch.undo()
    registry.published_models.cache_clear()


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.fixture
def clap(hub: Hub, lists: Lists, tmp_path: Path) -> ClapScorer:
    """A CLAP as LAION's lies on the hub: one pickle, with buffers that today's class does not save."""
    folder = write_clap(tmp_path / "published")
    scorer = ClapScorer.load(folder)
    state = scorer.model.state_dict()
    state["text_model.embeddings.position_ids"] = torch.arange(65).expand(1, -1)
    tied = torch.randn(4, 4)
    state["an.old.buffer"], state["the.same.buffer"] = tied, tied.T
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".txt")}
    hub.files[CLAP, COMMIT] = {**files, "pytorch_model.bin": pickled(state)}
    pin(hub, lists, CLAP)
    return scorer


def pin(hub: Hub, lists: Lists, model: str) -> None:
    weights = hub.files[model, COMMIT]["pytorch_model.bin"]
    convert = {"file": "pytorch_model.bin", "sha256": hashlib.sha256(weights).hexdigest()}
    lists.add(model, convert=convert)


def test_a_pinned_pickle_is_handed_on_as_safetensors_with_the_same_outputs(
    hub: Hub, lists: Lists, clap: ClapScorer, tmp_path: Path, run_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = fetch_model(CLAP, None).record
    made = record.files["model.safetensors"]
    assert (made.made_from, made.made_from_sha256) == ("pytorch_model.bin", lists.entries[CLAP]["convert"]["sha256"])
    assert made.sha256 == hashlib.sha256((locate(CLAP, None) / "model.safetensors").read_bytes()).hexdigest()
    assert not list((tmp_path / "hub").rglob("*.bin")) and "pytorch_model.bin" not in record.files
    clip = np.sin(np.arange(CLAP_RATE, dtype=np.float32))
    again = ClapScorer.load(locate(CLAP, None))
    # Equal weights; products of matrices differ in the last bit with where these lie in memory.
    weights = clap.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in again.model.state_dict().items())
    heard, read = again.embed_audio([clip], CLAP_RATE), again.embed_text(["a low hum"])
    np.testing.assert_allclose(heard, clap.embed_audio([clip], CLAP_RATE), atol=1e-6)
    np.testing.assert_allclose(read, clap.embed_text(["a low hum"]), atol=1e-6)
    hub.sent.clear()
    options = ["--preset", "tiny", "--overrides", f"pretrain_clap.checkpoint={CLAP} pretrain_clap.revision={COMMIT}"]
    assert main(["fetch-models", *options, "--store", str(run_store)]) == 0 and not hub.sent
    assert not [key for key in open_store(str(run_store)).list() if ".bin" in key]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    ClapScorer.load(locate(CLAP, None))


def test_a_kill_while_converting_costs_no_second_download(
    hub: Hub, clap: ClapScorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, target: Path) -> None:
        target.with_name(f".{target.name}.part").write_bytes(b"half of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.commands.fetch_models.convert_pickle", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_model(CLAP, None)
    assert not record_path(tmp_path / "hub", CLAP, COMMIT).exists()
    hub.sent.clear()
    assert fetch_model(CLAP, None).new and not hub.sent
    assert not list((tmp_path / "hub").rglob(".*.part")) and ClapScorer.load(locate(CLAP, None))


def test_damaged_safetensors_are_made_again_from_a_fresh_pickle(hub: Hub, clap: ClapScorer) -> None:
    before = fetch_model(CLAP, None).record
    (locate(CLAP, None) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"model\.safetensors is missing or not the file"):
        locate(CLAP, None)
    assert fetch_model(CLAP, None).record == before


class Code:
    """What a pickle can do to whoever reads it as a program."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["torch", "plain", "cut"])
def test_a_pickle_that_asks_for_code_is_refused_and_runs_none(
    hub: Hub, lists: Lists, tmp_path: Path, form: str
) -> None:
    state = {"weight": torch.ones(3), "trap": Code(tmp_path / "ran")}
    data = pickle.dumps(state) if form == "plain" else pickled(state)
    hub.files[CLAP, COMMIT] = {"config.json": b"{}", "pytorch_model.bin": data[:300] if form == "cut" else data}
    pin(hub, lists, CLAP)
    with pytest.raises(DataError, match=r"pytorch_model\.bin cannot be read without running code of it"):
        fetch_model(CLAP, None)
    assert not (tmp_path / "ran").exists() and not record_path(tmp_path / "hub", CLAP, COMMIT).exists()
    assert not list(snapshot(tmp_path / "hub", CLAP, COMMIT).glob("*.safetensors"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(2)], "holds a list"),
        ({}, "holds a dict"),
        ({"state_dict": {"weight": torch.ones(2)}}, "holds a dict as 'state_dict'"),
        ({"weight": torch.ones(2), "epoch": 3}, "holds a int as 'epoch'"),
        ({7: torch.ones(2)}, "as 7"),
        ({"weight": torch.eye(3).to_sparse()}, "expected names and dense tensors"),
    ],
)
def test_what_is_no_state_dict_is_not_converted(tmp_path: Path, value: Any, message: str) -> None:
    (tmp_path / "weights.bin").write_bytes(pickled(value))
    with pytest.raises(DataError, match=message):
        convert_pickle(tmp_path / "weights.bin", tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_a_listed_hash_is_compared_before_anything_is_sent(hub: Hub, lists: Lists, clap: ClapScorer) -> None:
    lists.add(CLAP, convert={"file": "pytorch_model.bin", "sha256": "0" * 64})
    with pytest.raises(DataError, match=r"pytorch_model\.bin is .*models\.yaml says 0000"):
        fetch_model(CLAP, None)
    lists.add(MODEL, sha256={"vae/model.safetensors": "0" * 64})
    with pytest.raises(DataError, match=r"vae/model\.safetensors is .*models\.yaml says 0000"):
        fetch_model(MODEL, None)
    assert not hub.sent
    lists.add(MODEL, sha256={"config.json": "0" * 64})
    with pytest.raises(DataError, match=r"config\.json is .*models\.yaml says 0000"):
        fetch_model(MODEL, None)


def test_a_pickle_is_read_at_the_listed_commit_only(hub: Hub, lists: Lists, clap: ClapScorer) -> None:
    hub.files[CLAP, "c" * 40] = hub.files[CLAP, COMMIT]
    with pytest.raises(DataError, match=r"publishes no safetensors, only pytorch_model\.bin"):
        fetch_model(CLAP, "c" * 40)


def test_all_models_are_looked_at_first_and_gated_and_small_ones_are_sent_first(
    hub: Hub, lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for name, size, gated in (("a/large", 9000, False), ("b/small", 10, False), ("c/gated", 9999, True)):
        hub.files[name, COMMIT] = {**FILES, "config.json": b"{}" + b" " * size}
        lists.add(name, gated=gated)
    models = dict.fromkeys(["a/large", "b/small", "c/gated"])
    _, wanted = plan_fetch(models)
    assert [listing.model for listing in wanted] == ["c/gated", "b/small", "a/large"]
    hub.refuse["b/small"] = (404, "RepoNotFound")
    with pytest.raises(ConfigError, match="the hub has no model b/small"):
        plan_fetch(models)
    del hub.refuse["b/small"]
    free = sum(listing.bytes for listing in wanted) - 1
    monkeypatch.setattr("pipelines.commands.fetch_models.SPARE_BYTES", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    with pytest.raises(StorageError, match="c/gated, b/small, a/large need"):
        plan_fetch(models)
    assert not hub.sent


def test_a_use_that_a_licence_forbids_is_refused_before_anything_is_sent(
    hub: Hub, lists: Lists, capsys: pytest.CaptureFixture[str]
) -> None:
    lists.add(MODEL, use="non-commercial")
    run = f"pretrain_clap.checkpoint={MODEL} pretrain_clap.revision={COMMIT} use=commercial"
    assert main(["fetch-models", "--preset", "smoke", "--overrides", run]) == 2
    assert "not allowed by the licence of model someone/tiny" in capsys.readouterr().err and not hub.sent


def test_size_and_licence_stand_before_the_first_byte(
    hub: Hub, lists: Lists, clap: ClapScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"pretrain_clap.checkpoint={CLAP} pretrain_clap.revision={COMMIT}"
    assert main(["fetch-models", "--preset", "tiny", "--overrides", run]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("to fetch: 0.00 GiB into ") and "MIT (none)" in told[1]
    assert told[2].endswith("model.safetensors converted from pytorch_model.bin")
