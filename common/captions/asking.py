"""Requests to a writer: check, one repair for what is missing, then the grammar as fallback. All of it is counted.

No answer of a model is paid for twice: the request cache holds the result of the checks, that is valid captions, reason
codes and the cost, never a reply's text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from common.captions.checks import OTHER_REASON_TEXT, REASON_TEXTS, check_caption, check_reply, max_words, plain_caption
from common.captions.grammar import GrammarWriter, extract_elements
from common.captions.pools import Pool, build_pools
from common.captions.records import Answer, Checked, Elements, Kept, Reply, Request, Task, prompt_book
from common.config.captions import CheckConfig
from common.contracts.base import read, write
from common.contracts.generation import Price, Tally, Usage
from common.errors import DataError
from common.log import event, get_logger
from common.records.clips import GoldClip, SyntheticClip, Written
from common.records.text import normalize_label
from common.runtime.seeding import derive_seed
from common.storage.hashing import hash_json
from common.storage.items import ItemStore

log = get_logger("captions")

MAX_REDRAWS = 400
CACHE_FORMAT = "3"
"""Bump when `Kept` or the checks change in a way that makes old answers wrong."""
_KEPT = "kept.json"


class CaptionWriter(Protocol):
    """Writes JSON replies to requests."""

    @property
    def name(self) -> str:
        """Name of the writer, with version; goes into every caption's record."""

    def replies(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield index and reply of every request, in any order. Replies are untrusted; a failure is a reply too.

        Raises ConfigError: the writer cannot work at all with its settings.
        """


def make_request(task: Task, checks: CheckConfig, refused: Sequence[str] | None = None) -> Request:
    """Build the first request for a task, or, with the reason codes of a `refused` reply, that for its repair.

    Nothing of the reply itself is repeated to the writer.
    """
    book = prompt_book()
    prompt = book.prompts[task.prompt]
    facts: dict[str, Any] = {}
    for name in prompt.fields:
        if name == "labels" and len(task.labels) == 1:
            facts["label"] = task.labels[0]
        else:
            facts[name] = max_words(task, checks) if name == "max_words" else getattr(task, name)
    parts = [prompt.text]
    if len(task.labels) > 1:
        parts.append(book.several_labels)
    if refused is not None:
        told = dict.fromkeys(REASON_TEXTS.get(reason, OTHER_REASON_TEXT) for reason in refused)
        parts.append(book.repair.format(reasons="; ".join(told) or OTHER_REASON_TEXT))
    parts.append(json.dumps(facts, ensure_ascii=False, indent=1))
    messages = ({"role": "system", "content": book.system}, {"role": "user", "content": "\n\n".join(parts)})
    attempt = 0 if refused is None else 1
    return Request(
        task=task,
        messages=messages,
        prompt_hash=hash_json(messages)[:16],
        seed=derive_seed(task.seed, "caption", task.task_id, attempt),
        attempt=attempt,
        room=2 if "cut_off" in (refused or ()) else 1,
    )


class Desk:
    """Sends tasks to a writer and returns only captions and elements that passed the checks.

    The grammar writes the pieces that no reply held. Checked replies are kept in a store by `model` (with the settings
    that shape a reply), prompt hash and seed. All caption stages share it, so a code change in a stage costs nothing
    either. A writer that costs nothing has none.
    """

    def __init__(
        self,
        writer: CaptionWriter,
        grammar: GrammarWriter,
        checks: CheckConfig,
        store: ItemStore | None = None,
        model: str = "",
    ) -> None:
        self._writer, self._grammar, self._checks, self._store, self._model = writer, grammar, checks, store, model

    @property
    def writer_name(self) -> str:
        """Name of the writer."""
        return self._writer.name

    def ask(
        self, tasks: Sequence[Task], taken: dict[frozenset[str], set[str]] | None = None
    ) -> tuple[dict[str, Answer], Tally]:
        """Answers by id of the tasks, which are distinct and in any order, and a tally of their origin.

        Captions in `taken`, by scope, are not written again.

        Raises:
            ConfigError: the writer cannot work with its settings.
            DataError: the grammar had to write more than `max_replaced_share` of the pieces.
        """
        work = _Work(sorted(tasks, key=lambda task: task.task_id), taken or {}, self._writer.name)
        for attempt in (0, 1):
            open_tasks = work.open_tasks()
            requests = [
                make_request(work.rest(task), self._checks, work.refused[task.task_id] if attempt else None)
                for task in open_tasks
            ]
            replies = self._checked(requests, work)
            for task, request, checked in zip(open_tasks, requests, replies, strict=True):
                work.take(task, request, checked)
        for task in work.open_tasks():
            self._fill(task, work)
        tally = work.tally()
        self._refuse_too_many(tally)
        return work.answers(), tally

    def _checked(self, requests: Sequence[Request], work: _Work) -> list[Checked]:
        """Checked reply of each request. Paid replies are cached on arrival, so a killed stage does not lose them."""
        kept = list(map(self._known, requests))
        usages = [Usage(cached=1) if one else Usage() for one in kept]
        found = [one.checked if one else None for one in kept]
        missing = [index for index, checked in enumerate(found) if checked is None]
        for position, reply in self._writer.replies([requests[index] for index in missing]):
            index = missing[position]
            usages[index] = reply.usage
            if reply.text or reply.failure is None:
                checked = check_reply(reply.text, requests[index].task, self._checks)
            else:
                checked = Checked(complete=False)
            if reply.failure and not checked.complete:
                further = [reason for reason in checked.reasons if reason != reply.failure]
                checked = checked.model_copy(update={"reasons": (reply.failure, *further)})
            if reply.failure is None or reply.usage.paid.output_tokens:
                kept[index] = self._keep(requests[index], Kept(checked=checked, price=reply.usage.paid))
            found[index] = checked
        prices = {request.key: one.price for request, one in zip(requests, kept, strict=True) if one}
        usages.append(Usage(replies={key: price for key, price in prices.items() if price != Price()}))
        # Added in the order of the requests, because floating-point sums of cost depend on it.
        work.usage += sum(usages, start=Usage())
        return [checked or Checked(reasons=("no_reply",), complete=False) for checked in found]

    def _key(self, request: Request) -> dict[str, str]:
        return {"model": self._model, "request": request.key}

    def _known(self, request: Request) -> Kept | None:
        if self._store is None or not self._store.has(**self._key(request)):
            return None
        return read(Kept, self._store.path(**self._key(request)) / _KEPT)

    def _keep(self, request: Request, kept: Kept) -> Kept:
        if self._store is not None:
            self._store.get_or_make(lambda folder: write(folder / _KEPT, kept), **self._key(request))
        return kept

    def _fill(self, task: Task, work: _Work) -> None:
        """Fill missing pieces with the grammar; duplicates are redrawn."""
        if task.prompt == "extract":
            work.elements[task.task_id] = extract_elements(task.caption, task.labels)
            work.replaced += 1
            return
        for position in range(len(work.kept[task.task_id]), task.count):
            for attempt in range(MAX_REDRAWS):
                caption = plain_caption(self._grammar.caption(task, position, attempt), task.labels)
                if check_caption(caption, task, self._checks) is None and work.is_new(task, caption):
                    break
            else:
                # Only a label with thousands of captions can exhaust the grammar.
                work.reasons["duplicate_kept"] += 1
            work.keep(task, caption, self._grammar.name, make_request(task, self._checks).prompt_hash)
            work.replaced += 1

    def _refuse_too_many(self, tally: Tally) -> None:
        if tally.replaced:
            event(
                log,
                "captions_replaced",
                by=self._grammar.name,
                replaced=f"{tally.replaced}/{tally.pieces}",
                reasons=",".join(f"{name}:{count}" for name, count in tally.reasons.items()),
            )
        if self._writer.name != self._grammar.name and tally.replaced > self._checks.max_replaced_share * tally.pieces:
            reasons = ", ".join(f"{name} ({count})" for name, count in tally.reasons.items())
            raise DataError(
                f"{self._writer.name} gave no usable text for {tally.replaced} of {tally.pieces} pieces, more than "
                f"max_replaced_share {self._checks.max_replaced_share}; reasons: {reasons}. Look at the endpoint or "
                "model, raise writer.checks.max_replaced_share, or set writer.backend=grammar"
            )


class _Work:
    """Captions and elements written so far, for all tasks."""

    def __init__(self, tasks: Sequence[Task], taken: dict[frozenset[str], set[str]], writer: str) -> None:
        self.tasks, self.writer = tasks, writer
        self.used = {scope: set(captions) for scope, captions in taken.items()}
        self.kept: dict[str, list[Written]] = {task.task_id: [] for task in tasks}
        self.elements: dict[str, Elements] = {}
        self.refused: dict[str, tuple[str, ...]] = {}
        self.reasons: Counter[str] = Counter()
        self.repaired = self.replaced = 0
        self.usage = Usage()

    def open_tasks(self) -> list[Task]:
        return [task for task in self.tasks if not self._done(task)]

    def rest(self, task: Task) -> Task:
        """The task with as many captions as are still wanted; all, of a writer that repeats itself."""
        if "duplicate" in self.refused.get(task.task_id, ()):
            return task
        return task.model_copy(update={"count": max(1, task.count - len(self.kept[task.task_id]))})

    def _done(self, task: Task) -> bool:
        return task.task_id in self.elements if task.prompt == "extract" else len(self.kept[task.task_id]) >= task.count

    def take(self, task: Task, request: Request, checked: Checked) -> None:
        """Keep the new captions of a checked reply to a task or its rest, in the order of the tasks."""
        reasons = list(checked.reasons)
        if task.prompt == "extract" and checked.complete:
            self.elements[task.task_id] = checked.elements
            self.repaired += request.attempt
        for caption in checked.captions:
            if self._done(task):
                break
            if self.is_new(task, caption):
                self.keep(task, caption, self.writer, request.prompt_hash)
                self.repaired += request.attempt
            else:
                reasons.append("duplicate")
        self.reasons.update(reasons)
        self.refused[task.task_id] = tuple(reasons) or ("too_few",)

    def is_new(self, task: Task, caption: str) -> bool:
        return caption not in self.used.get(task.scope, ())

    def keep(self, task: Task, caption: str, writer: str, prompt_hash: str) -> None:
        self.used.setdefault(task.scope, set()).add(caption)
        self.kept[task.task_id].append(Written(caption=caption, writer=writer, prompt_hash=prompt_hash))

    def answers(self) -> dict[str, Answer]:
        return {
            task.task_id: Answer(
                captions=tuple(self.kept[task.task_id]), elements=self.elements.get(task.task_id, Elements())
            )
            for task in self.tasks
        }

    def tally(self) -> Tally:
        pieces = sum(1 if task.prompt == "extract" else task.count for task in self.tasks)
        return Tally(
            pieces=pieces,
            repaired=self.repaired,
            replaced=self.replaced,
            reasons=dict(sorted(self.reasons.items())),
            usage=self.usage,
        )


def extract_pools(
    desk: Desk, rows: Sequence[tuple[str, GoldClip | SyntheticClip, str]], seed: int
) -> tuple[dict[str, Pool], Tally]:
    """Pools of the elements of captions (see `build_pools`), and a tally of their origin.

    Task ids consist of labels and caption, so a caption is asked for once per run, for all stages, replicates, recipes
    and shards. `rows` are a label, a clip that has it, and the clip's caption.
    """
    named = [(label, clip.clip_id, tuple(map(normalize_label, clip.labels)), text) for label, clip, text in rows]
    tasks = {
        (labels, text): Task(
            task_id="\0".join(("extract", *labels, text)), prompt="extract", labels=labels, caption=text, seed=0
        )
        for *_, labels, text in named
    }
    answers, tally = desk.ask(list(tasks.values()))
    found = ((label, clip_id, answers[tasks[labels, text].task_id].elements) for label, clip_id, labels, text in named)
    return build_pools(found, seed), tally
