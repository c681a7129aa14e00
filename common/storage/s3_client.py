"""Connection to an S3-compatible store: settings, and one boto3 client per process."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from common.errors import ConfigError

_BLOCK = 2**20


@dataclass(frozen=True)
class S3Settings:
    """Endpoint, timeouts, retries and part size; credentials come from the environment or any other source of boto3.

    Attributes:
        endpoint: URL of an S3-compatible store; None = AWS.
        region: the bucket's; None = boto3's default, `us-east-1` with an `endpoint`.
        read_timeout_s: without a byte.
        attempts: per request. boto3 pauses 0.05 s × 2^i, at most 20 s; ten attempts bridge a restart of the store.
        cuts: how often a stream may be resumed without a byte in between.
        pause_s: first pause before resuming a stream; it doubles.
        part_bytes: files above twice this size are uploaded in parts of it; S3 allows 10 000 parts of at least 5 MiB.
    """

    endpoint: str | None = None
    region: str | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    attempts: int = 10
    cuts: int = 6
    pause_s: float = 0.5
    part_bytes: int = 32 * 2**20
    threads: int = 4

    @classmethod
    def from_environment(cls) -> S3Settings:
        """Read endpoint and region from the variables of the AWS tools.

        These are `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION` and `AWS_DEFAULT_REGION`.
        """
        return cls(
            endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        )


def s3_client(settings: S3Settings) -> Any:
    """boto3 client of this process for these settings. Raises ConfigError: the endpoint is not a URL."""
    # A forked process must not share its parent's connections.
    return _client(settings, os.getpid())


@cache
def _client(settings: S3Settings, process: int) -> Any:
    import boto3
    from botocore.config import Config

    own = settings.endpoint is not None
    session = boto3.session.Session()
    # From 1.36 boto3 adds checksums that other stores reject, or store inside the object.
    checksums = "when_required" if own else "when_supported"
    config = Config(
        connect_timeout=settings.connect_timeout_s,
        read_timeout=settings.read_timeout_s,
        retries={"mode": "standard", "total_max_attempts": settings.attempts},
        max_pool_connections=max(10, 2 * settings.threads),
        s3={"addressing_style": "path" if own else "auto"},
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
    )
    region = settings.region or session.region_name or ("us-east-1" if own else None)
    try:
        client = session.client("s3", endpoint_url=settings.endpoint, region_name=region, config=config)
    except ValueError as error:
        raise ConfigError(
            f"S3 endpoint {settings.endpoint!r} is no URL; set AWS_ENDPOINT_URL_S3 to one like http://minio:9000"
        ) from error
    if own:
        for operation in ("PutObject", "UploadPart"):
            client.meta.events.register(f"before-call.s3.{operation}", _add_md5)
    return client


def _add_md5(params: Mapping[str, Any], **_: Any) -> None:
    """Send the body's MD5; every S3-compatible store checks it and refuses a body changed in transit."""
    body = params["body"]
    digest = hashlib.md5(usedforsecurity=False)
    if hasattr(body, "read"):
        start = body.tell()
        while block := body.read(_BLOCK):
            digest.update(block)
        body.seek(start)
    else:
        digest.update(body)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


def transfer_config(settings: S3Settings) -> Any:
    """boto3 settings for multipart uploads."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=2 * settings.part_bytes,
        multipart_chunksize=settings.part_bytes,
        max_concurrency=settings.threads,
        use_threads=settings.threads > 1,
    )
