"""JSON for terminals and other programs."""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Value = TypeVar("Value")


def print_json(value: Any) -> None:
    """Print `value` as indented JSON, with escapes for all but ASCII if the output's encoding lacks a character."""
    print(_text(value))


def print_json_array(values: Iterable[Value]) -> Iterator[Value]:
    """Print `values` as `print_json` prints the list of them, each as soon as it comes.

    What is printed is a whole array also where `values` fails after the first.

    Yields each value, after it was printed.
    """
    opened = False
    try:
        for value in values:
            text = _text(value).replace("\n", "\n  ")
            print(",\n  " if opened else "[\n  ", text, sep="", end="", flush=True)
            opened = True
            yield value
    finally:
        if opened:
            print("\n]", flush=True)


def _text(value: Any) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    return text
