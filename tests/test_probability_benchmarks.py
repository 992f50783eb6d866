"""benchmarks.probability and what it is made of: sections, known probabilities, tables."""

from __future__ import annotations

import importlib
import json
import sys
from fractions import Fraction
from types import SimpleNamespace

import pytest

from benchmarks import probability, probability_coverage, probability_robustness, sections
from tests.linear_models import share_above


def run(monkeypatch, out, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--out", str(out), *more])
    return sections.main(
        "A test.", {"one": ("made.one", "One"), "two": ("made.two", "Two")}, "p.md"
    )


@pytest.fixture
def made(monkeypatch):
    calls: list[str] = []
    for name in ("one", "two"):
        section = lambda out, name=name: calls.append(name) or (f"text of {name}\n", {"n": name})  # noqa: E731
        monkeypatch.setitem(sys.modules, f"made.{name}", SimpleNamespace(section=section))
    return calls


def test_sections_are_made_once(monkeypatch, tmp_path, made, capsys):
    assert run(monkeypatch, tmp_path / "out", "--only", "two") == 0
    assert made == ["two"]
    assert run(monkeypatch, tmp_path / "out") == 0
    assert made == ["two", "one"]
    page = (tmp_path / "out/p.md").read_text()
    assert page.index("## One") < page.index("text of one") < page.index("## Two")
    assert json.loads((tmp_path / "out/two.json").read_text()) == {"n": "two"}
    assert run(monkeypatch, tmp_path / "out", "--only", "one", "--again") == 0
    assert made == ["two", "one", "one"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "out", "--only", "three")
    assert "no section 'three'; there are one, two" in capsys.readouterr().err


def test_the_sections_are_there():
    for module, title in probability.SECTIONS.values():
        assert callable(importlib.import_module(module).section)
        assert title


@pytest.mark.parametrize("margin", probability_coverage.MARGINS)
def test_probabilities_that_are_known(margin):
    radius = probability_coverage.RADIUS
    weights = [Fraction(w) * radius for w in probability_coverage.WEIGHTS]
    assert probability_coverage.truth(margin) == share_above(weights, -Fraction(margin))
    assert 0 < probability_coverage.truth(margin) < 1


def test_probabilities_of_what_cannot_be_overcome():
    assert probability_coverage.truth(0.875) == 1
    assert probability_coverage.truth(0.0) == Fraction(1, 2)
    assert probability_coverage.truth(-0.875) == 0


def test_figures_outside_of_intervals_are_counted():
    few = [{"model": "a", "counted": {"0.1": 5, "0.2": 7}}]
    early = [
        {"model": "a", "radius": "0.1", "at least": 5, "at most": 6},
        {"model": "a", "radius": "0.2", "at least": 5, "at most": 6},
    ]
    assert probability_robustness._outside(few, early) == 1
    assert probability_robustness._percent([0.5, 1.0]) == "50-100"
