"""The examples of docs/watermarks.md run."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/watermarks.md"


def test_examples_run(monkeypatch):
    monkeypatch.chdir(PAGE.parents[1])
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    for code in found:
        exec(compile(code, str(PAGE), "exec"), {})
