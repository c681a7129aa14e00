"""Object keys, and the error for an object that does not match its recorded hash."""

from __future__ import annotations

from common.errors import StorageError


class DamagedError(StorageError):
    """An object exists, but its content does not match its recorded hash."""


def differs(uri: str, sha256: str) -> DamagedError:
    """Build the error for an object that does not have its recorded hash."""
    return DamagedError(
        f"{uri} differs from its record (SHA-256 {sha256[:12]}… expected): it was damaged or replaced; delete it and "
        "run the same command again, so that it is made anew"
    )


def check_key(key: str, uri: str) -> None:
    """Reject a key that is absolute or contains `..`. Raises StorageError: the key would leave the store."""
    if key.startswith("/") or ".." in key.split("/"):
        raise StorageError(f"key {key!r} leads out of the store {uri}; this is a fault, please report it")
