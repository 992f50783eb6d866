"""One line of progress on standard error, and only where that is a terminal."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_INTERVAL = 0.2


class Progress:
    """Elapsed time, stage, open and closed leaves, and the worst bound.

    Args:
        stream: standard error where ``None``.
        enabled: by default, whether the stream is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, enabled: bool | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._enabled = self._stream.isatty() if enabled is None else enabled
        self._start = time.monotonic()
        self._last = float("-inf")
        self._shown = False

    def stage(self, name: str) -> None:
        """A stage begins; shown at once."""
        self._write(name)

    def leaves(
        self, name: str, open_leaves: int, closed_leaves: int, worst: float | None = None
    ) -> None:
        """How far a search or a check is; shown a few times a second."""
        if not self._enabled or time.monotonic() - self._last < _INTERVAL:
            return
        text = f"{name}: {open_leaves} leaves open, {closed_leaves} closed"
        if worst is not None:
            text += f", worst bound {worst:.4g}"
        self._write(text)

    def count(self, name: str, done: int, total: int) -> None:
        """How many of many like things are done; shown a few times a second."""
        if self._enabled and time.monotonic() - self._last >= _INTERVAL:
            self._write(f"{name}: {done} of {total}")

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False

    def _write(self, text: str) -> None:
        if not self._enabled:
            return
        self._last = time.monotonic()
        line = f"{self._last - self._start:7.1f} s  {text}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write("\r\x1b[K" + line[:width])
        self._stream.flush()
        self._shown = True
