"""S3-compatible stores (SeaweedFS, MinIO, Ceph, AWS) through boto3, by configuration only."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from common.errors import StorageError
from common.storage.hashing import hash_file
from common.storage.keys import DamagedError, check_key, differs
from common.storage.s3_client import S3Settings, s3_client, transfer_config
from common.storage.s3_errors import ABSENT, REPEATABLE, S3Error, translated
from common.storage.s3_stream import HASH_FIELD, ResumingReader

READ_SIZE = 2**20
_known_buckets: set[tuple[str | None, str]] = set()
T = TypeVar("T")


class S3Store:
    """A prefix of a bucket as an object store.

    Every object carries the SHA-256 of its content in its metadata; reading to the end verifies it. Safe to pass to
    other processes and threads; each process makes its own client. Unfinished parts found under a key after an upload
    are treated as left over from a killed one and aborted; a concurrent writer of the same key then sends its object
    again.

    Args:
        prefix: without leading or trailing slashes; may be empty.
    """

    def __init__(self, bucket: str, prefix: str, settings: S3Settings) -> None:
        self._bucket, self._prefix, self._settings = bucket, prefix, settings
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")

    def child(self, prefix: str) -> S3Store:
        """Sub-store below `prefix`."""
        return S3Store(self._bucket, self._key(prefix).strip("/"), self._settings)

    def read_bytes(self, key: str) -> bytes:
        """Read the whole object; a damaged transfer is repeated once."""
        try:
            with self.open(key) as file:
                return file.read()
        except DamagedError:
            with self.open(key) as file:
                return file.read()

    def open(self, key: str) -> BinaryIO:
        """Open the object as a stream that survives cut connections and verifies the hash at its end."""

        def get(**arguments: str) -> Any:
            return self._call("read", key, lambda c, o: c.get_object(**o, **arguments))

        return cast(BinaryIO, io.BufferedReader(ResumingReader(get, self._where(key), self._settings), READ_SIZE))

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write an object; the store checks its MD5 and refuses a truncated or changed body."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._send(key, len(data), sha256, lambda c, o: c.put_object(**o, Body=data, Metadata={HASH_FIELD: sha256}))

    def upload(self, key: str, path: Path) -> None:
        """Copy a file to an object, in parts when large; no part is left behind."""
        try:
            sha256, size = hash_file(path), path.stat().st_size
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}; run the same command again") from error
        extra = {"Metadata": {HASH_FIELD: sha256}}

        def request(client: Any, place: dict[str, str]) -> None:
            config = transfer_config(self._settings)
            client.upload_file(str(path), place["Bucket"], place["Key"], ExtraArgs=extra, Config=config)

        if size < 2 * self._settings.part_bytes:
            self._send(key, size, sha256, request)
            return
        try:
            self._send(key, size, sha256, request)
        finally:
            # Also after a success: a lost response may have left a first multipart upload open beside the second.
            with contextlib.suppress(StorageError):
                self._abort_uploads(key)

    def download(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Copy an object to a file atomically; a damaged transfer is repeated once."""
        try:
            self._download(key, path, sha256)
        except DamagedError:
            self._download(key, path, sha256)

    def size(self, key: str) -> int | None:
        """Size of an object in bytes; None when absent."""
        head = self._head(key)
        return None if head is None else int(head["ContentLength"])

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with `prefix`, sorted."""
        start, token = len(self._key("")), ""
        while True:
            more = {"ContinuationToken": token} if token else {}
            page = self._call(
                "list",
                prefix,
                lambda c, o, more=more: c.list_objects_v2(Bucket=o["Bucket"], Prefix=o["Key"], **more),  # type: ignore[misc]
            )
            yield from (row["Key"][start:] for row in page.get("Contents", []))
            token = page.get("NextContinuationToken", "")
            if not token:
                return

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

    def _download(self, key: str, path: Path, sha256: str | None) -> None:
        temporary: Path | None = None
        digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as target:
                temporary = Path(target.name)
                with self.open(key) as source:
                    while block := source.read(READ_SIZE):
                        digest.update(block)
                        target.write(block)
            if sha256 is not None and digest.hexdigest() != sha256:
                raise differs(self._where(key), sha256)
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror}; free some space and run it again") from error
        finally:
            if temporary is not None:
                temporary.unlink(missing_ok=True)

    def _head(self, key: str) -> Any | None:
        try:
            return self._call("look for", key, lambda c, o: c.head_object(**o))
        except S3Error as error:
            if error.code not in ABSENT:
                raise
        self._check_bucket(key)
        return None

    def _check_bucket(self, key: str) -> None:
        """Raise when the bucket is missing.

        HeadObject answers the same as for a missing key, and hours of work would be lost.
        """
        place = (self._settings.endpoint, self._bucket)
        if place in _known_buckets:
            return
        try:
            self._call("look for", key, lambda c, o: c.head_bucket(Bucket=o["Bucket"]))
        except S3Error as error:
            if error.code in ABSENT:
                raise S3Error(
                    f"there is no bucket {self._bucket!r} for {self._where(key)}; create the bucket, or correct the "
                    "store's address",
                    "NoSuchBucket",
                ) from error
            raise
        _known_buckets.add(place)

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
