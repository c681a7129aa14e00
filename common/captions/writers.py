"""Construction of the writer configured for a stage."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from common.captions.asking import CACHE_FORMAT, Desk
from common.captions.grammar import GrammarWriter
from common.captions.secrets import read_key
from common.config.captions import WriterConfig
from common.contracts.base import read, write
from common.contracts.generation import Tally
from common.records.clips import Prompt, read_records, write_records
from common.storage.hashing import hash_json
from common.storage.items import ItemStore


@contextmanager
def open_desk(config: WriterConfig, scope: str = "") -> Iterator[Desk]:
    """Open a `Desk` with the configured writer, the request cache and the grammar as fallback.

    Raises ConfigError: the endpoint's key cannot be sent.
    """
    grammar = GrammarWriter(config.grammar, config.checks)
    if config.backend == "grammar":
        yield Desk(grammar, grammar, config.checks)
        return
    cache = ItemStore("caption_requests", CACHE_FORMAT, scope=scope), _cache_name(config)
    if config.backend == "endpoint":
        from common.captions.endpoint import EndpointWriter

        key = read_key(config.endpoint.api_key_variable)
        with closing(EndpointWriter(config.endpoint, config.checks.max_reply_bytes, key)) as writer:
            yield Desk(writer, grammar, config.checks, *cache)
    else:
        from common.captions.chat_model import ChatModelWriter

        yield Desk(ChatModelWriter(config.chat_model, config.checks), grammar, config.checks, *cache)


def _cache_name(config: WriterConfig) -> str:
    """Name of all settings that shape a checked reply; not speed, prices or the key's variable."""
    checks = config.checks.model_dump(mode="json", exclude={"max_replaced_share"})
    if config.backend == "endpoint":
        shaping = config.endpoint.model_dump(include={"model", "temperature", "max_tokens", "extra"})
    else:
        shaping = config.chat_model.model_dump(exclude={"batch_size"})
    return f"{config.backend}:{hash_json([shaping, checks])}"


class Written(NamedTuple):
    """Prompts with their whole tally, and the part of it that this execution made, not found in the store."""

    prompts: list[Prompt]
    tally: Tally
    now: Tally


def write_once(
    store: ItemStore, config: WriterConfig, written: Callable[[], tuple[list[Prompt], Tally]], **key: Any
) -> Written:
    """Prompts of the writer, found in the store under `key` and the writer's settings, or made by `written()`."""
    now = Tally()
    settings: dict[str, object] = {
        "backend": config.backend,
        "checks": config.checks.model_dump(mode="json", exclude={"max_replaced_share"}),
        "grammar": config.grammar.model_dump(mode="json"),
    }
    if config.backend != "grammar":
        settings["writer"] = _cache_name(config)

    def make(folder: Path) -> None:
        nonlocal now
        prompts, now = written()
        write_records(folder / "prompts.jsonl", prompts)
        write(folder / "tally.json", now)

    item = store.get_or_make(make, settings=settings, **key)
    return Written(read_records(item / "prompts.jsonl", Prompt), read(Tally, item / "tally.json"), now)
