"""Failures of a request to a chat endpoint, and when it is tried again."""

from __future__ import annotations

from typing import Literal

from tenacity import RetryCallState, wait_random_exponential
from tenacity.stop import stop_base

from common.log import event, get_logger

log = get_logger("captions")


class Refused(Exception):
    """Permanent failure of a request; the message is a reason code."""


class Passing(Exception):
    """Transient failure of a request; the message is a reason code.

    Args:
        kind: a fault counts as an attempt; a limit of the server is waited out; a request that was adapted to the
            server is sent again at once.
    """

    def __init__(self, reason: str, wait_s: float = 0.0, kind: Literal["fault", "limit", "adapted"] = "fault") -> None:
        super().__init__(reason)
        self.wait_s, self.kind = wait_s, kind


def failure_of(state: RetryCallState) -> Passing | None:
    """Failure of the last attempt."""
    failure = state.outcome.exception() if state.outcome else None
    return failure if isinstance(failure, Passing) else None


class Stop(stop_base):
    """Stops one request after `attempts` faults, or before a wait for a limit that would end after `limit_wait_s`."""

    def __init__(self, attempts: int, limit_wait_s: float) -> None:
        self._left, self._limit_wait_s = attempts, limit_wait_s

    def __call__(self, retry_state: RetryCallState) -> bool:
        """Whether the request is given up."""
        failure = failure_of(retry_state)
        if failure is None or failure.kind == "adapted":
            return False
        if failure.kind == "limit":
            return (retry_state.seconds_since_start or 0.0) + retry_state.upcoming_sleep > self._limit_wait_s
        self._left -= 1
        return self._left <= 0


class Wait(wait_random_exponential):
    """Exponential backoff with full jitter, at most `longest_s`, but at least what the server asks for."""

    def __init__(self, longest_s: float) -> None:
        super().__init__(multiplier=min(1.0, longest_s), max=longest_s)
        self._longest_s = longest_s

    def __call__(self, retry_state: RetryCallState) -> float:
        """Seconds to the next attempt."""
        failure = failure_of(retry_state)
        if failure is not None and failure.kind == "adapted":
            return 0.0
        asked = failure.wait_s if failure is not None else 0.0
        if failure is None or failure.kind == "fault":
            asked = min(asked, self._longest_s)
        # Jitter beyond the time asked for: requests that were limited together must not return together.
        return asked + super().__call__(retry_state) * (0.1 if asked else 1.0)


def log_retry(state: RetryCallState) -> None:
    """Log one retry with its reason and wait."""
    wait_s = state.next_action.sleep if state.next_action else 0.0
    event(log, "caption_retry", attempt=state.attempt_number, reason=failure_of(state), wait_s=float(wait_s))
