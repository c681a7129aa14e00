"""Hash of all bytes of a folder, read anew."""

from __future__ import annotations

import hashlib
from pathlib import Path

from common.storage.hashing import SUMS_FILE, hash_file


def hash_dir(path: Path, skip: frozenset[str] = frozenset()) -> str:
    """SHA-256 (hex) over the names and bytes of all files below `path`, except relative paths in `skip`."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        name = file.relative_to(path).as_posix()
        if name not in {SUMS_FILE, *skip}:
            digest.update(f"{name}\0{hash_file(file)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
