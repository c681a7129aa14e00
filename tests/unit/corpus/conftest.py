"""An S3 server with the run store's variables set to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.s3_server import BUCKET, s3_server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture()
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own on the server."""
    for name, value in (
        ("AWS_ENDPOINT_URL_S3", server),
        ("AWS_ACCESS_KEY_ID", "test-key"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("SYNTHIO_CACHE", str(tmp_path / "cache")),
    ):
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}"
