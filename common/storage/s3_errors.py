"""Translation of boto3's exceptions into `StorageError`s with a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from common.errors import StorageError

ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})
REPEATABLE = frozenset({"BadDigest", "NoSuchUpload", "InvalidPart", "IncompleteBody"})
"""Error codes after which sending the whole object again may succeed."""

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


class S3Error(StorageError):
    """A request that failed after all retries.

    Attributes:
        code: error code of the store; empty when it did not respond.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


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
            raise S3Error(f"cannot {doing} {where}: {code}; {_remedy(code, answer)}", code) from error
        name = type(cause).__name__
        remedy = _REMEDY_BY_CLASS.get(name, _UNREACHABLE)
        raise S3Error(f"cannot {doing} {where}: {name}: {_anonymous(str(cause))[:150]}; {remedy}", "") from error


def _remedy(code: str, answer: Any) -> str:
    remedy = _REMEDY.get(code, f"look at the store's log; {_AGAIN}")
    skew_s = _skew_s(answer)
    if code in ("403", "RequestTimeTooSkewed", "AccessDenied") and skew_s is not None and abs(skew_s) > _MAX_SKEW_S:
        remedy = (
            f"set this machine's clock (NTP): it is {abs(skew_s) / 60:.0f} minutes "
            f"{'ahead of' if skew_s > 0 else 'behind'} the store's"
        )
    return remedy


def _skew_s(answer: Any) -> float | None:
    """This machine's clock minus the store's, in seconds; None when the response has no date."""
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() if date else None
    except (ValueError, TypeError):
        return None


def _anonymous(text: str) -> str:
    """Remove user name and password from URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
