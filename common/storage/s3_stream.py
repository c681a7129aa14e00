"""Resumable forward reading of an S3 object, with its hash verified at the end."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from typing import Any

from common.errors import StorageError
from common.storage.keys import differs
from common.storage.s3_client import S3Settings

HASH_FIELD = "sha256"
"""Metadata field of an object: the SHA-256 of its content."""


class ResumingReader(io.RawIOBase):
    """A stream that requests the rest of the same object version after a cut, and verifies the hash at the end.

    Args:
        get: `get(**arguments)` returns the response of GetObject.

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
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 at the end."""
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
        """Release the connection."""
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
