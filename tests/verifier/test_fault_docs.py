"""docs/faults.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from specs.document import read_document
from specs.faults.formats import FLOAT32
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, Where
from specs.faults.placed import read_placed
from specs.faults.schema import _KEYS, read_faults
from specs.faults.sites import cells
from specs.reader.parameters import MOVERS, OPERANDS
from verifier.faults.maps import single_fault_maps

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/faults.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_table_of_keys_is_the_schema():
    section = PAGE.partition("## The table `[faults]`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == {"model", *(key for keys in _KEYS.values() for key in keys)}


def test_the_example_of_a_question_is_read(tmp_path):
    (example,) = blocks("toml")
    (tmp_path / "q.toml").write_text(example)
    model = read_faults(read_document(tmp_path / "q.toml"))
    where = Where(layers=("conv1", "conv2"), bits=(5, 6, 7))
    assert model == BitFlips(2, Quantised(8, axis=0), where)


def test_the_example_of_a_map_runs(monkeypatch, capsys):
    proof, example, region = blocks("python")
    monkeypatch.chdir(ROOT)
    exec(compile(proof, "docs/faults.md", "exec"), {})
    exec(compile(example, "docs/faults.md", "exec"), {})
    assert "'undecided': 0" in capsys.readouterr().out
    exec(compile(region, "docs/faults.md", "exec"), {})
    assert 'net = "digits.onnx"' in capsys.readouterr().out


def test_the_operators_that_are_followed_are_listed():
    section = PAGE.partition("Followed are")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", section)) - {"DequantizeLinear", "BatchNormalization"}
    assert named == {*OPERANDS, *MOVERS}


def test_the_bundled_example_by_bit_position():
    placed = read_placed(ROOT / "examples/digits.onnx")
    memory = store(placed)
    points = np.random.default_rng(0).random((2, placed.network.input_size))
    maps = single_fault_maps(cells(memory, BitFlips()), points)
    for name, each in maps.maps.items():
        table = each.by_bit(32)
        assert all(counts.shape == (32,) for counts in table.values())
        assert sum(table.values()).tolist() == [placed.parameters[name].size] * 32
        assert table["benign"][:16].min() > table["benign"][FLOAT32.bits - 2]
