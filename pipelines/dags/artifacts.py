"""Pages of the JSON artifacts: `python -m pipelines.dags.artifacts docs/ARTIFACTS.md [runs/kfp/<run>]`.

Fields come from the models. Examples stay as they are, or are taken from a run, with lists and long tables cut.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from common.contracts.catalogue import CONTRACTS
from common.storage import read_json
from common.storage.local import rounded

HEAD = """# JSON artifacts

What stages hand to each other as JSON, and what a run leaves for its reader, each with an example (lists and long
tables are cut). The models are in `common/contracts`; this page is made from them by
`python -m pipelines.dags.artifacts docs/ARTIFACTS.md`, with the folder of a run (`runs/kfp/<run>`) behind it for new
examples. A file that is not of its model stops the stage that reads it.
"""
KEPT = 2
"""Entries kept of a list, or of a table with more than `MOST` entries."""
MOST = 6


def page(examples: dict[str, Any]) -> str:
    """Write the page with `examples` by artifact and file; each model is described once, where it first occurs."""
    seen: set[str] = set()
    parts = [HEAD]
    for name, kind in CONTRACTS.items():
        parts.append(f"## `{name}`\n")
        shown = [model for model in _models(kind) if model.__name__ not in seen]
        if kind not in shown:
            parts.append(f"{_type(kind).capitalize()}.\n")
        for model in shown:
            seen.add(model.__name__)
            parts.append(f"**{model.__name__}**: {(model.__doc__ or '').splitlines()[0]}\n")
            parts.append("\n".join(["| field | type | |", "| --- | --- | --- |", *_rows(model)]) + "\n")
        if name in examples:
            text = json.dumps(examples[name], ensure_ascii=False, indent=1)
            # What holds no further table stands in one line.
            text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: " ".join(match[0].split()), text)
            parts.append(f"```json\n{text}\n```\n")
    return "\n".join(parts)


def _models(kind: Any) -> Iterator[Any]:
    """The models within a type, outermost first."""
    if hasattr(kind, "model_fields") or is_dataclass(kind):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from _models(hint)
    for part in get_args(kind):
        yield from _models(part)


def _rows(model: Any) -> Iterator[str]:
    told = {
        name: (each.annotation, each.description or "") for name, each in getattr(model, "model_fields", {}).items()
    }
    if is_dataclass(model):
        told = {each.name: (get_type_hints(model)[each.name], "") for each in fields(model)}
    extra = get_type_hints(model).get("__pydantic_extra__")
    if "__pydantic_extra__" in model.__annotations__:
        told["…"] = (get_args(extra)[1], "")
    return (f"| `{name}` | {_type(kind)} | {words.replace('|', '/')} |" for name, (kind, words) in told.items())


def _type(kind: Any) -> str:
    """A type in words: `list of int`, `table of Score`, `float or null`."""
    parts, origin = get_args(kind), getattr(kind, "__origin__", None)
    if kind is NoneType:
        return "null"
    if origin in (list, tuple):
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"table of {_type(parts[1])}"
    if str(origin) == "typing.Literal":
        return " / ".join(f"`{part}`" for part in parts)
    return " or ".join(map(_type, parts)) if parts else str(getattr(kind, "__name__", kind))


def cut(value: Any) -> Any:
    """A value with its first entries only, wherever it holds many."""
    if isinstance(value, list):
        return [cut(entry) for entry in value[:KEPT]]
    if isinstance(value, dict):
        alike = len(value) > MOST and len({_shape(entry) for entry in value.values()}) == 1
        return {name: cut(entry) for name, entry in list(value.items())[: KEPT if alike else None]}
    return rounded(value, 4)


def _shape(value: Any) -> str:
    return str(sorted(value)) if isinstance(value, dict) else type(value).__name__


def examples_of(text: str) -> dict[str, Any]:
    """Examples of a page, by artifact and file."""
    found = re.finditer(r"^## `(.*)`$(?:(?!^## ).*\n)*?```json\n((?:.*\n)*?)```", text, re.MULTILINE)
    return {match[1]: json.loads(match[2]) for match in found}


def main(path: Path, run: Path | None = None) -> None:
    """Write the page; `run` is the folder of a run's artifacts."""
    examples = examples_of(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, kind in CONTRACTS.items():
        if run and (files := sorted(run.glob(f"*/{name}"))):
            examples[name] = to_jsonable_python(TypeAdapter(kind).validate_python(cut(read_json(files[-1]))))
    path.write_text(page(examples), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
