"""The sections [probabilistic] and [smoothing] of configurations."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from specs.errors import InputError
from specs.numerals import numeral
from tests.faulty_models import graph_bytes, node
from tests.linear_models import linear_model
from tests.verifier.certify_files import HEAD, keys_of, part, plain, run
from verifier.certify.config import load_config
from verifier.certify.run import EXIT_CODES, WORST_FIRST
from verifier.certify.section import above, below, measured_at_least
from verifier.progress import Progress
from verifier.resumed import KeptError, or_anew
from verifier.statistics.intervals import lower_end, sample_size
from verifier.statistics.smoothing import Setting, radius_of

DOCS = Path(__file__).resolve().parents[2] / "docs"

POINTS = np.array([[0.5, 0.5], [0.25, 0.75], [0.9, 0.2], [0.5, 0.375]], np.float32)
LABELS = np.array([0, 1, 0, 1])
"""Of x0 - x1 + 0.0625 > 0, where the last is wrong: the margins are .0625, -.4375, .7625, .1875."""

ROBUST = HEAD + "[probabilistic]\nradii = [0.125]\nvalid = [0, 1]\nsamples = 600\n"
SMOOTH = HEAD + "[smoothing]\nsigma = [0.25]\nsamples = 2000\n"


def configured(tmp_path: Path, text: str) -> Path:
    (tmp_path / "net.onnx").write_bytes(linear_model([1.0, -1.0], 0.0625))
    np.savez(tmp_path / "data.npz", x=POINTS, y=LABELS)
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


# ------------------------------------------------------------------------------- [probabilistic]


def test_what_is_known_lies_in_the_intervals(tmp_path):
    text = ROBUST + "rho = [0.5, 0.2]\npopulation = true\n"
    (cell,) = plain(part(run(configured(tmp_path, text))).facts)["cells"]
    assert (cell["inputs"], cell["correct"], cell["samples"]) == (4, 3, 1800)
    assert cell["each"]["number"] == [0, 1, 2]
    # Around the first: u - v > -1/2 for u, v uniform on [-1, 1]: 1 - (3/2)^2/8.
    exact = [1 - 1.5**2 / 8, 1.0, 1.0]
    for p, (low, high) in zip(exact, cell["each"]["interval"], strict=True):
        assert low <= p <= high
    assert cell["pr"]["interval"][0] <= sum(exact) / 3 <= cell["pr"]["interval"][1]
    half, fifth = cell["prob_acc"]
    assert (half["at_least"], half["at_most"]) == (3, 3)
    assert (fifth["at_least"], fifth["at_most"]) == (2, 2)
    assert half["interval"] == [1.0, 1.0]
    assert half["population"][0] < 0.4
    assert cell["pr"]["population"][0] < sum(exact) / 3 < cell["pr"]["population"][1]
    assert cell["population_accuracy"][0] < 0.75 < cell["population_accuracy"][1]


THRESHOLDS = {
    "supported": "pr_at = { at_least = 0.8 }\n",
    "contradicted": "pr_at = { at_least = 0.99 }\n",
    "undecided": "rho = [0.28]\nprob_acc_at = { at_least = 0.9 }\n",
    "supported again": "rho = [0.5]\nprob_acc_at = { at_least = 0.9, rho = 0.5, radius = 0.125 }\n",
    "contradicted again": "rho = [0.01]\nprob_acc_at = [{ at_least = 0.1 }, { at_least = 0.9 }]\n",
    "undecided again": "population = true\npopulation_at = { at_least = 0.5, noise = 'uniform' }\n",
}


@pytest.mark.parametrize("wanted", THRESHOLDS)
def test_thresholds_are_judged_at_the_safe_end(tmp_path, capsys, wanted):
    path = configured(tmp_path, ROBUST + THRESHOLDS[wanted])
    outcome = run(path)
    verdict = wanted.partition(" ")[0]
    assert outcome.verdict == verdict
    assert all("sampled" in each.found and "confidence" in each.found for each in outcome.judged)
    code = farkas.main(["certify", str(path), "--out", str(tmp_path / "out")])
    assert code == {"supported": 0, "contradicted": 1, "undecided": 2}[verdict]
    shown = capsys.readouterr().out
    assert shown.startswith(f"{verdict}\n")
    assert "0 results made, 1 kept" in shown
    assert "sampled, not proved" in shown
    page = (tmp_path / "out/report.html").read_text()
    assert f'<li class="{verdict}">' in page
    assert '<td class="proved">' not in page


def test_a_threshold_is_about_what_it_names(tmp_path):
    text = ROBUST.replace("[0.125]", "[0.0625, 0.125]")
    text += "noise = ['uniform', 'normal']\nrho = [0.5, 0.2]\n"
    text += "prob_acc_at = { at_least = 0.1, radius = 0.125, noise = 'normal', rho = 0.2 }\n"
    (judged,) = run(configured(tmp_path, text)).judged
    assert judged.asked.startswith("net, normal, radius 0.125: ProbAcc(0.2)")


def test_nothing_that_is_sampled_is_called_proved():
    ends = (Fraction(1, 2), Fraction(3, 4))
    for asked, verdict in ((1, "contradicted"), (0.5, "supported"), (0.75, "undecided")):
        assert measured_at_least("x", Fraction(asked), ends, Fraction(9, 10)).verdict == verdict
    assert set(WORST_FIRST) | {"reported"} == set(EXIT_CODES)
    assert [EXIT_CODES[word] for word in WORST_FIRST] == [1, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("number", "text"),
    [(100, "100"), (120, "120"), (Fraction(1, 10**9), "1e-9"), (0, "0"), (99.5, "99.5")],
)
def test_numbers_are_written_as_people_do(number, text):
    assert above(number, 4) == below(number, 4) == text


def test_samples_are_as_many_as_the_claim_needs(tmp_path):
    text = HEAD + "[probabilistic]\nradii = [0.01, 0.02]\nconfidence = 0.99\n"
    (answer,) = load_config(configured(tmp_path, text)).answers["probabilistic"]
    assert answer.statements == 2 * 3
    assert answer.level == Fraction(1, 100) / 12
    level = answer.level / 4
    assert Fraction(99, 100) ** answer.plan.samples <= level
    assert Fraction(99, 100) ** (answer.plan.samples - 1) > level
    (more,) = load_config(configured(tmp_path, text + "failures = 3\n")).answers["probabilistic"]
    assert more.plan.samples > answer.plan.samples
    outcome = part(run(configured(tmp_path, text.replace("0.02", "0.015"))))
    for cell in plain(outcome.facts)["cells"]:
        assert cell["prob_acc"][0]["at_least"] == 3


def test_several_models_noises_and_sequential_sampling(tmp_path):
    path = configured(
        tmp_path,
        ROBUST.replace("[data]", 'other = "other.onnx"\n[data]')
        + "sequential = true\nnoise = ['normal', 'laplace']\nspread = 0.5\n",
    )
    (tmp_path / "other.onnx").write_bytes(linear_model([1.0, -1.0], 0.5))
    found = part(run(path))
    cells = plain(found.facts)["cells"]
    assert [(cell["net"], cell["noise"]) for cell in cells] == [
        ("net", "normal"),
        ("net", "laplace"),
        ("other", "normal"),
        ("other", "laplace"),
    ]
    assert [rows.title.partition(" noise")[0] for rows in found.tables[:2]] == ["normal", "laplace"]
    assert min(min(cell["each"]["trials"]) for cell in cells) < 600
    assert len(found.tables[2].rows) == 10
    assert found.facts["sequential"]


# ----------------------------------------------------------------------------------- [smoothing]


def test_radii_and_their_certificate(tmp_path):
    text = SMOOTH + "radii = [0, 0.25]\ncertified_at = { radius = 0.25, at_least = 0.5 }\n"
    outcome = run(configured(tmp_path, text))
    assert outcome.verdict == "supported"
    (fact,) = plain(part(outcome).facts)["sigmas"]
    distance = np.abs([0.0625, -0.4375, 0.7625, 0.1875]) / np.sqrt(2)
    assert [r is None for r in fact["radii"]][1:] == [False, False, True]
    for name in ("radii", "radii_alone"):
        assert all(r is None or r <= d for r, d in zip(fact[name], distance, strict=True))
    assert all(a >= t for t, a in zip(fact["radii"], fact["radii_alone"], strict=True) if t)
    assert [each["together"] for each in fact["certified"]] == [3, 2]
    kept = json.loads((tmp_path / "out/evidence" / fact["certificate"]).read_text())
    assert kept["kind"] == "farkas-smoothing-certificate"
    assert kept["proved"] is False
    assert any("speak of the smoothed classifier" in line for line in kept["assumed"])
    assert (kept["samples"], kept["selection"], kept["seed"]) == (2000, 100, 0)
    radii = [one["radius"] if one["class"] == one["label"] else None for one in kept["inputs"]]
    assert radii == fact["radii_alone"]
    assert all(one["abstained"] == (one["radius"] is None) for one in kept["inputs"])


def test_radii_that_hold_together_share_what_may_fail(tmp_path):
    text = SMOOTH.replace("sigma = [0.25]", "sigma = [0.25, 0.5]")
    found = part(run(configured(tmp_path, text)))
    for fact, sigma in zip(plain(found.facts)["sigmas"], (0.25, 0.5), strict=True):
        kept = json.loads((tmp_path / "out/evidence" / fact["certificate"]).read_text())["inputs"]
        right = [one["class"] == one["label"] for one in kept]
        for name, alpha in (("radii_alone", 1), ("radii", len(POINTS) * 2)):
            share = Fraction(1, 1000 * alpha)
            radii = [radius_of(one["hits"], 2000, sigma, share) for one in kept]
            assert fact[name] == [r if ok else None for r, ok in zip(radii, right, strict=True)]
        assert fact["radii"] != fact["radii_alone"]


def test_what_is_certified_at_a_radius_exceeds_it(tmp_path):
    (fact,) = plain(part(run(configured(tmp_path, SMOOTH))).facts)["sigmas"]
    largest = max(Fraction(r) for r in fact["radii"] if r is not None)
    text = SMOOTH + f"radii = [{numeral(largest * Fraction(999, 1000))}, {numeral(largest)}]\n"
    (fact,) = plain(part(run(configured(tmp_path, text))).facts)["sigmas"]
    assert [each["together"] for each in fact["certified"]] == [1, 0]


def test_a_certificate_that_is_lost_is_made_again(tmp_path):
    path = configured(tmp_path, SMOOTH)
    assert run(path).done == 1
    (file,) = (tmp_path / "out/evidence").iterdir()
    content = file.read_bytes()
    file.unlink()
    assert run(path).done == 1
    assert file.read_bytes() == content
    assert run(path).done == 0


def test_a_threshold_that_is_not_met_is_open(tmp_path):
    """A radius is a lower bound: a larger one is not excluded."""
    text = SMOOTH + "certified_at = [{ radius = 0.25, at_least = 0.9 }]\n"
    assert run(configured(tmp_path, text)).verdict == "undecided"


def test_smoothing_behind_a_denoiser(tmp_path):
    text = (SMOOTH + 'denoiser = "calm"\n').replace("[data]", 'calm = "calm.onnx"\n[data]')
    path = configured(tmp_path, text)
    (tmp_path / "calm.onnx").write_bytes(graph_bytes([node("Neg", "x", "y")], (1, 2), {}))
    (fact,) = plain(part(run(path)).facts)["sigmas"]
    assert fact["wrong"] == 2
    assert "behind a denoiser" in part(run(path)).lines[0]


# ------------------------------------------------------------------------------------ wrong files

P, S = ROBUST, SMOOTH
BARE = HEAD + "[probabilistic]\n"
WRONG = {
    "no radii": (BARE, r"\[probabilistic\] needs radii"),
    "a radius of 0": (BARE + "radii = [0]\n", r"c.toml:8:1: noise of radius 0"),
    "a radius twice": (BARE + "radii = [1, 1]\n", "c.toml:8:1: 'radii' names something twice"),
    "an unknown noise": (P + "noise = ['salt']\n", "c.toml:11:1: noise 'salt'; there are uniform"),
    "a spread of 0": (P + "spread = 0\n", "c.toml:11:1: noise of radius"),
    "a radius below rounding": (
        BARE.replace("[prob", "scale = 3\n[prob") + "radii = [1e-12]\n",
        "c.toml:9:1: no float32 number lies between",
    ),
    "samples outside what is valid": (
        P.replace("[0, 1]", "[2, 3]"),
        "c.toml:8:1: no float32 number lies between 2 and",
    ),
    "a rho of 1": (P + "rho = [1]\n", "c.toml:11:1: 'rho' must hold numbers between 0 and 1"),
    "no confidence": (P + "confidence = 0.4\n", "c.toml:11:1: 'confidence' must be at least 0.5"),
    "certainty": (P + "confidence = 1\n", "c.toml:11:1: .*less than 1"),
    "samples and failures": (P + "failures = 1\n", "c.toml:11:1: .*leave one out"),
    "no samples": (P.replace("600", "0"), "c.toml:10:1: 'samples' must be at least 1"),
    "too many samples": (P.replace("600", "9999999999"), "c.toml:10:1: 9999999999 samples"),
    "a rho that needs too many": (
        BARE + "radii = [0.1]\nrho = [1e-15]\n",
        "c.toml:9:1: .*more than 1099511627776 samples",
    ),
    "sequential without an end": (
        BARE + "radii = [0.1]\nsequential = true\n",
        "c.toml:9:1: 'sequential' needs samples",
    ),
    "a threshold of nothing": (P + "pr_at = { noise = 'uniform' }\n", "'pr_at' needs at_least"),
    "a threshold above 1": (P + "pr_at = { at_least = 2 }\n", "at most 1, not 2"),
    "a threshold elsewhere": (P + "pr_at = { at_least = 0, radius = 3 }\n", "is about no model"),
    "a threshold at another rho": (
        P + "prob_acc_at = { at_least = 0, rho = 0.3 }\n",
        "is about no model, noise, radius and rho",
    ),
    "a rho of a mean": (
        P + "pr_at = { at_least = 0, rho = 0.01 }\n",
        "c.toml:11:1: unknown key 'rho' in 'pr_at' of",
    ),
    "a population that is none": (
        P + "population_at = { at_least = 0 }\n",
        "c.toml:11:1: 'population_at' needs population = true",
    ),
    "an unknown model": (P + "nets = ['net', 'x']\n", "c.toml:11:1: .*has no 'x'; it has net"),
    "an unknown key": (P + "foo = 1\n", r"c.toml:11:1: unknown key 'foo' in \[probabilistic\]"),
    "a device that is not there": (P + "device = 'cuda'\n", "c.toml:11:1: device 'cuda'"),
    "an unknown device": (P + "device = 'tpu'\n", "c.toml:11:1: 'device' must be one of"),
    "no labels": (P.replace('labels = "y"\n', ""), "needs labels"),
    "no data": ('[models]\nnet = "net.onnx"\n[probabilistic]\nradii = [1]\n', "needs samples"),
    "labels that are too large": (P.replace('"y"', '"z"'), "c.toml:6:1: label 2 of 2 outputs"),
    "samples of another size": (P.replace('"x"', '"w"'), "c.toml:5:1: samples of 3 numbers for 2"),
    "no sigma": (HEAD + "[smoothing]\n", r"\[smoothing\] needs sigma"),
    "a sigma of 0": (HEAD + "[smoothing]\nsigma = [0]\n", "c.toml:8:1: smoothing with sigma 0"),
    "a sigma twice": (HEAD + "[smoothing]\nsigma = [1, 1]\n", "c.toml:8:1: .*twice"),
    "an alpha of 1/2": (S + "alpha = 0.5\n", "c.toml:10:1: 'alpha' must lie between 0 and 0.5"),
    "a negative radius": (S + "radii = [-1]\n", "c.toml:10:1: 'radii' must hold"),
    "half a threshold": (S + "certified_at = { radius = 1 }\n", "needs radius and at_least"),
    "a threshold at another sigma": (
        S + "certified_at = { radius = 1, at_least = 0, sigma = 3 }\n",
        "sigma 3 is not sampled",
    ),
    "a denoiser that does not fit": (
        S + "denoiser = 'net'\nnet = 'thin'\n",
        "c.toml:11:1: 'net' gives 2 numbers, and 'thin' takes 3",
    ),
    "an unknown denoiser": (S + "denoiser = 'x'\n", "c.toml:10:1: .*has no 'x'"),
    "an unknown key of smoothing": (S + "foo = 1\n", r"c.toml:10:1: unknown key 'foo'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_errors_say_where_and_nothing_is_written(tmp_path, capsys, case):
    text, message = WRONG[case]
    path = configured(tmp_path, text)
    if "'thin'" in text:
        path.write_text(text.replace("[data]", 'thin = "thin.onnx"\n[data]'))
        (tmp_path / "thin.onnx").write_bytes(linear_model([1.0, 1.0, 1.0], 0.0))
    np.savez(
        tmp_path / "data.npz", x=POINTS, y=LABELS, z=LABELS + 1, w=np.zeros((4, 3), np.float32)
    )
    with pytest.raises(InputError, match=message):
        load_config(path)
    out = tmp_path / "out"
    assert farkas.main(["certify", str(path), "--out", str(out)]) == 3
    assert not out.exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("text", [ROBUST, SMOOTH], ids=["probabilistic", "smoothing"])
def test_what_judges_counts_is_missed_before_any_is_drawn(tmp_path, monkeypatch, text):
    path = configured(tmp_path, text)
    monkeypatch.setattr("verifier.needs._missing", lambda names: [n for n in names if n == "scipy"])
    with pytest.raises(InputError, match=r"c.toml:7:1: .*needs scipy, which is not installed"):
        load_config(path)


def test_radii_may_be_quotients(tmp_path):
    text = ROBUST.replace("0.125", '"2/255"') + 'pr_at = { at_least = 0, radius = "2/255" }\n'
    text += '[smoothing]\nsigma = [0.25]\nsamples = 20\nradii = ["8/255"]\n'
    text += 'certified_at = { radius = "8/255", at_least = 0 }\n'
    answers = load_config(configured(tmp_path, text)).answers
    (robust,), (smooth,) = answers["probabilistic"], answers["smoothing"]
    assert [around.radius for around in robust.arounds] == [Fraction(2, 255)]
    assert smooth.radii == (smooth.wanted[0].radius,) == (Fraction(8, 255),)


# ------------------------------------------------------------------------------------------ docs


def test_the_bundled_example(tmp_path, capsys):
    text = (DOCS.parent / "examples/statistics.toml").read_text()
    for name in ("digits.onnx", "digits.npz"):
        shutil.copy(DOCS.parent / "examples" / name, tmp_path)
    short = text.replace("scale = 16 ", "first = 8\nscale = 16 ").replace("20000", "2000")
    (tmp_path / "statistics.toml").write_text(short)
    out = tmp_path / "out"
    code = farkas.main(["certify", str(tmp_path / "statistics.toml"), "--out", str(out)])
    assert capsys.readouterr().out.split("\n")[0] in ("supported", "undecided")
    assert code in (0, 2)
    assert list(json.loads((out / "results.json").read_text())["sections"]) == [
        "probabilistic",
        "smoothing",
    ]


def test_the_page_names_what_there_is():
    page = " ".join((DOCS / "statistics.md").read_text().split())
    names = re.findall(r"`(intervals|sequential)\.(\w+)`", page)
    assert len(names) > 5
    for module, name in names:
        assert hasattr(importlib.import_module(f"verifier.statistics.{module}"), name)
    assert f"takes {sample_size(Fraction(99, 100), Fraction(1, 1000))} samples" in page
    assert f"({sample_size(Fraction(99, 100), Fraction(1, 20))} at 95 %)" in page
    assert f"PR >= {lower_end(100, 100, Fraction(1, 1000)):.3f} at 99.9 %" in page
    assert f"{Setting(Fraction(1)).cap:.2f} sigma for 100,000 samples at 99.9 %" in page


@pytest.mark.parametrize("section", ["probabilistic", "smoothing"])
def test_the_tables_of_keys_are_the_schema(tmp_path, monkeypatch, section):
    path = configured(tmp_path, ROBUST if section == "probabilistic" else SMOOTH)
    known = keys_of(path, monkeypatch)
    page = (DOCS / "certify.md").read_text()
    text = page.partition(f"## `[{section}]`\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == known[section]


# ------------------------------------------------------------------------- damaged states of runs


@pytest.mark.parametrize("text", [ROBUST, SMOOTH], ids=["probabilistic", "smoothing"])
def test_a_damaged_state_is_put_aside_and_the_run_begun_anew(text, tmp_path, capsys):
    path = configured(tmp_path, text)
    before = plain(part(run(path)).facts)
    shutil.rmtree(tmp_path / "out/results")
    (state,) = (tmp_path / "out/scratch").rglob("counts.json")
    state.write_bytes(state.read_bytes()[:-7])
    capsys.readouterr()
    assert plain(part(run(path)).facts) == before
    told = capsys.readouterr().err
    assert str(state) in told
    assert "begun anew" in told
    assert {file.name for file in state.parent.iterdir()} == {"counts.json", "counts.json.damaged"}


def test_only_a_damaged_state_begins_a_run_anew(tmp_path):
    """What else is at fault is said; without a file there is nothing to put aside."""
    file, runs = tmp_path / "counts.json", []

    def failing(error):
        runs.append(error)
        raise error

    file.write_text("{}")
    for error, times in ((InputError("the runtime fails"), 1), (KeptError("damaged"), 2)):
        runs.clear()
        with pytest.raises(InputError, match=str(error)):
            or_anew(lambda error=error: failing(error), file, Progress(enabled=False))
        assert len(runs) == times
