"""The worked example of the format's specification runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proofs import archive, packing
from proofs import format as files
from proofs.proof import ARRAYS, Fact, NodeKind

PAGE = (Path(__file__).resolve().parents[2] / "proofs/FORMAT.md").read_text()


def test_worked_example():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "FORMAT.md", "exec"), {})


def test_a_worked_example_that_is_wrong_would_be_noticed():
    *_, block = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    wrong = block.replace("shortfall - 1.5", "shortfall - 1.6")
    assert wrong != block
    with pytest.raises(AssertionError):
        exec(compile(wrong, "FORMAT.md", "exec"), {})


def test_every_array_is_described_with_its_types():
    cells = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", PAGE, re.MULTILINE)
    described = {name: types for names, types in cells for name in re.findall(r"`(\w+)`", names)}
    for name, dtypes in ARRAYS.items():
        assert re.search(rf"\b{name}\b", PAGE), f"FORMAT.md does not describe '{name}'"
        for dtype in dtypes if name in described else ():
            assert dtype in described[name], f"FORMAT.md does not say that '{name}' may be {dtype}"
    assert len(described) > 20


def test_every_kind_of_node_is_numbered_as_in_the_code():
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {k.name: int(k) for k in NodeKind}
    for number in range(len(Fact)):
        assert re.search(rf"\b{number}\b", PAGE.partition("A multiplier's fact")[2])


def test_limits():
    assert f"up to {packing.LONGEST} entries long" in PAGE.replace("\n", " ")
    assert f"{archive.FLOOR >> 20} MiB plus {archive.RATIO} times" in PAGE.replace("\n", " ")
    assert f"the manifest at most {files.MANIFEST_LIMIT >> 20} MiB" in PAGE.replace("\n", " ")
