"""Results are kept, an interrupted run goes on, thresholds give the exit code."""

from __future__ import annotations

import json
import re
from fractions import Fraction

import numpy as np
import pytest

import farkas
from tests.verifier.certify_files import folder_with, part, run
from verifier.certify import plots, questions
from verifier.certify.config import load_config
from verifier.certify.report import as_html
from verifier.certify.run import certify
from verifier.certify.section import (
    PROVED,
    REFUTED,
    UNDECIDED,
    Record,
    Task,
    above,
    at_least,
    at_most,
    below,
)
from verifier.certify.store import Store
from verifier.progress import Progress
from verifier.verdict import Verdict

MAP = '[faults]\nmodel = "bit_flips"\nformat = "int8"\n[faults.map]\n'


def many(tmp_path, extra=""):
    """A map of 20 samples, in three tasks."""
    return folder_with(tmp_path, MAP + extra, count=20)


def test_a_repeated_run_does_nothing_and_says_the_same(tmp_path):
    path = many(tmp_path)
    first, second = run(path), run(path)
    assert (first.done, first.found) == (3, 0)
    assert (second.done, second.found) == (0, 3)
    assert part(first).facts == part(second).facts


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    path = many(tmp_path)
    config, store = load_config(path), Store(tmp_path / "out")
    kept = Store.save
    saved = []

    def save(self, task, record):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(task.name)
        kept(self, task, record)

    monkeypatch.setattr(Store, "save", save)
    with pytest.raises(KeyboardInterrupt):
        certify(config, store)
    monkeypatch.undo()
    again = run(path)
    assert (again.done, again.found) == (1, 2)
    (tmp_path / "b").mkdir()
    assert part(again).facts == part(run(many(tmp_path / "b"))).facts


def test_an_interruption_is_exit_code_130(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "save", interrupted)
    assert farkas.main(["certify", str(many(tmp_path)), "--out", str(tmp_path / "o")]) == 130
    assert not (tmp_path / "o/report.html").exists()


@pytest.mark.parametrize("change", ["data", "model", "faults"])
def test_what_a_result_depends_on_makes_it_anew(change, tmp_path):
    path = folder_with(tmp_path, MAP)
    run(path)
    if change == "data":
        np.savez(tmp_path / "data.npz", x=np.ones((3, 4)), y=np.zeros(3, np.int64))
    elif change == "model":
        other = folder_with(tmp_path, MAP, seed=1)
        assert other == path
    else:
        path.write_text(path.read_text().replace("int8", "int4"))
    assert run(path).done == 1


def test_other_samples_behind_are_added(tmp_path):
    path = many(tmp_path, "first = 16\n")
    assert run(path).done == 2
    path.write_text(path.read_text().replace("first = 16\n", ""))
    assert (run(path).done, run(path).found) == (1, 3)


@pytest.mark.parametrize("damage", ["json", "npz", "absent"])
def test_damaged_results_are_made_again(damage, tmp_path):
    path = folder_with(tmp_path, MAP)
    facts = part(run(path)).facts
    suffix = "json" if damage == "json" else "npz"
    (file,) = (tmp_path / "out/results").glob(f"*.{suffix}")
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes(b"PK" + file.read_bytes()[:40])
    again = run(path)
    assert again.done == 1
    assert part(again).facts == facts


def test_a_result_whose_numbers_were_changed_is_made_again(tmp_path):
    store, task = Store(tmp_path), Task("t", ("a",), lambda place: Record())
    store.save(task, Record({"n": 1, "evidence": []}))
    (file,) = (tmp_path / "results").glob("*.json")
    text = file.read_text()
    assert store.load(task).values["n"] == 1
    for old, new in (('"n": 1', '"n": 2'), ('"a"', '"b"'), ('"kind": "f', '"kind": "g')):
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))
        assert store.load(task) is None
    file.write_text(text)
    assert store.load(task).values["n"] == 1


def test_a_result_without_its_evidence_is_made_again(tmp_path):
    store, task = Store(tmp_path), Task("t", ("a",), lambda place: Record())
    place = store.place(task, Progress(enabled=False))
    (place.evidence / "p").write_text("")
    store.save(task, Record({"evidence": ["p"], "n": 1}, {"a": np.arange(3)}))
    found = store.load(task)
    assert found.values["n"] == 1
    assert found.arrays["a"].tolist() == [0, 1, 2]
    (place.evidence / "p").unlink()
    assert store.load(task) is None


