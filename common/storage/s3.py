"""S3-compatible stores (SeaweedFS, MinIO, Ceph, AWS) through boto3, by configuration only."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from common.errors import StorageError
from common.storage.hashing import DamagedError, differs, hash_file
from common.storage.local import check_key, publish_file
from common.storage.s3_client import ABSENT, REPEATABLE, S3Error, S3Settings, s3_client, translated

READ_SIZE = 2**20
HASH_FIELD = "sha256"
"""Metadata field of an object: the SHA-256 of its content."""
T = TypeVar("T")

_once_more = retry(retry=retry_if_exception_type(DamagedError), stop=stop_after_attempt(2), reraise=True)


class S3Store:
    """A prefix (no leading or trailing slashes; may be empty) of a bucket as an object store.

    Every object carries the SHA-256 of its content in its metadata; reading to the end verifies it. Safe to pass to
    other processes and threads; each process makes its own client. Unfinished parts found under a key after an upload
    are treated as left over from a killed one and aborted; a concurrent writer of the same key then sends its object
    again.
    """

    def __init__(self, bucket: str, prefix: str, settings: S3Settings) -> None:
        self._bucket, self._prefix, self._settings = bucket, prefix, settings
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    def child(self, prefix: str) -> S3Store:
        """Sub-store below `prefix`."""
        return S3Store(self._bucket, self._key(prefix).strip("/"), self._settings)

    @_once_more
    def read_bytes(self, key: str) -> bytes:
        """Read the whole object; a damaged transfer is repeated once."""
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """Open the object as a stream that survives cut connections and verifies the hash at its end."""

        def get(**arguments: str) -> Any:
            return self._call("read", key, lambda c, o: c.get_object(**o, **arguments))

        return cast(BinaryIO, io.BufferedReader(_Resuming(get, self._where(key), self._settings), READ_SIZE))

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write an object; the store checks its MD5 and refuses a truncated or changed body."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._send(key, len(data), sha256, lambda c, o: c.put_object(**o, Body=data, Metadata={HASH_FIELD: sha256}))

    def upload(self, key: str, path: Path) -> None:
        """Copy a file to an object, in parts when large; no part is left behind."""
        from boto3.s3.transfer import TransferConfig

        try:
            sha256, size = hash_file(path), path.stat().st_size
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}; run the same command again") from error
        part, threads = self._settings.part_bytes, self._settings.threads
        extra = {"Metadata": {HASH_FIELD: sha256}}
        config = TransferConfig(
            multipart_threshold=2 * part, multipart_chunksize=part, max_concurrency=threads, use_threads=threads > 1
        )

        def request(client: Any, place: dict[str, str]) -> None:
            client.upload_file(str(path), place["Bucket"], place["Key"], ExtraArgs=extra, Config=config)

        if size < 2 * part:
            self._send(key, size, sha256, request)
            return
        try:
            self._send(key, size, sha256, request)
        finally:
            # Also after a success: a lost response may have left a first multipart upload open beside the second.
            with contextlib.suppress(StorageError):
                self._abort_uploads(key)

    @_once_more
    def download(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Copy an object to a file atomically; a damaged transfer is repeated once."""
        digest = hashlib.sha256()
        with publish_file(path) as part, part.open("wb") as target, self.open(key) as source:
            while block := source.read(READ_SIZE):
                digest.update(block)
                target.write(block)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise differs(self._where(key), sha256)

    def size(self, key: str) -> int | None:
        """Size of an object in bytes; None when absent."""
        head = self._head(key)
        return None if head is None else int(head["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with `prefix`, sorted."""
        start = len(self._key(""))
        with translated("list", self._where(prefix), self._settings.endpoint):
            pages = s3_client(self._settings).get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
                yield from (row["Key"][start:] for row in page.get("Contents", []))

    def delete(self, key: str) -> None:
        """Delete an object; an absent one is not an error."""
        self._call("delete", key, lambda c, o: c.delete_object(**o))

    def local_path(self, key: str) -> Path | None:
        """None; objects on S3 have no local path."""
        return None

    def _send(self, key: str, size: int, sha256: str, request: Callable[[Any, dict[str, str]], object]) -> None:
        """Send a whole object; after an error it counts as sent when the store holds this size and hash."""
        for last in (False, True):
            try:
                self._call("write", key, request)
                return
            except S3Error as error:
                if self._stored(key) == (size, sha256):
                    return
                if last or error.code not in REPEATABLE:
                    raise

    def _head(self, key: str) -> Any | None:
        try:
            return self._call("look for", key, lambda c, o: c.head_object(**o))
        except S3Error as error:
            if error.code not in ABSENT:
                raise
        # The answer is the same where the bucket is missing, and hours of work would be lost.
        _check_bucket(self._settings, self._bucket)
        return None

    def _stored(self, key: str) -> tuple[int, str] | None:
        with contextlib.suppress(StorageError):
            head = self._head(key)
            return None if head is None else (int(head["ContentLength"]), head.get("Metadata", {}).get(HASH_FIELD, ""))
        return None

    def _abort_uploads(self, key: str) -> None:
        found = self._call(
            "list parts of", key, lambda c, o: c.list_multipart_uploads(Bucket=o["Bucket"], Prefix=o["Key"])
        )
        for upload in found.get("Uploads", []):
            if upload["Key"] == self._key(key):
                identity = upload["UploadId"]
                self._call("abort", key, lambda c, o, i=identity: c.abort_multipart_upload(**o, UploadId=i))  # type: ignore[misc]

    def _call(self, doing: str, key: str, request: Callable[[Any, dict[str, str]], T]) -> T:
        """Response to `request(client, {"Bucket": …, "Key": …})`; every failure becomes a `StorageError`."""
        with translated(doing, self._where(key), self._settings.endpoint):
            return request(s3_client(self._settings), {"Bucket": self._bucket, "Key": self._key(key)})

    def _key(self, key: str) -> str:
        check_key(key, self.uri)
        return f"{self._prefix}/{key}" if self._prefix else key

    def _where(self, key: str) -> str:
        return f"{self.uri}/{key}"


@cache
def _check_bucket(settings: S3Settings, bucket: str) -> None:
    """Raise S3Error when the bucket is missing; one that was found is not asked for again."""
    uri = f"s3://{bucket}"
    try:
        with translated("look for", uri, settings.endpoint):
            s3_client(settings).head_bucket(Bucket=bucket)
    except S3Error as error:
        if error.code not in ABSENT:
            raise
        text = f"there is no bucket {uri}; create the bucket, or correct the store's address"
        raise S3Error(text, "NoSuchBucket") from error


class _Resuming(io.RawIOBase):
    """A stream that requests the rest of the same object version after a cut, and verifies the hash at the end.

    `get(**arguments)` returns the response of GetObject.

    Raises:
        StorageError: the object is missing; while reading: it is unreachable for too long, or has changed.
        DamagedError: at the end of reading: the content does not have the hash in the object's metadata.
    """

    def __init__(self, get: Callable[..., Any], uri: str, settings: S3Settings) -> None:
        self._get, self._uri, self._settings = get, uri, settings
        self._at, self._cuts = 0, 0
        first = get()
        self._body, self._etag = first["Body"], first["ETag"]
        self._size = int(first["ContentLength"])
        self._expected = first.get("Metadata", {}).get(HASH_FIELD)
        self._digest = hashlib.sha256()
        if not self._size:
            self._check()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        while self._at < self._size:
            problem: Exception | str = "the connection ended"
            try:
                if block := self._body.read(min(len(buffer), self._size - self._at)):
                    buffer[: len(block)] = block
                    return self._took(block)
            except (BotoCoreError, HTTPError, OSError) as error:
                problem = error
            self._resume(problem)
        return 0

    def close(self) -> None:
        if not self.closed and hasattr(self, "_body"):
            self._body.close()
        super().close()

    def _took(self, block: bytes) -> int:
        self._at, self._cuts = self._at + len(block), 0
        if self._expected:
            self._digest.update(block)
        if self._at == self._size:
            self._check()
        return len(block)

    def _check(self) -> None:
        if self._expected and self._digest.hexdigest() != self._expected:
            raise differs(self._uri, self._expected)

    def _resume(self, problem: Exception | str) -> None:
        self._body.close()
        self._cuts += 1
        if self._cuts > self._settings.cuts:
            raise StorageError(
                f"cannot read {self._uri} beyond byte {self._at} of {self._size} after {self._settings.cuts} attempts "
                f"({problem}); check the store and the network, then run the same command again"
            )
        time.sleep(self._settings.pause_s * 2 ** (self._cuts - 1))
        answer = self._get(Range=f"bytes={self._at}-", IfMatch=self._etag)
        self._body = answer["Body"]
        # Not every store honours both headers.
        if answer["ETag"] != self._etag:
            raise StorageError(f"{self._uri} changed while it was read; run the same command again")
        if not str(answer.get("ContentRange", "")).startswith(f"bytes {self._at}-"):
            raise StorageError(f"the store of {self._uri} does not serve ranges; use one that does, or a folder")
