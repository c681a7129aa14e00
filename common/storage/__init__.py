"""Storage: atomic publishing on disk, and object stores on `file://` and `s3://` behind one interface.

Among the stages, only this package reads the environment:

- `SYNTHIO_STORE`: the run store, a folder, `file://…` or `s3://bucket/prefix`;
- `SYNTHIO_CACHE`: local copies of items from an S3 store; default: in the temporary folder;
- `SYNTHIO_DATA`: downloaded datasets; default: `data` beside the packages;
- `HF_HOME`: published models; default: as the hub's client;
- `AWS_ENDPOINT_URL_S3` (or `AWS_ENDPOINT_URL`): the URL of an S3-compatible store; without it, AWS;
- `AWS_REGION` (or `AWS_DEFAULT_REGION`).

boto3 itself reads the keys (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`, …) and
`AWS_CA_BUNDLE`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from common.errors import ConfigError, StorageError
from common.storage.hashing import DamagedError, differs, hash_file
from common.storage.local import check_key, publish_dir, publish_file, read_json, write_bytes, write_json, write_text

__all__ = [
    "STORE_VARIABLE",
    "DamagedError",
    "ObjectStore",
    "cache_root",
    "data_folder",
    "hub_home",
    "open_store",
    "open_uri",
    "publish_dir",
    "publish_file",
    "read_json",
    "split_uri",
    "store_uri",
    "unless_away",
    "whole_store",
    "write_bytes",
    "write_json",
    "write_text",
]

STORE_VARIABLE = "SYNTHIO_STORE"
CACHE_VARIABLE = "SYNTHIO_CACHE"
DATA_VARIABLE = "SYNTHIO_DATA"


class ObjectStore(Protocol):
    """Objects by key below one URI; every failure is a `StorageError` with a remedy."""

    uri: str
    """`file:///…` or `s3://bucket/prefix`, without a trailing slash."""

    def child(self, prefix: str) -> ObjectStore:
        """Sub-store below `prefix`."""

    def read_bytes(self, key: str) -> bytes:
        """Read the whole object."""

    def open(self, key: str) -> BinaryIO:
        """Open the object as a forward-only stream; a cut connection is resumed where it broke."""

    def write_bytes(self, key: str, data: bytes) -> None:
        """Write an object atomically."""

    def upload(self, key: str, path: Path) -> None:
        """Copy a file to an object atomically."""

    def download(self, key: str, path: Path, sha256: str | None = None) -> None:
        """Copy an object to a file atomically; with `sha256`, only when its content has that hash."""

    def size(self, key: str) -> int | None:
        """Size of an object in bytes; None when absent."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with `prefix`, sorted; not for hot paths, as listing a large store is slow."""

    def delete(self, key: str) -> None:
        """Delete an object; an absent one is not an error."""

    def local_path(self, key: str) -> Path | None:
        """Local path of an object, whether it exists or not; None on S3."""