def test_questions_that_an_interruption_left_are_removed(tmp_path):
    store = Store(tmp_path)
    store.evidence.mkdir()
    names = ["0" * 16, "1" * 16, "2" * 16, "own"]
    for name in names:
        (store.evidence / f"{name}.toml").write_text("")
    (store.evidence / f"{names[1]}.farkas").write_text("")
    (store.evidence / f"{names[2]}.witness.json").write_text("")
    store.tidy()
    kept = sorted(path.stem for path in store.evidence.glob("*.toml"))
    assert kept == names[1:]


def test_tasks_differ_by_what_they_depend_on():
    def task(*depends):
        return Task("t", depends, lambda place: Record()).digest

    assert task("a", "b") != task("b", "a")
    assert task("a") == task("a")


THRESHOLDS = {
    "proved": ("certified_benign = 0.1\n", 0, PROVED),
    "refuted": ("certified_benign = 1\n", 1, REFUTED),
    "none": ("", 0, "reported"),
}


@pytest.mark.parametrize("name", list(THRESHOLDS))
def test_thresholds_give_the_exit_code(name, tmp_path, capsys):
    extra, code, verdict = THRESHOLDS[name]
    path, out = folder_with(tmp_path, MAP + extra), tmp_path / "out"
    copy = tmp_path / "copy.json"
    assert farkas.main(["certify", str(path), "--out", str(out), "--json", str(copy)]) == code
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == verdict
    written = json.loads((out / "results.json").read_text())
    assert written["verdict"] == verdict
    assert json.loads(copy.read_text()) == written
    page = (out / "report.html").read_text()
    assert f'class="badge {verdict}">{verdict}' in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_quotes_what_the_file_says(tmp_path):
    path = folder_with(tmp_path, MAP)
    path.write_text('title = "<script>&"\n' + path.read_text())
    page = as_html(run(path))
    assert "<script>&" not in page
    assert page.count("&lt;script&gt;&amp;") == 2
    tags = re.findall(r"</?(table|ul|figure|h2|tr|td|li)\b", page)
    assert all(
        page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>") for tag in tags
    )


def test_plots_of_the_same_results_are_not_drawn_again(tmp_path, monkeypatch):
    path, out = many(tmp_path), tmp_path / "out"
    command = ["certify", str(path), "--out", str(out)]
    assert farkas.main(command) == 0
    first = (out / "report.html").read_text()
    monkeypatch.setattr(plots, "svg", None)
    assert farkas.main(command) == 0
    drawn = re.compile("<svg.*?</svg>|<figure>.*?</figure>", re.DOTALL)
    assert drawn.findall((out / "report.html").read_text()) == drawn.findall(first) != []
    monkeypatch.undo()
    (out / "plots.json").write_text('{"digest": "0", "plots": {"d0": "<b>"}}')
    assert farkas.main(command) == 0
    assert drawn.findall((out / "report.html").read_text()) == drawn.findall(first)


def test_an_undecided_threshold_is_exit_code_2(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(questions, "verify", lambda *given: Verdict("timeout", "out of time"))
    text = (
        '[faults]\nmodel = "weight_box"\nrelative = 3\n'
        "[faults.certificate]\nfirst = 2\ncertified = 1\n[limits]\ntimeout = 2\n"
    )
    path = folder_with(tmp_path, text)
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().out.startswith("undecided\n")
    assert not list((tmp_path / "out/evidence").glob("*.toml"))


def test_a_threshold_from_below():
    half = Fraction(1, 2)
    assert at_least("x", half, half, half).verdict == PROVED
    assert at_least("x", half, Fraction(1, 3), half).verdict == UNDECIDED
    assert at_least("x", half, Fraction(1, 3), Fraction(49, 100)).verdict == REFUTED
    assert at_least("x", half, Fraction(1, 3), Fraction(1, 3)).found == "at most 0.333334"
    assert at_least("x", half, half, half).found == "at least 0.5"


def test_a_threshold_from_above():
    assert at_most("x", Fraction(1, 2), 0.5).verdict == PROVED
    assert at_most("x", Fraction(1, 10), 0.1).verdict == UNDECIDED  # the float is above 1/10
    assert at_most("x", Fraction(1, 10), 0.2, Fraction(11, 100)).verdict == REFUTED


def test_bounds_are_shown_so_that_they_stay_true():
    for number in (0.1, 2 / 3, 1e-300, 123456789.0, 5e-324):
        assert Fraction(above(number)) >= Fraction(number) >= Fraction(below(number))
    assert above(0) == below(0) == "0"
    assert above(1) == below(1) == "1"
