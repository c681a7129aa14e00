"""Every refusal of a store says what to correct, over the wire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from common.errors import ConfigError, StorageError
from common.storage.s3 import S3Store
from common.storage.s3_client import S3Settings
from tests.kit.s3_server import BUCKET
from tests.unit.storage.conftest import MakeStore
from tests.unit.storage.fault_proxy import FaultProxy

pytestmark = pytest.mark.e2e

OPERATIONS: dict[str, Callable[[S3Store, Path], object]] = {
    "write_bytes": lambda store, _: store.write_bytes("k", b"-"),
    "upload": lambda store, folder: store.upload("k", folder / "file"),
    "read_bytes": lambda store, _: store.read_bytes("k"),
    "download": lambda store, folder: store.download("k", folder / "out"),
    "size": lambda store, _: store.size("k"),
    "list": lambda store, _: list(store.list()),
    "delete": lambda store, _: store.delete("k"),
}


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[S3Store], object]:
    (tmp_path / "file").write_bytes(b"-")
    return lambda store: OPERATIONS[request.param](store, tmp_path)


def test_a_missing_bucket_is_named(server: str, keys: None, operation: Callable[[S3Store], object]) -> None:
    with pytest.raises(StorageError, match=r"no-such-bucket.*create the bucket") as caught:
        operation(S3Store("no-such-bucket", "x", S3Settings(endpoint=server)))
    assert not caught.value.away


def test_a_key_that_the_store_does_not_know_is_named(
    make_store: MakeStore, proxy: FaultProxy, operation: Callable[[S3Store], object]
) -> None:
    proxy.access_key = "another"
    with pytest.raises(StorageError, match=r"AWS_ACCESS_KEY_ID|check the keys") as caught:
        operation(make_store("x", proxy.url))
    assert "test-secret" not in str(caught.value) and "test-key" not in str(caught.value)


@pytest.mark.parametrize(("hours", "said"), [(1, "60 minutes behind"), (-2, "120 minutes ahead of")])
def test_a_clock_that_is_wrong_is_named_with_its_error(
    make_store: MakeStore, proxy: FaultProxy, operation: Callable[[S3Store], object], hours: int, said: str
) -> None:
    proxy.clock = timedelta(hours=hours)
    with pytest.raises(StorageError, match=f"clock.*{said}"):
        operation(make_store("x", proxy.url))


def test_a_store_out_of_reach_is_named(keys: None, no_pauses: None, operation: Callable[[S3Store], object]) -> None:
    settings = S3Settings(endpoint="http://user:password@127.0.0.1:9", attempts=2, connect_timeout_s=0.5)
    with pytest.raises(StorageError, match=r"127.0.0.1:9.*AWS_ENDPOINT_URL_S3") as caught:
        operation(S3Store(BUCKET, "x", settings))
    assert "password" not in str(caught.value) and caught.value.away


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        (403, "AccessDenied", "right to read"),
        (400, "ExpiredToken", "sign in again"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (507, "XMinioStorageFull", "free some space in the store"),
        (503, "SlowDown", "overloaded"),
        (418, "Teapot", "look at the store's log"),
    ],
)
def test_other_refusals_say_what_to_do(
    make_store: MakeStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str
) -> None:
    monkeypatch.setattr(proxy, "refusal", lambda *_: (status, code))
    with pytest.raises(StorageError, match=said) as caught:
        make_store("x", proxy.url, attempts=2).write_bytes("k", b"-")
    assert caught.value.away == (code == "SlowDown")


def test_an_answer_without_a_code_says_that_the_token_may_have_expired(
    make_store: MakeStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "refusal", lambda *_: (400, "ExpiredToken"))
    with pytest.raises(StorageError, match=r"token has expired.*AWS_REGION"):
        make_store("x", proxy.url).size("k")


def test_no_keys_says_which_to_set(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = S3Settings(endpoint=server, attempts=1, region="eu-west-1")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        S3Store(BUCKET, "x", settings).read_bytes("k")


def test_an_endpoint_that_is_no_url_is_a_config_error(keys: None) -> None:
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_S3"):
        S3Store(BUCKET, "x", S3Settings(endpoint="minio:9000")).read_bytes("k")


def test_a_full_disk_while_a_file_comes_down_is_named_and_leaves_nothing(
    make_store: MakeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store("x").write_bytes("k", b"content")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match=r"No space left.*free some space"):
        make_store("x").download("k", tmp_path / "out")
    assert not list(tmp_path.iterdir())
