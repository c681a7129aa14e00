"""Prompt 1: acoustic elements of captions."""

from __future__ import annotations

from collections.abc import Iterable

from common.captions.asking import Desk
from common.captions.records import Elements, Tally, Task
from common.text import normalize_label


def extract(desk: Desk, captions: Iterable[tuple[str, str]]) -> tuple[dict[tuple[str, str], Elements], Tally]:
    """Elements by (label, caption), and how they came about.

    The tasks are named by label and caption: the same caption is asked for once in a run, whichever
    stage, replicate or recipe needs it.
    """
    tasks = {
        f"extract\0{normalize_label(label)}\0{caption}": (label, caption) for label, caption in sorted(set(captions))
    }
    asked = [
        Task(
            task_id=task_id, scope=task_id, prompt="extract", labels=(normalize_label(label),), caption=caption, seed=0
        )
        for task_id, (label, caption) in tasks.items()
    ]
    answers, tally = desk.ask(asked)
    return {pair: answers[task_id].elements for task_id, pair in tasks.items()}, tally
