"""Hashes of source files by meaning: docstrings, comments and formatting do not count."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


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
