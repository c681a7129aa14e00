"""Terminal output during a local run: events of the stages are shown, everything is logged."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

_EVENT = re.compile(r" (INFO|WARNING|ERROR) synthio\.(\S+) (.*)")
_MODEL_S = re.compile(r"event=stage_done .*model_s=([0-9.e+-]+)")


class Console(io.TextIOBase):
    """Replacement for standard output while kfp runs.

    Attributes:
        model_s: seconds that the stages spent inside their models.
    """

    def __init__(self, log_path: Path) -> None:
        self._file = log_path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
        self._terminal = sys.stdout
        self._pending = ""
        self.model_s = 0.0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log `text`, and show the stages' events."""
        self._file.write(text)
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._line(line)
        return len(text)

    def flush(self) -> None:
        """Flush the log file."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Close the log file."""
        super().close()
        self._file.close()

    def _line(self, line: str) -> None:
        if found := _MODEL_S.search(line):
            self.model_s += float(found.group(1))
        if found := _EVENT.search(line):
            self._terminal.write(f"  {found.group(2)}: {found.group(3).removeprefix('event=')}\n")
            self._terminal.flush()
