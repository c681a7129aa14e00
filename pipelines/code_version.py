"""The version of a stage's code: a hash of the sources that it imports.

An edited stage runs again; an edit elsewhere leaves it cached. Neither KFP's local cache nor the
cluster's sees imported packages by itself.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OWN = ("common", "components")


def code_version(stage: str) -> str:
    """12 hex digits over the stage's folder and everything of this project that it imports."""
    sources = sorted((ROOT / "components" / stage).glob("**/*.*"))
    seen = {path for path in sources if path.is_file() and "__pycache__" not in path.parts}
    queue = [path for path in seen if path.suffix == ".py"]
    while queue:
        for path in _imports(queue.pop()):
            if path not in seen:
                seen.add(path)
                queue.append(path)
                data = {item for item in path.parent.glob("*") if item.is_file() and item.suffix not in (".py", ".pyc")}
                # Presets and dataset files reach a stage through its config, which is in the cache key already.
                seen |= set() if path.parent.name in ("common", "config") else data
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def joint_code_version(stages: Iterable[str]) -> str:
    """12 hex digits over the code of all `stages`."""
    versions = "".join(code_version(stage) for stage in sorted(stages))
    return hashlib.sha256(versions.encode()).hexdigest()[:12]


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in OWN:
            for depth in range(1, len(parts) + 1):
                place = ROOT.joinpath(*parts[:depth])
                found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return tuple(sorted(found))
