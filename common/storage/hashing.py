"""Content hashes of JSON values and files, and the error for an object that does not match its recorded hash."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.errors import StorageError

SUMS_FILE = "SHA256SUMS"
"""File in an artifact with the hashes of its files; not part of the artifact's content."""


class DamagedError(StorageError):
    """An object exists, but its content does not match its recorded hash."""


def differs(uri: str, sha256: str) -> DamagedError:
    """Build the error for an object that does not have its recorded hash."""
    return DamagedError(
        f"{uri} differs from its record (SHA-256 {sha256[:12]}… expected): it was damaged or replaced; delete it and "
        "run the same command again, so that it is made anew"
    )


def hash_json(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of `value` as canonical JSON; integral floats equal integers.

    Text that is no Unicode, as names of files may be, is hashed as well.
    """
    # KFP passes every number in a dict as a float.
    canonical = changed(value, lambda one: int(one) if isinstance(one, float) and one.is_integer() else one)
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """A JSON value in which `change` was applied to all but lists and objects; keys become text."""
    if isinstance(value, dict):
        return {str(key): changed(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [changed(item, change) for item in value]
    return change(value)


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
