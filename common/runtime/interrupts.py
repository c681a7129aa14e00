"""SIGTERM as a request to save and stop, forwarded to child processes."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from common.errors import Interrupted


class Interruption:
    """State of a SIGTERM request; see `sigterm`."""

    def __init__(self, forward: bool = False) -> None:
        self.requested = self._at_once = False
        self._forward = forward

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise `Interrupted` immediately on SIGTERM inside this block, instead of only recording it."""
        self._at_once = True
        try:
            if self.requested:
                raise self.error()
            yield
        finally:
            self._at_once = False

    def error(self, saved: str = "") -> Interrupted:
        """Exception to raise once the work is saved."""
        return Interrupted(f"SIGTERM came{saved}; run the same command again to go on")

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self.requested = True
        if self._forward:
            for child in multiprocessing.active_children():
                child.terminate()
        if self._at_once:
            raise self.error()


@contextmanager
def sigterm() -> Iterator[Interruption]:
    """Record SIGTERM inside the block instead of ending the process.

    When the block ends normally after a SIGTERM, the signal is raised again. Signals reach the main thread only, so
    nothing is recorded in other threads.
    """
    with _recorded(Interruption()) as interruption:
        yield interruption
    if interruption.requested:
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def forwarded_sigterm() -> Iterator[Interruption]:
    """Forward SIGTERM to the child processes of `multiprocessing`, wait for the block, then raise.

    Raises Interrupted: SIGTERM arrived; replaces an exception that the block raised after it.
    """
    interruption = Interruption(forward=True)
    try:
        with _recorded(interruption):
            yield interruption
    except Exception as error:
        if interruption.requested:
            raise interruption.error() from error
        raise
    if interruption.requested:
        raise interruption.error()


@contextmanager
def _recorded(interruption: Interruption) -> Iterator[Interruption]:
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGTERM, interruption.receive)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
