"""Keys of objects, and the error for one whose content is not what its record says."""

from __future__ import annotations

from common.errors import StorageError


class DamagedError(StorageError):
    """An object is there, but its content is not what its record says."""


def differs(uri: str, sha256: str) -> DamagedError:
    """The error for an object whose content does not have its recorded hash."""
    return DamagedError(
        f"{uri} differs from its record (SHA-256 {sha256[:12]}… expected): it was damaged or replaced; delete it and "
        "run the same command again, so that it is made anew"
    )


def check_key(key: str, uri: str) -> None:
    """Refuse a key that is absolute or has `..` in it.

    Raises:
        StorageError: as said.
    """
    if key.startswith("/") or ".." in key.split("/"):
        raise StorageError(f"key {key!r} leads out of the store {uri}; this is a fault, please report it")
