"""Every property file of the sample of public benchmarks is read."""

from __future__ import annotations

import os
import re
import time
from fractions import Fraction
from pathlib import Path

import pytest

from specs.source import read_source
from specs.vnnlib1 import read_vnnlib1

FOLDER = os.environ.get("FARKAS_VNNCOMP", "")
SECONDS = 60
BOUND = re.compile(r"^[^;\n]*?\((<=|>=)\s+X_(\d+)\s+([^\s()]+)\)", re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not Path(FOLDER, "instances.csv").is_file(),
    reason="FARKAS_VNNCOMP names no folder of benchmarks",
)


def test_all_property_files_are_read() -> None:
    files = sorted(Path(FOLDER).rglob("*.vnnlib*"))
    assert files
    spent = time.process_time()
    for path in files:
        source, _ = read_source(path)
        sizes = [len(re.findall(rf"declare-const\s+{v}_", source.text)) for v in "XY"]
        stated = read_vnnlib1(source, *sizes)
        assert stated.cases, path
        assert not stated.notes, path
        if len(stated.cases) == 1:
            sides = {">=": stated.cases[0].lower, "<=": stated.cases[0].upper}
            bounds = BOUND.findall(source.text)
            assert len(bounds) >= 2 * sizes[0], path
            assert all(sides[op][int(i)] == Fraction(v) for op, i, v in bounds), path
    assert time.process_time() - spent < SECONDS


def test_the_largest_file_has_its_boxes() -> None:
    path = Path(FOLDER, "nn4sys", "vnnlib", "lindex_60000.vnnlib")
    source, _ = read_source(path)
    stated = read_vnnlib1(source, 1, 1)
    assert len(stated.cases) == 60_000
    assert sum(len(case.unsafe) for case in stated.cases) == source.text.count("(and")
