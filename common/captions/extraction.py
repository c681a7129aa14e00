"""Prompt 1: extraction of acoustic elements from captions."""

from __future__ import annotations

from collections.abc import Iterable

from common.captions.asking import Desk
from common.captions.records import Elements, Task
from common.contracts.generation import Tally
from common.records.text import normalize_label


def extract(
    desk: Desk, captions: Iterable[tuple[tuple[str, ...], str]]
) -> tuple[dict[tuple[tuple[str, ...], str], Elements], Tally]:
    """Elements by (labels, caption), and a tally of their origin.

    Task ids consist of labels and caption, so a caption is asked for once per run, for all stages, replicates, recipes
    and shards.
    """
    pairs = sorted(set(captions))
    names = {pair: tuple(map(normalize_label, pair[0])) for pair in pairs}
    tasks = {"\0".join(("extract", *names[pair], pair[1])): pair for pair in pairs}
    asked = [
        Task(task_id=task_id, scope=task_id, prompt="extract", labels=names[pair], caption=pair[1], seed=0)
        for task_id, pair in tasks.items()
    ]
    answers, tally = desk.ask(asked)
    by_name = {(names[pair], pair[1]): answers[task_id].elements for task_id, pair in tasks.items()}
    return {pair: by_name[names[pair], pair[1]] for pair in pairs}, tally
