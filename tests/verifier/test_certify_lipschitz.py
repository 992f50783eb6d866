"""The section ``[lipschitz]``, and the search for constants."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from specs.errors import QuestionError
from tests.partition_models import model, reciprocals
from tests.verifier.certify_files import folder_with, keys_of, part, run, write_property
from verifier.certify.config import load_config

PAGE = (Path(__file__).resolve().parents[2] / "docs/certify.md").read_text()

FOLD = """
[models]
net = "net.onnx"
[limits]
timeout = 10
[lipschitz]
norm = "linf"
leaves = 64
[[lipschitz.question]]
lower = -1
upper = [1, 1]
at_most = {}
"""


def config(tmp_path, at_most: str) -> Path:
    """``Relu(x0 + x1) - 2 Relu(-x0)``, whose constant is 4."""
    path = folder_with(tmp_path, FOLD.format(at_most))
    model(tmp_path / "net.onnx", np.array([[1.0, -1.0], [1.0, 0.0]]), np.array([[1.0], [-2.0]]))
    return path


def test_a_constant_is_proved_and_kept(tmp_path, capsys):
    outcome = run(config(tmp_path, "4.01"))
    assert outcome.verdict == "proved"
    (found,) = part(outcome).facts["questions"]
    assert found["gradient_found"] == pytest.approx(4)
    assert 4 <= Fraction(found["constant"]) < Fraction(401, 100)
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0
    assert "1 valid unsat" in capsys.readouterr().out
    assert run(config(tmp_path, "3.9")).verdict == "undecided"


def test_where_the_gradient_has_no_bound_nothing_is_proved(tmp_path, capsys, recwarn):
    path = config(tmp_path, "1000")
    more = (
        path.read_text().partition("[[lipschitz.question]]")[2].replace("lower = -1", "lower = 0.5")
    )
    path.write_text(path.read_text() + f"[[lipschitz.question]]{more}")
    reciprocals(tmp_path / "net.onnx")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().out
    assert "Lipschitz constant 1: no constant was proved" in said
    assert "undecided: Lipschitz constant 1: Lipschitz constant at most 1000" in said
    assert "proved: Lipschitz constant 2: Lipschitz constant at most 1000" in said
    assert not recwarn.list
    json.loads((tmp_path / "out/results.json").read_text(), parse_constant=pytest.fail)
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_margins_around_samples_and_regions_of_property_files(tmp_path):
    text = (
        '[limits]\ntimeout = 5\n[lipschitz]\nnorm = "l2"\nleaves = 4\n'
        "[[lipschitz.question]]\nradius = 0.01\nfirst = 2\ntarget = 1\n"
        '[[lipschitz.question]]\nproperty = "p.vnnlib"\noutput = 0\n'
    )
    write_property(tmp_path, "0.2")
    outcome = run(folder_with(tmp_path, text))
    for number in range(2):
        for found in part(outcome, number).facts["questions"]:
            assert found["gradient_found"] <= float(Fraction(found["constant"])) + 1e-12
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "asks nothing"),
        ('norm = "l3"\n[[lipschitz.question]]\nradius = 1', "'norm' must be one of"),
        ("[[lipschitz.question]]", "say one of"),
        ("[[lipschitz.question]]\nlower = 0\nupper = 1\nclip = [0, 1]", "goes with 'radius'"),
        ("[[lipschitz.question]]\nradius = 1\nat_most = -1", "at least 0"),
        ("[[lipschitz.question]]\nradius = 1\nodd = 1", "unknown key 'odd'"),
        ('[[lipschitz.question]]\nproperty = "none.vnnlib"', "none.vnnlib"),
        ("[[lipschitz.question]]\nradius = 1\noutput = 3", "c.toml:8:1: 'output' is 3"),
        ("[[lipschitz.question]]\nradius = 1\nlabel = 1\ntarget = 1", "c.toml:8:1: say 'output'"),
        ("[[lipschitz.question]]\nlower = 1\nupper = 0", "c.toml:8:1: input 0: the lower bound"),
        (
            "[[lipschitz.question]]\nradius = 1\n[[lipschitz.question]]\nlower = [0, 1]\nupper = 2",
            "c.toml:10:1: ",
        ),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[-30:],
)
def test_what_is_wrong_is_said(tmp_path, text, says):
    with pytest.raises(QuestionError, match=re.escape(says)):
        load_config(folder_with(tmp_path, f"[lipschitz]\n{text}"))


def test_a_target_that_is_every_label_asks_nothing(tmp_path):
    text = "[lipschitz]\n[[lipschitz.question]]\nradius = 1\nfirst = 1\ntarget = 0\nat_most = 0"
    path = folder_with(tmp_path, text)
    points = np.load(tmp_path / "data.npz")["x"]
    np.savez(tmp_path / "data.npz", x=points, y=np.zeros(len(points), np.int64))
    with pytest.raises(QuestionError, match="label of every sample"):
        load_config(path)


def test_the_tables_of_keys_are_the_schema(tmp_path, monkeypatch):
    path = folder_with(tmp_path, "[lipschitz]\n[[lipschitz.question]]\nradius = 1")
    known = keys_of(path, monkeypatch)
    page = PAGE.partition("## `[lipschitz]`\n")[2].partition("\n## ")[0]
    first, _, second = page.partition("Each `[[")
    for name, table in (("lipschitz", first), ("lipschitz.question", second)):
        rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == known[name]
