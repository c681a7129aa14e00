"""A real S3 protocol server, and a proxy before it that spoils requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from common.storage.s3 import S3Store
from common.storage.s3_client import S3Settings, s3_client
from tests.kit.s3_server import BUCKET, s3_server
from tests.unit.storage.fault_proxy import FaultProxy, proxying

FAST = {
    "connect_timeout_s": 1.0,
    "read_timeout_s": 0.3,
    "attempts": 6,
    "cuts": 6,
    "pause_s": 0.001,
    "part_bytes": 5 * 2**20,
}

MakeStore = Callable[..., S3Store]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture()
def proxy(server: str) -> Iterator[FaultProxy]:
    with proxying(server) as found:
        yield found


@pytest.fixture()
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")


@pytest.fixture()
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 has no setting for the pauses between its attempts."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.001)


@pytest.fixture()
def make_store(server: str, keys: None, no_pauses: None) -> MakeStore:
    """`make_store(prefix, endpoint=…)`: a store on the server, or behind a proxy."""

    def make(prefix: str, endpoint: str | None = None, **settings: object) -> S3Store:
        return S3Store(BUCKET, prefix, S3Settings(endpoint=endpoint or server, **{**FAST, **settings}))  # type: ignore[arg-type]

    return make


@pytest.fixture()
def open_uploads(server: str, keys: None) -> Callable[[], list[str]]:
    """The keys of unfinished uploads in parts."""

    def found() -> list[str]:
        answer = s3_client(S3Settings(endpoint=server)).list_multipart_uploads(Bucket=BUCKET)
        return [upload["Key"] for upload in answer.get("Uploads", [])]

    return found
