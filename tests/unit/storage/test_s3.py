"""Object stores on a folder and on S3, through the one interface."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from common.storage import ObjectStore, open_store, open_uri, split_uri
from common.storage.s3_client import S3Settings, s3_client
from tests.kit.s3_server import BUCKET
from tests.unit.storage.conftest import MakeStore


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return open_store(tmp_path / "store")
    make: MakeStore = request.getfixturevalue("make_store")
    return make(f"interface/{tmp_path.name}")


def test_what_was_written_is_read_back(store: ObjectStore, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(300_000)
    (tmp_path / "in").write_bytes(data)
    store.write_bytes("a/b", data)
    store.upload("a/c", tmp_path / "in")
    store.download("a/c", tmp_path / "out", sha256=hashlib.sha256(data).hexdigest())
    assert store.read_bytes("a/b") == data == (tmp_path / "out").read_bytes()
    with store.open("a/c") as file:
        assert file.read(10) + file.read() == data
    assert store.size("a/b") == 300_000 and store.size("a/none") is None


def test_keys_are_listed_below_a_prefix_and_children_are_prefixes(store: ObjectStore) -> None:
    for key in ("x/1", "x/2", "y/1"):
        store.write_bytes(key, b"-")
    assert list(store.list("x/")) == ["x/1", "x/2"]
    assert list(store.child("x").list()) == ["1", "2"]
    store.delete("x/1")
    store.delete("x/1")
    assert list(store.list()) == ["x/2", "y/1"]


def test_an_absent_object_is_an_error_that_says_what_to_do(store: ObjectStore, tmp_path: Path) -> None:
    for attempt in (lambda: store.read_bytes("none"), lambda: store.download("none", tmp_path / "x")):
        with pytest.raises(StorageError, match="again"):
            attempt()
    assert not (tmp_path / "x").exists()


def test_a_download_with_another_hash_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    store.write_bytes("a", b"content")
    with pytest.raises(StorageError, match="differs from its record"):
        store.download("a", tmp_path / "x", sha256="0" * 64)
    assert list(tmp_path.glob("*x*")) == []


def test_more_keys_than_a_page_are_listed(make_store: MakeStore) -> None:
    store = make_store("many", pause_s=0.002)
    # A client of its own, whose pages hold three keys.
    client = s3_client(store._settings)
    client.meta.events.register("provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 3})
    for number in range(10):
        store.write_bytes(f"{number}", b"-")
    assert list(store.list()) == [f"{number}" for number in range(10)]


def test_a_large_file_goes_up_in_parts_and_comes_down_whole(make_store: MakeStore, tmp_path: Path) -> None:
    store, data = make_store("large"), random.Random(1).randbytes(12 * 2**20)
    (tmp_path / "in").write_bytes(data)
    store.upload("x", tmp_path / "in")
    store.download("x", tmp_path / "out", sha256=hashlib.sha256(data).hexdigest())
    assert (tmp_path / "out").read_bytes() == data


def test_a_uri_is_a_store_and_a_key(server: str, keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)
    assert split_uri("s3://bucket/a/b.tar") == ("s3://bucket", "a/b.tar")
    open_store(f"s3://{BUCKET}/uris").write_bytes("x", b"remote")
    (tmp_path / "x").write_bytes(b"local")
    with open_uri(f"s3://{BUCKET}/uris/x") as remote, open_uri((tmp_path / "x").as_uri()) as local:
        assert (remote.read(), local.read()) == (b"remote", b"local")


@pytest.mark.parametrize("uri", ["s3://", "gs://bucket/x", "file://host/folder", "http://host/x"])
def test_an_address_of_no_store_is_a_config_error(uri: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        open_store(uri)


def test_a_key_cannot_lead_out_of_the_store(store: ObjectStore) -> None:
    for key in ("../x", "/x", "a/../../x"):
        with pytest.raises(StorageError, match="leads out"):
            store.write_bytes(key, b"x")


def test_a_store_of_ones_own_gets_path_style_and_no_extra_checksums(keys: None) -> None:
    own, aws = s3_client(S3Settings(endpoint="http://127.0.0.1:9")), s3_client(S3Settings(region="eu-west-1"))
    assert own.meta.config.s3["addressing_style"] == "path"
    assert own.meta.config.request_checksum_calculation == "when_required"
    assert own.meta.config.response_checksum_validation == "when_required"
    assert aws.meta.config.request_checksum_calculation == "when_supported"
    assert aws.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"


def test_endpoint_and_region_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general:1")
    assert S3Settings.from_environment().endpoint == "http://general:1"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://store:1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert S3Settings.from_environment() == S3Settings(endpoint="http://store:1", region="eu-west-1")


def test_an_object_that_is_empty_is_one(store: ObjectStore, tmp_path: Path) -> None:
    store.write_bytes("empty", b"")
    store.download("empty", tmp_path / "out")
    assert store.read_bytes("empty") == b"" == (tmp_path / "out").read_bytes()
    assert store.size("empty") == 0
