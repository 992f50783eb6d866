"""docs/certify.md is the schema that is read, and the bundled example runs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import farkas
from tests.verifier.certify_files import folder_with, keys_of
from verifier.certify.faults.common import FAULT_KEYS
from verifier.certify.faults.section import ANSWERS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/certify.md").read_text()

SECTIONS = ("robustness", "semantic", "range", "monotonicity", "vnnlib")

FULL = """
[limits]
[robustness]
radius = 1
label = "predicted"
[semantic]
shape = [2, 2]
rotation = [0, 1]
[range]
output = 0
maximum = 1
domain = [0, 1]
[monotonicity]
output = 0
features = [0]
domain = [0, 1]
[vnnlib]
properties = ["p.vnnlib"]
[faults]
model = "bit_flips"
format = "int8"
[faults.map]
[faults.several]
[faults.certificate]
[faults.ranges]
tensor = "h0"
within = [0, 1]
[faults.probability]
rates = [1e-9]
[faults.precision]
formats = ["int8"]
[faults.agreement]
other = "other"
at_most = 1
[faults.campaign]
trials = 1
rate = 0
"""


def listed(section: str) -> set[str]:
    text = PAGE.partition(f"## `[{section}]`\n")[2].partition("\n##")[0]
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_tables_of_keys_are_the_schema(tmp_path, monkeypatch):
    path = folder_with(tmp_path, FULL)
    shutil.copy(tmp_path / "net.onnx", tmp_path / "other.onnx")
    path.write_text(path.read_text().replace("[data]", 'other = "other.onnx"\n[data]'))
    lines = [f"(declare-const {v}_{k} Real)" for v, n in (("X", 4), ("Y", 3)) for k in range(n)]
    lines += [f"(assert (<= X_{k} 1))(assert (>= X_{k} 0))" for k in range(4)]
    (tmp_path / "p.vnnlib").write_text("\n".join([*lines, "(assert (>= Y_0 9))"]))
    known = keys_of(path, monkeypatch)
    for name in ANSWERS:
        keys = known[f"faults.{name}"]
        narrows = len(keys & set(FAULT_KEYS)) > 3
        assert narrows == (
            name
            in (
                "map",
                "several",
                "certificate",
                "probability",
                "campaign",
            )
        )
        own = keys - set(FAULT_KEYS) if narrows else keys
        assert listed(f"faults.{name}") == own | ({"k"} if name == "campaign" else set())
    for name in SECTIONS:
        assert listed(name) == known[name], name
    table = PAGE.partition("## The file")[2].partition("\n## ")[0]
    rows = re.findall(r"^\|[^|]*\| (`.*?`) \|", table, re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert names == {"title", *known["data"], *known["limits"]}


def test_the_bundled_example(tmp_path, capsys):
    text = (ROOT / "examples/faults.toml").read_text()
    for name in ("digits.onnx", "digits_int8.onnx", "digits.npz"):
        shutil.copy(ROOT / "examples" / name, tmp_path)
    short = text.replace("first = 5", "first = 1").replace("trials = 500", "trials = 20")
    (tmp_path / "faults.toml").write_text(short.replace("scale = 16 ", "first = 10\nscale = 16 "))
    out = tmp_path / "out"
    assert farkas.main(["certify", str(tmp_path / "faults.toml"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("proved\nDigits under faults\n")
    found = json.loads((out / "results.json").read_text())
    assert len(found["sections"]["faults"]) == len(ANSWERS)
    drawn = (out / "report.html").read_text().count("<svg ")
    assert drawn == 5  # three of the faults, two of what questions cost


def test_the_bundled_model_in_int8_is_the_rounded_one():
    from specs.faults.memory import Quantised, store
    from specs.faults.placed import read_placed
    from verifier.certify.models import stored_model

    made = stored_model(store(read_placed(ROOT / "examples/digits.onnx"), Quantised(8)))
    assert made == (ROOT / "examples/digits_int8.onnx").read_bytes()
