"""Connection to an S3-compatible store: settings, one boto3 client per process, and its exceptions with a remedy."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

from common.errors import ConfigError, StorageError

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
REPEATABLE = frozenset({"BadDigest", "NoSuchUpload", "InvalidPart", "IncompleteBody"})
"""Error codes after which sending the whole object again may succeed."""

_PASSING = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "502", "503", "504"})
"""Error codes of a store that is overloaded, or starts again."""
_MAX_SKEW_S = 5 * 60
_AGAIN = "finished work is kept, run the same command again"
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in the cluster in the secret synthio-s3"
_REMOVED = "it was removed; run the same command again, so that it is made anew"
_ADDRESS = "correct the store's address, s3://bucket/prefix"
_FULL = f"free some space in the store, or raise its quota; {_AGAIN}"
_REGION = "set AWS_REGION to the bucket's region"
_BUSY = f"the store is overloaded; {_AGAIN}"
_REMEDY = {
    "NoSuchBucket": "create the bucket, or correct the store's address",
    "InvalidBucketName": _ADDRESS,
    "NoSuchKey": _REMOVED,
    "404": _REMOVED,
    "InvalidAccessKeyId": f"the access key is unknown there: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key: {_KEYS}",
    "ExpiredToken": "the session's token has expired; sign in again",
    "AccessDenied": "give these keys the right to read, write, delete and list in this bucket",
    "400": "sign in again if the session's token has expired, else check the keys and AWS_REGION",
    "403": "check the keys (secret synthio-s3 in the cluster) and their right to read, write and list this bucket",
    "RequestTimeTooSkewed": "set this machine's clock (NTP): it differs too much from the store's",
    "PreconditionFailed": f"the object changed while it was read; {_AGAIN}",
    "412": f"the object changed while it was read; {_AGAIN}",
    "416": f"the object became shorter while it was read; {_AGAIN}",
    "EntityTooLarge": "raise the store's limit for one object",
    "PermanentRedirect": _REGION,
    "301": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "SlowDown": _BUSY,
    "503": _BUSY,
    "ServiceUnavailable": _BUSY,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "InsufficientStorage": _FULL,
    "507": _FULL,
}
_REMEDY_BY_CLASS = {
    "NoCredentialsError": _KEYS,
    "PartialCredentialsError": _KEYS,
    "CredentialRetrievalError": _KEYS,
    "ProfileNotFound": "correct AWS_PROFILE, or unset it",
    "ParamValidationError": _ADDRESS,
    "SSLError": "name the file with the certificate of the store's authority in AWS_CA_BUNDLE",
    "NoRegionError": _REGION,
}
_UNREACHABLE = f"check AWS_ENDPOINT_URL_S3 and the network; {_AGAIN}"


@dataclass(frozen=True)
class S3Settings:
    """Endpoint, timeouts, retries and part size; credentials come from the environment or any other source of boto3."""

    endpoint: str | None = None
    """URL of an S3-compatible store; None = AWS."""
    region: str | None = None
    """The bucket's; None = boto3's default, `us-east-1` with an `endpoint`."""
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    """Without a byte."""
    attempts: int = 10
    """Per request. boto3 pauses 0.05 s × 2^i, at most 20 s; ten attempts bridge a restart of the store."""
    cuts: int = 6
    """How often a stream may be resumed without a byte in between."""
    pause_s: float = 0.5
    """First pause before resuming a stream; it doubles."""
    part_bytes: int = 32 * 2**20
    """Files above twice this size are uploaded in parts of it; S3 allows 10 000 parts of at least 5 MiB."""
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
        while block := body.read(2**20):
            digest.update(block)
        body.seek(start)
    else:
        digest.update(body)
    params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


class S3Error(StorageError):
    """A request that failed after all retries; `code` is the store's error code, empty when it did not respond."""

    def __init__(self, message: str, code: str, away: bool = False) -> None:
        super().__init__(message)
        self.code, self.away = code, away


@contextmanager
def translated(doing: str, uri: str, endpoint: str | None) -> Iterator[None]:
    """Turn boto3's exceptions inside the block into an `S3Error` about `uri`."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error, ResponseParserError) as error:
        # boto3 wraps some transfer errors and keeps the original in the context.
        cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
        answer = getattr(cause, "response", None) or {}
        code = str(answer.get("Error", {}).get("Code") or "")
        where = f"{uri} (endpoint {_anonymous(endpoint or 'AWS')})"
        if code:
            text = f"cannot {doing} {where}: {code}; {_remedy(code, answer)}"
            raise S3Error(text, code, away=code in _PASSING) from error
        name = type(cause).__name__
        text = f"cannot {doing} {where}: {name}: {_anonymous(str(cause))[:150]}"
        remedy = _REMEDY_BY_CLASS.get(name, _UNREACHABLE)
        raise S3Error(f"{text}; {remedy}", "", away=name not in _REMEDY_BY_CLASS) from error


def _remedy(code: str, answer: Any) -> str:
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    skew_s = 0.0  # this machine's clock minus the store's
    with suppress(ValueError, TypeError):
        skew_s = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    if code in ("403", "RequestTimeTooSkewed", "AccessDenied") and abs(skew_s) > _MAX_SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        return f"set this machine's clock (NTP): it is {abs(skew_s) / 60:.0f} minutes {side} the store's"
    return _REMEDY.get(code, f"look at the store's log; {_AGAIN}")


def _anonymous(text: str) -> str:
    """Remove user name and password from URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
