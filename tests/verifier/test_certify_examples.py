"""The bundled gate: what it asks, and the weakened model that it stops."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import farkas
from verifier.certify.config import SECTIONS, load_config

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def script():
    spec = importlib.util.spec_from_file_location("make_weak", EXAMPLES / "make_weak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_ten_questions_of_every_section_that_needs_no_owner():
    answers = load_config(EXAMPLES / "farkas.toml").answers
    assert sum(map(len, answers.values())) >= 10
    others = {"watermark", "probability", "lipschitz", "probabilistic", "smoothing"}
    assert set(answers) >= set(SECTIONS) - others


def test_the_weakened_model_is_what_its_script_makes(tmp_path):
    script().main(tmp_path)
    for name in ("digits_weak.onnx", "farkas_weak.toml"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


SHORT = """[models]
net = "MODEL"
[data]
file = "digits.npz"
points = "images"
labels = "labels"
scale = 16
first = 20
[robustness]
radius = "2/255"
certified_accuracy = 0.9
"""


def test_the_gate_lets_the_model_pass_and_stops_the_weakened_one(tmp_path):
    for name in ("digits.onnx", "digits_weak.onnx", "digits.npz"):
        shutil.copy(EXAMPLES / name, tmp_path)
    codes = []
    for model in ("digits.onnx", "digits_weak.onnx"):
        (tmp_path / "gate.toml").write_text(SHORT.replace("MODEL", model))
        out = tmp_path / "out"
        codes.append(farkas.main(["certify", str(tmp_path / "gate.toml"), "--out", str(out)]))
    assert codes == [0, 1]
    found = json.loads((out / "results.json").read_text())
    assert found["verdict"] == "refuted"
    assert farkas.main(["check", str(out / "evidence")]) == 0
