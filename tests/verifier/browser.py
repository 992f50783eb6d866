"""A headless Chromium, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@dataclass(frozen=True)
class Browser:
    """A browser.

    Attributes:
        program: the executable.
        folder: what it may write to.
    """

    program: str
    folder: Path

    def run(self, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = (
            self.program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={self.folder / 'profile'}",
            *arguments,
            address,
        )
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    def dom(self, address: str, *arguments: str) -> tuple[str, list[str]]:
        """The page after its scripts ran, and what they wrote to the console."""
        done = self.run(address, "--dump-dom", *arguments)
        return done.stdout, re.findall(r":CONSOLE\S*\] (.*)", done.stderr)

    def screenshot(self, address: str, width: int, height: int, *, dark: bool) -> Path:
        file = self.folder / f"{width}_{'dark' if dark else 'light'}.png"
        scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
        size = f"--window-size={width},{height}"
        self.run(address, scheme, size, f"--screenshot={file}")
        return file


def installed() -> str | None:
    """The path of a browser; ``None``: there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)
