"""Pages of the JSON artifacts: `python -m tests.kit.artifact_pages docs/ARTIFACTS.md [runs/kfp/<run>]`.

Fields come from the models. Examples stay as they are, or are taken from a run, with lists and long tables cut.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from common.contracts import evaluation, generation, gold, report, study, training
from common.contracts.base import Contract
from common.storage import read_json
from common.storage.local import rounded

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS: dict[str, Any] = {
    "gold/dataset.json": gold.Dataset,
    "gold/splits.json": gold.Splits,
    "gold/health.json": gold.Health,
    "test/health.json": gold.HeldOutHealth,
    "prompts/captions.json": generation.CaptionAccount,
    "aligned/align.json": generation.AlignAccount,
    "finetuned/finetune.json": dict[int, generation.Finetuning],
    "accepted/filter.json": generation.FilterAccount,
    "classifiers/selection.json": training.Selection,
    "classifiers/learners.json": training.Learners,
    "classifiers/delivered.json": training.Delivery,
    "classifiers/seconds.json": training.Seconds,
    "classifiers/failures.json": list[training.Failure],
    "evaluation/evaluation.json": evaluation.Evaluation,
    "results/report.json": report.Report,
    "study/study.json": study.Study,
    "night/night.json": study.Night,
}
"""By artifact and file, in the order of a run."""

HEAD = """# JSON artifacts

What stages hand to each other as JSON, and what a run leaves for its reader, each with an example (lists and long
tables are cut). The models are in `common/contracts`; this page is made from them by
`python -m tests.kit.artifact_pages docs/ARTIFACTS.md`, with the folder of a run (`runs/kfp/<run>`) behind it for new
examples. A file that is not of its model stops the stage that reads it.
"""
KEPT = 2
"""Numbers and words kept of a list; of a list or long table of tables, one."""
WIDTH = 100
MOST = 3
"""Tables alike in a table that is not long."""


def page(examples: dict[str, Any]) -> str:
    """Write the page with `examples` by artifact and file; each model is described once, where it first occurs."""
    seen: set[str] = set()
    parts = [HEAD]
    for name, kind in CONTRACTS.items():
        parts.append(f"## `{name}`\n")
        if kind not in _models(kind) or kind.__name__ in seen:
            parts.append(f"{_type(kind)}.\n")
        for model in _models(kind):
            if model.__name__ not in seen:
                seen.add(model.__name__)
                bases = " and ".join(base.__name__ for base in model.__bases__ if _is_model(base))
                more = f" The fields of {bases}, and:" if bases else ""
                parts.append(f"**{model.__name__}**: {(model.__doc__ or '').splitlines()[0]}{more}\n")
                parts.append("\n".join(["| field | type | |", "| --- | --- | --- |", *_rows(model)]) + "\n")
        if name in examples:
            parts.append(f"```json\n{_laid_out(examples[name])}\n```\n")
    return "\n".join(parts)


def _is_model(kind: Any) -> bool:
    return is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Contract) and kind is not Contract)


def _models(kind: Any) -> Iterator[Any]:
    """The models within a type, and those that they extend, outermost first."""
    if _is_model(kind):
        yield kind
        for base in kind.__bases__:
            yield from _models(base)
        for hint in get_type_hints(kind).values():
            yield from _models(hint)
    for part in get_args(kind):
        yield from _models(part)


def _rows(model: Any) -> Iterator[str]:
    known, hints = getattr(model, "model_fields", {}), get_type_hints(model)
    for name in model.__annotations__:
        if name == "__pydantic_extra__":
            yield f"| … | {_type(get_args(hints[name])[1])} | |"
        elif name in known:
            words = (known[name].description or "").replace("|", "/")
            yield f"| `{known[name].serialization_alias or name}` | {_type(known[name].annotation)} | {words} |"
        elif is_dataclass(model):
            yield f"| `{name}` | {_type(hints[name])} | |"


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


def _laid_out(value: Any, indent: str = " ") -> str:
    """JSON in lines that are full."""
    if not isinstance(value, dict) or len(json.dumps(value)) <= WIDTH:
        return json.dumps(value, ensure_ascii=False)
    lines = [""]
    for name, entry in value.items():
        text = f"{json.dumps(name, ensure_ascii=False)}: {_laid_out(entry, indent + ' ')},"
        if not lines[-1] or len(lines[-1] + text) > WIDTH or "\n" in lines[-1] + text:
            lines.append(indent + text)
        else:
            lines[-1] += f" {text}"
    return "{\n" + "\n".join(lines[1:]).removesuffix(",") + f"\n{indent[1:]}}}"


def cut(value: Any) -> Any:
    """A value with its first entries only, wherever it holds many."""
    if isinstance(value, list):
        return [cut(entry) for entry in value[: 1 if value and isinstance(value[0], dict) else KEPT]]
    if isinstance(value, dict):
        shapes = [str(sorted(entry)) if isinstance(entry, dict) else name for name, entry in value.items()]
        shown = [
            name
            for place, (name, shape) in enumerate(zip(value, shapes, strict=True))
            if shapes.count(shape) <= MOST or shape not in shapes[:place]
        ]
        return {name: cut(value[name]) for name in shown}
    return rounded(value, 4)


def examples_of(text: str) -> dict[str, Any]:
    """Examples of a page, by artifact and file."""
    found = re.finditer(r"^## `(.*)`$(?:(?!^## ).*\n)*?```json\n((?:.*\n)*?)```", text, re.MULTILINE)
    return {match[1]: json.loads(match[2]) for match in found}


def example(name: str) -> Any:
    """The example of an artifact's file in docs/ARTIFACTS.md."""
    return examples_of((ROOT / "docs" / "ARTIFACTS.md").read_text(encoding="utf-8"))[name]


def main(path: Path, run: Path | None = None) -> None:
    """Write the page; `run` is the folder of a run's artifacts."""
    examples = examples_of(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, kind in CONTRACTS.items():
        if run and (files := sorted(run.glob(f"*/{name}"))):
            examples[name] = to_jsonable_python(TypeAdapter(kind).validate_python(cut(read_json(files[-1]))))
    path.write_text(page(examples), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
