"""The comparison counts what it says, and says who disagrees."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from benchmarks.compare import StartUp, joined, listed, plot, read_ours, table
from verifier.bench_table import Row

PEERS = [
    ("a", "n.onnx", "1.vnnlib", "unsat", "4.0"),
    ("a", "n.onnx", "2.vnnlib", "sat", "13.0"),
    ("a", "n.onnx", "3.vnnlib", "timeout", "61.0"),
    ("b", "m.onnx", "4.vnnlib", "unsat", "23.0"),
]


def peers() -> list[dict[str, str]]:
    names = ("benchmark", "onnx", "vnnlib", "verdict", "cpu")
    found = [dict(zip(names, row, strict=True), tool="abcrown") for row in PEERS]
    return [*found, {**found[0], "tool": "other", "verdict": "sat"}]


def ours() -> list[Row]:
    def row(key: str, answer: str, cpu: float, torch: bool = False) -> Row:
        return Row(key, key[0], "unsat", 60.0, answer, cpu=cpu, torch=torch)

    return [
        row("a n.onnx 1.vnnlib", "unsat", 0.5),
        row("a n.onnx 2.vnnlib", "unsat", 4.0, torch=True),
        row("a n.onnx 3.vnnlib", "unsat", 9.0, torch=True),
        row("b m.onnx 4.vnnlib", "timeout", 60.0, torch=True),
        row("b m.onnx 5.vnnlib", "unsat", 1.0),
    ]


def test_queries_are_joined_and_start_up_is_added() -> None:
    pairs = joined(ours(), peers(), "abcrown", StartUp(0.5, 2.0))
    assert [p.key for p in pairs] == [row.key for row in ours()[:4]]
    assert [p.our_cpu for p in pairs] == [1.0, 6.0, 11.0, 62.0]
    assert [p.their_run for p in pairs] == [0.0, 9.0, 57.0, 19.0]
    assert joined(ours(), peers(), "nobody", StartUp(0.5, 2.0)) == []


def test_the_table_counts() -> None:
    pairs = joined(ours(), peers(), "abcrown", StartUp(0.5, 2.0))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table(pairs, "abcrown").splitlines()
    ]
    assert lines[2] == ["a", "3", "3", "2", "2", "0", "1", "0", "0.36", "0.44 (1)"]
    assert lines[3] == ["b", "1", "0", "1", "0", "0", "0", "1", "-", "-"]
    assert lines[4][:8] == ["all", "4", "3", "3", "2", "0", "1", "1"]
    words = listed(pairs, "abcrown")
    assert words[0].startswith("only abcrown: b m.onnx 4.vnnlib")
    assert words[1].startswith("DISAGREE: a n.onnx 2.vnnlib")


def test_results_are_read_and_drawn(tmp_path: Path) -> None:
    with open(tmp_path / "results.csv", "w", newline="") as stream:
        names = [field.name for field in dataclasses.fields(Row)]
        writer = csv.DictWriter(stream, fieldnames=names)
        writer.writeheader()
        writer.writerows(row.cells() for row in ours())
    assert read_ours(tmp_path) == ours()
    pairs = joined(read_ours(tmp_path), peers(), "abcrown", StartUp(0.5, 2.0))
    plot(pairs, "abcrown", tmp_path / "cactus.svg")
    assert (tmp_path / "cactus.svg").stat().st_size > 5000
