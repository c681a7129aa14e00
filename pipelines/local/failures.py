"""Why a task failed, told from what its process printed and from its exit status."""

from __future__ import annotations

import re
import signal

LONGEST = 600
"""Characters of a reason; the log has all."""
NO_MEMORY = "most often the machine ran out of memory: close other programs, or take a smaller preset or N"

_TRACEBACK = re.compile(r"((?:\[rank\d+\]: ?)? *)(?:\+ Exception Group )?Traceback \(most recent call last\):$")
_FRAME = re.compile(r'\s*File "([^"]+)", line (\d+)')
_EXCEPTION = re.compile(r"(?:[\w<>]+\.)*(\w+)(?:: (.*)|:?)$")
_GROUP = re.compile(r" +(?:\| (?P<exception>\S.*)|\|.*|\+.*)$")
_EVENT = re.compile(r"\d\d:\d\d:\d\d [A-Z]+ synthio\.")
_IGNORED = "Exception ignored in"
_MORE_LINES = 3


class FailureReader:
    """Reader of a process's output that finds the exception which ended it: the last traceback's.

    Tracebacks that Python prints for exceptions which it ignores are passed over. A group is named with its parts.
    """

    def __init__(self) -> None:
        self._name = self._message = self._frame = self._last = self._pending = ""
        self._parts: list[str] = []
        self._gutter: int | None = None
        self._in_group = self._ignored = False
        self._more = 0

    def read(self, text: str) -> None:
        """Take in a piece of output."""
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._line(line.rstrip())

    def reason(self, status: int) -> str:
        """Reason for the failure in one line; empty where `status` is 0.

        Args:
            status: exit status of the process, or of the shell around it; negative = the signal that ended it.
        """
        self.read("\n")
        if status == 0:
            return ""
        number = -status if status < 0 else status - 128
        if number in signal.valid_signals():
            name = signal.Signals(number).name
            return f"the process was ended by {name}" + (f"; {NO_MEMORY}" if number == signal.SIGKILL else "")
        if not self._name:
            return _shortened(f"the process ended with status {status}, last line: {self._last or 'none'}")
        message = f": {self._message}" if self._message else f", raised in {self._frame}"
        parts = f": {'; '.join(self._parts)}" if self._parts else ""
        hint = f"; {NO_MEMORY}" if self._name in ("MemoryError", "BrokenProcessPool") else ""
        return _shortened(f"{self._name}{message}{parts}".rstrip(".")) + hint

    def _line(self, line: str) -> None:
        if (found := _TRACEBACK.match(line)) and not self._ignored:
            self._in_group = "Exception Group" in line
            self._gutter, self._more = len(found[1]), 0
            if self._in_group:
                self._name, self._parts = "", []
        elif self._in_group and (found := _GROUP.match(line)):
            if (told := found["exception"]) and (exception := _EXCEPTION.match(told)):
                self._member(told, exception)
        elif self._gutter is not None and not self._in_group:
            self._inside(line[self._gutter :])
        elif self._more and line and not line.startswith(_IGNORED) and not _EVENT.match(line):
            self._more -= 1
            self._message = f"{self._message} {line}".strip()
        else:
            self._more, self._in_group = 0, False
        self._ignored = line.startswith(_IGNORED)
        if line.strip() and not _EVENT.match(line):
            self._last = line.strip()

    def _inside(self, line: str) -> None:
        """Read a line of a traceback, whose frames are indented and whose exception is not."""
        if found := _FRAME.match(line):
            self._frame = f"{found[1]}, line {found[2]}"
        if not line or line[0].isspace():
            return
        self._gutter, self._more, self._parts = None, _MORE_LINES, []
        exception = _EXCEPTION.match(line)
        self._name, self._message = (exception[1], exception[2] or "") if exception else (line, "")

    def _member(self, told: str, exception: re.Match[str]) -> None:
        """Take in an exception of a group: the first one is the group itself."""
        if not self._name:
            self._name, self._message = exception[1], exception[2] or ""
        elif not exception[1].endswith("ExceptionGroup"):
            self._parts.append(told)


def _shortened(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
