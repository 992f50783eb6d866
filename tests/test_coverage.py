"""The coverage benchmark sees what is refused and what differs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from specs.errors import ModelError
from specs.onnx_reader import read_model
from tests.networks import evaluate, model_bytes

BOX = """
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real)
(assert (>= X_0 5.0)) (assert (<= X_0 6.0))
(assert (>= X_1 -3.0)) (assert (<= X_1 -2.5))
(assert (>= Y_0 1.0))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "good.onnx").write_bytes(model_bytes("Tanh", [(1, 2)]))
    (tmp_path / "p.vnnlib").write_text(BOX)
    (tmp_path / "instances.csv").write_text("onnx/good.onnx,p.vnnlib,10\n")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["coverage", str(folder), *options])
    return coverage.main()


def test_a_good_folder_passes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, folder) == 0
    printed = capsys.readouterr().out
    assert "| onnx/good.onnx | tanh 1 | 2 | 0 |" in printed
    assert "| boxes |" in printed
    assert "| the same |" in printed
    assert printed.strip().endswith("refused: none")


def test_what_is_refused_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "onnx" / "bad.onnx").write_bytes(model_bytes("Det", [(2, 2)]))
    assert run(monkeypatch, folder) == 1
    assert "refused: onnx/bad.onnx" in capsys.readouterr().out
    assert run(monkeypatch, folder, "--only", "good") == 0


def test_what_differs_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage, "evaluate", lambda network, x: evaluate(network, x) + 1e-6)
    assert run(monkeypatch, folder) == 1
    printed = capsys.readouterr().out
    assert "| DIFFERS |" in printed
    assert "differ: onnx/good.onnx" in printed


def test_without_a_reference_float32_decides(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(*_: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr(coverage, "reference_outputs", lacks)
    assert run(monkeypatch, folder) == 0
    assert "| the same in float32 |" in capsys.readouterr().out
    monkeypatch.setattr(coverage, "onnxruntime_outputs", lacks)
    assert run(monkeypatch, folder) == 1
    assert "| no runtime |" in capsys.readouterr().out


def test_inputs_lie_in_the_box(folder: Path) -> None:
    network, _ = read_model(folder / "onnx" / "good.onnx")
    x = coverage.inputs(network, [folder / "p.vnnlib"], 20)
    assert x is not None
    assert np.all((x >= [5.0, -3.0]) & (x <= [6.0, -2.5]))
    assert coverage.inputs(network, [], 20) is None
    assert coverage.inputs(network, [folder / "none.vnnlib"], 20) is None


def test_an_empty_folder_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, tmp_path) == 1


def test_a_damaged_list_leaves_unit_boxes(folder: Path) -> None:
    (folder / "instances.csv").write_text("a\n")
    assert coverage.properties(folder) == {}


def test_an_unreadable_model_is_an_error(folder: Path) -> None:
    (folder / "onnx" / "text.onnx").write_text("hello")
    with pytest.raises(ModelError):
        coverage.compared("text", folder / "onnx" / "text.onnx", [], 2)