class _FileStore:
    """A folder, which need not exist yet, as an object store."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.uri = self._root.as_uri()

    def child(self, prefix: str) -> _FileStore:
        return _FileStore(self._path(prefix))

    def read_bytes(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except OSError as error:
            raise self._gone(key, error) from error

    def write_bytes(self, key: str, data: bytes) -> None:
        write_bytes(self._path(key), data)

    def upload(self, key: str, path: Path) -> None:
        with publish_file(self._path(key)) as part:
            shutil.copyfile(path, part)

    def download(self, key: str, path: Path, sha256: str | None = None) -> None:
        source = self._path(key)
        if not source.is_file():
            raise self._gone(key, FileNotFoundError(2, "there is no such file"))
        if sha256 is not None and hash_file(source) != sha256:
            raise differs(f"{self.uri}/{key}", sha256)
        with publish_file(path) as part:
            shutil.copyfile(source, part)

    def size(self, key: str) -> int | None:
        path = self._path(key)
        return path.stat().st_size if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[str]:
        folder = self._path(prefix) if not prefix or prefix.endswith("/") else self._path(prefix).parent
        # What another process removes meanwhile is left out.
        paths = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
        for path in sorted(paths):
            key = path.relative_to(self._root).as_posix()
            if path.is_file() and key.startswith(prefix) and not path.name.startswith("."):
                yield key

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot delete {path}: {error.strerror}; check the folder's permissions") from error
        if path.parent != self._root:
            # Ignore a folder that is not empty or already gone.
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    def _path(self, key: str) -> Path:
        check_key(key, self.uri)
        return self._root / key

    def _gone(self, key: str, error: OSError) -> StorageError:
        return StorageError(
            f"cannot read {self.uri}/{key}: {error.strerror}; run the same command again, so that it is made anew"
        )


def open_store(uri: str | Path) -> ObjectStore:
    """Open the store at a folder, `file://…` or `s3://bucket/prefix`.

    Raises ConfigError: unknown scheme, no bucket, or what looks like a misspelt address.
    """
    text = str(uri)
    if isinstance(uri, Path) or "://" not in text:
        if isinstance(uri, str) and re.match("(s3|file)[:/]", text, re.IGNORECASE) and not os.path.isdir(text):
            raise ConfigError(f"store {text!r}: an address is s3://bucket/prefix; a new folder is written ./{text}")
        return _FileStore(Path(text))
    if text.startswith("file://"):
        return _FileStore(_file_path(text))
    bucket, _, prefix = text.removeprefix("s3://").partition("/")
    if text.startswith("s3://") and bucket:
        from common.storage.s3 import S3Store
        from common.storage.s3_client import S3Settings

        return S3Store(bucket, prefix.strip("/"), S3Settings.from_environment())
    raise ConfigError(f"store {text!r}: expected a folder, file:///folder or s3://bucket/prefix")


def _file_path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise ConfigError(f"{uri!r} names a host, expected three slashes as in file:///folder")
    return Path(unquote(parts.path))


def split_uri(uri: str) -> tuple[str, str]:
    """Split an object's URI into `(store, key)`; the store is its bucket or folder."""
    if uri.startswith("s3://"):
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return f"s3://{bucket}", key
    path = _file_path(uri) if uri.startswith("file://") else Path(uri)
    return path.absolute().parent.as_uri(), path.name


@contextlib.contextmanager
def unless_away(logger: logging.Logger, what: str) -> Iterator[None]:
    """Let the block fail with a warning where the store is away, and `what` it stores can be done without until later.

    A store that refuses, or is full, will do so at the end of the work too.

    Raises StorageError: the store is not away.
    """
    try:
        yield
    except StorageError as error:
        if not error.away:
            raise
        logger.warning(
            "not_stored what=%r then='the work goes on, and stores it in its next turn' error=%r", what, str(error)
        )


def open_uri(uri: str) -> BinaryIO:
    """Open an object as a stream; see `ObjectStore.open`."""
    store, key = split_uri(uri)
    return open_store(store).open(key)


def store_uri() -> str:
    """URI of the run store, from the environment variable `SYNTHIO_STORE`.

    Raises StorageError: the variable is not set.
    """
    uri = os.environ.get(STORE_VARIABLE)
    if not uri:
        raise StorageError(
            f"no run store: set {STORE_VARIABLE} to a writable folder or s3://bucket/prefix (make run-pipeline sets it "
            "to RUNS/store)"
        )
    return uri


def whole_store() -> ObjectStore | None:
    """The run store, for objects shared by all runs; None without one."""
    uri = os.environ.get(STORE_VARIABLE)
    return open_store(uri) if uri else None


def cache_root() -> Path:
    """Folder for local copies of items from an S3 store, from `SYNTHIO_CACHE`."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path(tempfile.gettempdir()) / f"synthio-cache-{os.getuid()}")


def hub_home() -> Path:
    """Folder of the model hub's client, from `HF_HOME`."""
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")


def data_folder() -> Path:
    """Folder of downloaded datasets, from `SYNTHIO_DATA`; default: `data` beside the packages."""
    return Path(os.environ.get(DATA_VARIABLE) or Path(__file__).resolve().parents[2] / "data").absolute()
