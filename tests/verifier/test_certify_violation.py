"""The section ``[probability]``, and the search for partitions."""

from __future__ import annotations

import itertools
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import farkas
from proofs.check import ARITHMETICS
from proofs.partitions.check import check_partition
from proofs.partitions.evidence import read_tree
from specs.errors import QuestionError
from specs.probability import Distribution
from tests.partition_models import model, question, reciprocals, unsafe_above
from tests.proofs.helpers import Net
from tests.verifier.certify_files import folder_with, keys_of, part, run, write_property
from verifier.certify.config import load_config
from verifier.probability.search import Limits, search

PAGE = (Path(__file__).resolve().parents[2] / "docs/certify.md").read_text()


def fold():
    """Unsafe where ``Relu(x0) + Relu(x1) >= 1/2``: of [-1, 1]^2 the share is 15/32."""
    net = Net(2)
    network = net.done(net.dense(net.relu(0), [[1.0, 1.0]]))
    return question(network, [-1, -1], [1, 1], unsafe_above(Fraction(1, 2)))


TRUE = Fraction(15, 32)


def interval(asked, evidence):
    found = check_partition(asked, evidence).found
    assert found is not None
    assert found.unproved == 0
    return found.interval


def test_a_search_closes_in_on_the_truth():
    asked = fold()
    found = search(asked, Limits(20.0, width=0.03, decide=False))
    low, high = interval(asked, found.evidence)
    assert found.ended == "width"
    assert low <= TRUE <= high
    assert high - low <= Fraction(31, 1000)
    assert found.state.low == pytest.approx(float(low), rel=1e-9)
    assert found.state.high == pytest.approx(float(high), rel=1e-9)
    widths = [state.high - state.low for state in found.history]
    assert widths == sorted(widths, reverse=True)
    times = [state.seconds for state in found.history]
    assert all(later > 1.05 * first for first, later in itertools.pairwise(times[:-1]))
    assert any(found.state.seconds / 2 < time < found.state.seconds / 1.1 for time in times)


def test_a_search_goes_on_from_a_partition():
    asked = fold()
    first = search(asked, Limits(20.0, leaves=60, decide=False))
    tree = read_tree(first.evidence, 2, 1)
    again = search(asked, Limits(20.0, leaves=61, decide=False), start=tree)
    assert interval(asked, again.evidence)[0] >= interval(asked, first.evidence)[0]
    further = search(asked, Limits(20.0, leaves=200, decide=False), start=tree)
    low, high = interval(asked, further.evidence)
    assert low <= TRUE <= high
    before = interval(asked, first.evidence)
    assert high - low < before[1] - before[0]


@pytest.mark.parametrize(
    ("ends", "claims"),
    [({"at_most": Fraction(7, 10)}, "unsat"), ({"at_most": Fraction(2, 5)}, "sat")],
    ids=["holds", "fails"],
)
def test_a_search_ends_when_the_claim_is_decided(ends, claims):
    from dataclasses import replace

    asked = replace(fold(), **ends)
    found = search(asked, Limits(20.0))
    assert (found.ended, found.evidence.claims) == ("claim", claims)
    for arithmetic in ARITHMETICS:
        checked = check_partition(asked, found.evidence, arithmetic=arithmetic).checked
        assert checked.verdict == f"valid {claims}"


def test_a_search_without_time_leaves_all_open():
    found = search(fold(), Limits(0.0))
    assert (found.ended, found.state.low, found.state.high) == ("time", 0.0, 1.0)
    assert found.evidence.arrays["kind"].tolist() == [3]


def test_normal_inputs():
    from dataclasses import replace
    from statistics import NormalDist

    net = Net(1)
    network = net.done(net.relu(0))
    asked = question(network, [-1], [2], unsafe_above(Fraction(1, 2)), at_most=1)
    asked = replace(asked, distribution=Distribution("normal", (Fraction(0),), (Fraction(1),)))
    found = search(asked, Limits(20.0, width=1e-4, decide=False))
    low, high = interval(asked, found.evidence)
    cdf = NormalDist().cdf
    true = (cdf(2) - cdf(0.5)) / (cdf(2) - cdf(-1))
    assert low <= Fraction(true) <= high
    assert high - low <= Fraction(11, 100000)


