"""Content hashes of JSON values, files and folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

SUMS_FILE = "SHA256SUMS"
"""File in an artifact with the hashes of its files; not part of the artifact's content."""


def hash_json(value: Any) -> str:
    """SHA-256 (hex, 64 characters) of `value` as canonical JSON; integral floats equal integers.

    Text that is no Unicode, as names of files may be, is hashed as well.
    """
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: Any) -> Any:
    # KFP passes every number in a dict as a float.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value


def hash_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
