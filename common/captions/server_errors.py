"""Failures of a request to a chat endpoint: what the server says of them, and when the request is tried again."""

import json
import random
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, NamedTuple

WORDS = 200
"""Characters of a server's message that are shown."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s?(ms|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?)(?![a-z])")
_UNITS = {"ms": 0.001, "mil": 0.001, "m": 60.0, "s": 1.0, "h": 3600.0}
"""Seconds by the beginning of a unit's name; the first that fits counts."""
_IN_TEXT = re.compile(r"(?:again|retry|wait)\D{0,12}((?:\d+(?:\.\d+)?\s?[a-z]+\s?)+)", re.IGNORECASE)
_RESET = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset(?:-\w+)?|\w+-reset)")
_EPOCH_S = 1e9
_EPOCH_MS = 1e12


class ServerError(NamedTuple):
    """Message of a server, on one line, and its codes, types and parameters in lower case."""

    message: str
    codes: frozenset[str]


def read_error(body: str) -> ServerError:
    """Read the body of an error, in the forms of OpenAI, vLLM, Ollama, Mistral and Google; any other text is shown."""
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ServerError(_line(re.sub(r"<[^>]*>", " ", body)), frozenset())
    strings = list(_strings(data, depth=6))
    # A message within a message is more exact than the one around it.
    said = [text for name, text in strings if name in ("message", "msg", "detail", "error")]
    codes = frozenset(text.lower() for name, text in strings if name in ("code", "type", "param", "status", "loc"))
    return ServerError(_line(" ".join(dict.fromkeys(said)) or body), codes)


def _strings(data: Any, depth: int, name: str = "") -> Iterator[tuple[str, str]]:
    if depth == 0:
        return
    if isinstance(data, str):
        yield name, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _strings(value, depth - 1, str(key))
    elif isinstance(data, list):
        for value in data[:20]:
            yield from _strings(value, depth - 1, name)


def _line(text: str) -> str:
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= WORDS else plain[: WORDS - 1] + "…"


def asked_wait_s(headers: Mapping[str, str], body: str, now: datetime) -> float:
    """Seconds that a server asks to wait before the next try; 0 if it does not say.

    Read in this order: `retry-after-ms`, `retry-after` (seconds, or a date), the resets of the limits that are
    exhausted, else the first reset of any, and the text of the body.
    """
    now = _date(headers.get("date", "")) or now
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return milliseconds / 1000
    if (asked := _wait(headers.get("retry-after", ""), now)) is not None:
        return asked
    exhausted, waits = list[float](), list[float]()
    for name, value in headers.items():
        if _RESET.fullmatch(name) and (wait := _wait(value, now)) is not None:
            left = _number(headers.get(name.replace("reset", "remaining"), ""))
            (exhausted if left == 0 else waits).append(wait)
    if exhausted or waits:
        return max(exhausted) if exhausted else min(waits)
    said = re.search(r'"retryDelay":\s*"([^"]+)"', body) or _IN_TEXT.search(body)
    return (_duration(said.group(1)) or 0.0) if said else 0.0


def _wait(text: str, now: datetime) -> float | None:
    """Seconds from now: a number of seconds, a time since 1970, `1m30.5s`, or a date; None if it is none of them."""
    number = _number(text)
    if number is not None:
        if number >= _EPOCH_S:
            number = number / (1000 if number >= _EPOCH_MS else 1) - now.timestamp()
        return max(0.0, number)
    duration = _duration(text)
    if duration is not None:
        return duration
    date = _date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,15}(?:\.\d{0,9})?\s*", text, re.ASCII) else None


def _duration(text: str) -> float | None:
    text = text.strip().lower().rstrip(".")
    found = _DURATION.findall(text)
    if not found or _DURATION.sub("", text).strip(" ,"):
        return None
    return sum(float(number) * next(s for name, s in _UNITS.items() if unit.startswith(name)) for number, unit in found)


def _date(text: str) -> datetime | None:
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text.strip())
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    return None


class Refused(Exception):
    """Permanent failure of a request; the message is a reason code."""


class Passing(Exception):
    """Transient failure of a request; the message is a reason code.

    A fault counts as an attempt; a limit of the server is waited out; an adapted request is sent again at once.
    """

    def __init__(self, reason: str, wait_s: float = 0.0, kind: Literal["fault", "limit", "adapted"] = "fault") -> None:
        super().__init__(reason)
        self.wait_s, self.kind = wait_s, kind

    def pause_s(self, attempt: int, longest_s: float) -> float:
        """Seconds after attempt number `attempt`: exponential with full jitter, at least what the server asks for.

        Jitter, and what is asked for after a fault, take at most `longest_s`.
        """
        if self.kind == "adapted":
            return 0.0
        asked = self.wait_s if self.kind == "limit" else min(self.wait_s, longest_s)
        jitter = random.uniform(0, min(longest_s, min(1.0, longest_s) * 2.0 ** min(attempt - 1, 30)))
        # Jitter beyond the time asked for: requests that were limited together must not return together.
        return asked + jitter * (0.1 if asked else 1.0)