def test_inputs_that_are_points_are_not_split():
    net = Net(2)
    network = net.done(net.dense(net.relu(0), [[1.0, 1.0]]))
    tenth = Fraction(1, 10)
    asked = question(network, [-1, tenth], [1, tenth], unsafe_above(Fraction(1, 2)))
    found = search(asked, Limits(5.0, width=0.001, decide=False))
    assert set(found.evidence.arrays["axis"].tolist()) == {0}
    low, high = interval(asked, found.evidence)
    assert low <= Fraction(3, 10) <= high


BOX = """
[models]
net = "net.onnx"
[limits]
timeout = 20
[probability]
width = 0.02
{extra}
[[probability.question]]
title = "fold"
lower = -1
upper = [1, 1]
kind = "unsafe"
formula = "(>= Y_0 0.5)"
{thresholds}
"""


def config(tmp_path, thresholds: str = "", extra: str = "") -> Path:
    path = folder_with(tmp_path, BOX.format(thresholds=thresholds, extra=extra))
    model(tmp_path / "net.onnx", np.eye(2), np.ones((2, 1)))
    return path


def test_thresholds_are_judged_on_what_is_proved(tmp_path, capsys):
    path = config(tmp_path, "at_most = 0.7\nat_least = 0.4")
    out = tmp_path / "out"
    assert farkas.main(["certify", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("proved\n")
    assert farkas.main(["check", str(out / "evidence")]) == 0
    assert "valid unsat" in capsys.readouterr().out
    assert farkas.main(["certify", str(path), "--out", str(out)]) == 0
    assert "0 results made" in capsys.readouterr().out
    assert farkas.main(["certify", str(config(tmp_path, "at_most = 0.4")), "--out", str(out)]) == 1
    content = json.loads((out / "results.json").read_text())
    (section,) = content["sections"]["probability"]
    assert section["facts"]["questions"][0]["measured"] is None


def test_what_is_measured_is_kept_apart(tmp_path, capsys):
    path = config(tmp_path, "at_most = 0.5", "confidence = 0.99\nsamples = 300")
    text = path.read_text().replace("width = 0.02", "width = 0.3").replace("at_most = 0.5", "")
    path.write_text(text)
    outcome = run(path)
    found = part(outcome)
    (record,) = found.facts["questions"]
    proved, measured = ([float(Fraction(e)) for e in record[key]] for key in ("proved", "measured"))
    assert proved[0] <= measured[0] <= TRUE <= measured[1] <= proved[1]
    assert measured[1] - measured[0] < proved[1] - proved[0]
    assert "measured on 300 samples, with confidence 0.99" in found.lines[0]
    assert outcome.verdict == "reported"
    assert farkas.main(["check", str(path.parent / "out/evidence")]) == 0
    said = capsys.readouterr().out
    assert said.count("valid unsat") == 3  # two pieces and the summary
    assert "with confidence 0.99 the claim holds" in said


@pytest.mark.parametrize(
    ("thresholds", "verdict", "code"),
    [
        ("at_most = 0.6", "supported", 0),
        ("at_most = 0.4", "contradicted", 1),
        ("at_least = 0.4", "supported", 0),
        ("at_least = 0.6", "contradicted", 1),
        ("at_most = 0.469", "undecided", 2),
        ("at_most = 0.99", "proved", 0),
        ("at_least = 0.99", "refuted", 1),
    ],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_samples_judge_what_the_proof_leaves_open(tmp_path, capsys, thresholds, verdict, code):
    path = config(tmp_path, thresholds, "confidence = 0.99\nsamples = 2000\nleaves = 5")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == code
    said = capsys.readouterr().out
    assert said.startswith(f"{verdict}\n")
    content = json.loads((tmp_path / "out/results.json").read_text())
    (section,) = content["sections"]["probability"]
    (judged,) = section["thresholds"]
    assert judged["verdict"] == verdict
    assert ("measured" in judged["found"]) == (verdict not in ("proved", "refuted"))


def test_the_confidence_is_of_all_questions_together(tmp_path):
    extra = "confidence = 0.97\nsamples = 200\nleaves = 3"
    path = config(tmp_path, "", extra)
    more = path.read_text().partition("[[probability.question]]")[2]
    again = more.replace('"fold"', '"again"').replace("0.5)", "0.25)")
    third = more.replace('"fold"', '"third"').replace("0.5)", "0.75)")
    path.write_text(
        path.read_text() + "".join(f"[[probability.question]]{m}" for m in (again, third))
    )
    outcome = run(path)
    assert "measured on 200 samples, with confidence 0.97" in part(outcome).lines[0]
    claims = [p.read_text() for p in (path.parent / "out/evidence").glob("*.toml")]
    assert sum("confidence = 0.99\n" in text for text in claims) == 3
    path.write_text(path.read_text().replace(f"[[probability.question]]{third}", ""))
    run(path)
    claims = [p.read_text() for p in (path.parent / "out/evidence").glob("*.toml")]
    assert sum("confidence = 0.985\n" in text for text in claims) == 2


def test_as_many_samples_as_there_is_time_for(tmp_path):
    path = config(tmp_path, "at_most = 0.6", "confidence = 0.999")
    path.write_text(path.read_text().replace("timeout = 20", "timeout = 0.3").replace("0.02", "0"))
    outcome = run(path)
    (record,) = part(outcome).facts["questions"]
    assert outcome.verdict in ("supported", "proved")
    assert record["samples"] >= 1000
    low, high = (Fraction(end) for end in record["measured"])
    assert low <= TRUE <= high
    assert farkas.main(["check", str(path.parent / "out/evidence")]) == 0


@pytest.mark.parametrize("extra", ["", "confidence = 0.99"], ids=["proved", "sampled"])
def test_a_network_without_bounds_leaves_its_question_open(tmp_path, capsys, extra, recwarn):
    path = config(tmp_path, "at_most = 0.4", extra)
    more = path.read_text().partition("[[probability.question]]")[2].replace("-1", "1")
    more = more.replace("fold", "sound").replace("at_most = 0.4", "")
    path.write_text(path.read_text() + f"[[probability.question]]{more}")
    reciprocals(tmp_path / "net.onnx")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().out
    assert "fold: nothing was proved: an interval bound of the network exceeds 2**100" in said
    assert "undecided: fold: P(unsafe) at most 0.4" in said
    assert "sound: proved: P(unsafe) is at least 1" in said
    assert not recwarn.list
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_boxes_around_samples_and_property_files(tmp_path):
    text = (
        "[limits]\ntimeout = 20\n[probability]\nwidth = 0.05\n"
        "[[probability.question]]\nradius = 0.01\nfirst = 2\n"
        '[[probability.question]]\nproperty = "p.vnnlib"\n'
    )
    write_property(tmp_path, "0.2")
    outcome = run(folder_with(tmp_path, text))
    around, stated = (part(outcome, k).facts["questions"] for k in range(2))
    assert [len(around), len(stated)] == [2, 1]
    for record in (*around, *stated):
        low, high = map(Fraction, record["proved"])
        assert 0 <= low <= high <= 1
    assert farkas.main(["check", str(tmp_path / "out/evidence")]) == 0


def test_an_interrupted_search_goes_on(tmp_path):
    from verifier.certify.store import Store
    from verifier.progress import Progress

    path = config(tmp_path)
    (answer,) = load_config(path).answers["probability"]
    (task,) = answer.tasks()
    place = Store(tmp_path / "out").place(task, Progress(enabled=False))
    (place.scratch / "partition.farkas").write_bytes(b"PK damaged")
    first = task.run(place)
    again = task.run(place)  # from the partition that lies there
    assert again.values["proved"] == first.values["proved"]
    assert again.values["leaves"] == first.values["leaves"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "asks nothing"),
        ("[[probability.question]]", "say one of"),
        ("[[probability.question]]\nlower = 0\nupper = 1\nradius = 1", "say one of"),
        ("[[probability.question]]\nradius = 1\nlabel = 0", "goes with 'lower'"),
        ("[[probability.question]]\nlower = 0\nupper = 1\nfirst = 1", "goes with 'radius'"),
        ("[[probability.question]]\nradius = 1\nat_most = 2", "at most 1"),
        ("[[probability.question]]\nradius = 1\nat_most = 0.1\nat_least = 0.2", "is above"),
        ("[[probability.question]]\nradius = 1\nodd = 1", "unknown key 'odd'"),
        ('distribution = "normal"\n[[probability.question]]\nradius = 1', "needs 'mean'"),
        ("mean = 0\n[[probability.question]]\nradius = 1", "for distribution 'normal'"),
        ("confidence = 1\n[[probability.question]]\nradius = 1", "between 0 and 1"),
        ("samples = 9\n[[probability.question]]\nradius = 1", "goes with 'confidence'"),
        ('net = "none"\n[[probability.question]]\nradius = 1', "has no 'none'"),
        ('[[probability.question]]\nproperty = "none.vnnlib"', "none.vnnlib"),
        (
            '[[probability.question]]\nlower = 1\nupper = 0\nkind = "robust"\nlabel = 0',
            "c.toml:8:1: input 0: the lower bound 1 exceeds",
        ),
        (
            '[[probability.question]]\nlower = 0\nupper = 1\nkind = "robust"\nlabel = 7',
            "c.toml:8:1: label 7",
        ),
        (
            "[[probability.question]]\nradius = 1\n[[probability.question]]\nlower = 0\nupper = 1",
            "c.toml:10:1: ",
        ),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[-30:],
)
def test_what_is_wrong_is_said(tmp_path, text, says):
    with pytest.raises(QuestionError, match=re.escape(says)):
        load_config(folder_with(tmp_path, f"[probability]\n{text}"))


def test_a_property_file_that_is_wrong_is_named(tmp_path, capsys):
    text = '[probability]\n[[probability.question]]\nproperty = "p.vnnlib"\n'
    path = folder_with(tmp_path, text)
    (tmp_path / "p.vnnlib").write_text("(declare-const X_0 Real)\n(assert (>= X_9 0))")
    assert farkas.main(["certify", str(path), "--out", str(tmp_path / "out")]) == 3
    assert re.search(rf"c.toml:9:1: {re.escape(str(tmp_path))}/p.vnnlib:2", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_labels_that_the_model_has_not_are_said_first(tmp_path):
    path = folder_with(tmp_path, "[probability]\n[[probability.question]]\nradius = 1\n")
    with np.load(tmp_path / "data.npz") as data:
        np.savez(tmp_path / "data.npz", x=data["x"], y=np.array([0, 1, 3]))
    with pytest.raises(QuestionError, match=r"c.toml:8:1: label 3"):
        load_config(path)


def test_the_tables_of_keys_are_the_schema(tmp_path, monkeypatch):
    text = "confidence = 0.9\nsamples = 5\n[[probability.question]]\nradius = 1"
    known = keys_of(folder_with(tmp_path, f"[probability]\n{text}"), monkeypatch)
    page = PAGE.partition("## `[probability]`\n")[2].partition("\n## ")[0]
    first, _, second = page.partition("Each `[[")
    for name, table in (("probability", first), ("probability.question", second)):
        rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        listed = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
        extra = re.findall(r"`\[statement\]` \((.*?);", table)
        listed |= {key for row in extra for key in re.findall(r"`(\w+)`", row)}
        assert listed == known[name]
