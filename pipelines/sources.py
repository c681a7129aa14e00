"""Hashes of source files by meaning: docstrings, comments and formatting do not count.

The code version of a stage, over its sources and everything in `common` that it imports, is part of the cache key,
because neither KFP's local cache nor the cluster's sees imported packages. A stage whose code changed runs again; a
change elsewhere, or of a docstring, keeps it cached.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("common/config", "common/datasets", "common/models")
"""Folders whose data files (presets, datasets, published models) are left out of the hash: they reach a stage through
its settings, which the cache key contains."""

_MODULE = re.compile(r"common(\.\w+)+")


def commit(*options: str) -> str | None:
    """Commit of these sources, as `git rev-parse` tells it; None outside a repository."""
    found = subprocess.run(["git", "-C", str(ROOT), "rev-parse", *options, "HEAD"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else None


def digest(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) over names and meanings of source files."""
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(ROOT).as_posix()}\0{meaning(path)}\0".encode())
    return found.hexdigest()


def meaning(path: Path) -> str:
    """SHA-256 (hex) of a file's meaning.

    The meaning is the syntax tree without docstrings of Python, the values of YAML, and the bytes of other files.
    """
    return _meaning(path, path.stat().st_mtime_ns)


@cache
def _meaning(path: Path, changed_ns: int) -> str:
    data = path.read_bytes()
    if path.suffix == ".py":
        data = ast.dump(without_docstrings(data.decode("utf-8"))).encode()
    elif path.suffix == ".yaml":
        data = json.dumps(yaml.load(data, yaml.CSafeLoader), default=str).encode()
    return hashlib.sha256(data).hexdigest()


def without_docstrings(source: str) -> ast.Module:
    """Syntax tree of Python source, without docstrings and other bare string statements."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                setattr(node, field, [statement for statement in statements if not _is_text(statement)])
    return tree


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def code_version(stage: str) -> str:
    """12 hex digits over the meaning of the stage's folder and of everything that it imports from `common`."""
    sources = sorted((ROOT / "components" / stage).rglob("*.*"))
    seen = {path for path in sources if path.is_file() and "__pycache__" not in path.parts}
    queue = [path for path in seen if path.suffix == ".py"]
    while queue:
        for path in _imports(module := queue.pop(), module.stat().st_mtime_ns):
            if path not in seen:
                seen.add(path)
                queue.append(path)
                if path.parent.relative_to(ROOT).as_posix() not in SETTINGS:
                    beside = (item for item in path.parent.iterdir() if item.is_file())
                    seen |= {item for item in beside if item.suffix not in (".py", ".pyc")}
    return digest(seen)[:12]


def joint_code_version(stages: Iterable[str]) -> str:
    """12 hex digits over the code versions of all `stages`."""
    versions = "".join(code_version(stage) for stage in sorted(stages))
    return hashlib.sha256(versions.encode()).hexdigest()[:12]


@cache
def _imports(path: Path, changed_ns: int) -> tuple[Path, ...]:
    """Files of `common` that a module imports, or names in a string for a later import, or looks up in a registry."""
    names = set()
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            names.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "member":
            package = str(ast.literal_eval(node.args[0]))
            names |= {f"{package}.{file.stem}" for file in ROOT.joinpath(*package.split(".")).glob("*.py")}
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] == "common":
            for depth in range(1, len(parts) + 1):
                place = ROOT.joinpath(*parts[:depth])
                found |= {file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()}
    return tuple(sorted(found))


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a syntax tree, without imports for types alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from _executed(child)
