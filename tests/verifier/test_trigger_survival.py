"""Triggers under changes of all layers: what is proved holds, what is broken is."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import removal_models as models
from hypothesis import given, settings
from hypothesis import strategies as st

import farkas
from proofs.evaluate import evaluate
from specs.errors import QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.models import Pruning, followed
from specs.faults.placed import place_model
from specs.onnx_reader import read_model
from specs.watermarks.samples import labelled, read_samples
from verifier.certify.section import Place
from verifier.progress import Progress
from verifier.watermarks.sanity import apart_text, reference_label, robust_around
from verifier.watermarks.survival import (
    Changes,
    Settings,
    Span,
    Trigger,
    answers,
    curve,
    largest_count,
    largest_size,
    spans,
    surviving,
)

PRUNED = Changes({"model": "pruning"}, "k")
FIRST = Changes({"model": "pruning", "tensors": ["w0"]}, "k")
BOX = Changes({"model": "weight_box"}, "absolute")
SURE = (9, 17, 34, 12, 0)
"""Samples, some of large margins."""

QUICK = Settings(seconds=1.0, digits=1)


@pytest.fixture
def folder(tmp_path):
    models.classifier(tmp_path / "net.onnx", 3)
    models.make_samples(tmp_path, 3)
    return tmp_path


def file_of(folder):
    return read_model(folder / "net.onnx")[1]


def trigger(folder, number, changes):
    placed = place_model(file_of(folder), *followed(changes.model(Fraction(1))))
    held = read_samples(folder / "triggers.npz")
    return Trigger(placed, held.points[number].tolist(), int(held.labels[number]), changes, QUICK)


def lost(network, point, label):
    values = [centre for centre, _ in evaluate(network, point)]
    return any(v >= values[label] for k, v in enumerate(values) if k != label)


def test_pruning_against_all_ways_to_prune(folder):
    outcomes = set()
    models.make_samples(folder, 40)
    for number in SURE:
        one = trigger(folder, number, FIRST)
        for k in (1, 2):
            query, faults = one.query(Fraction(k))
            assert isinstance(faults.model, Pruning)
            sites = [(n, e) for n in faults.parameters for e in range(faults.values(n).size)]
            case = query.property.cases[0]
            label = int(read_samples(folder / "triggers.npz").labels[number])
            breakable = any(
                lost(
                    faulted_network(faults, [WordFault(*s, (), Fraction(0)) for s in chosen]),
                    case.lower,
                    label,
                )
                for chosen in itertools.combinations(sites, k)
            )
            proved, broken = one.proved(Fraction(k)), one.broken(Fraction(k))
            assert not (proved and breakable)
            assert not (broken and not breakable)
            outcomes.add((proved, broken))
    assert (True, False) in outcomes
    assert (False, True) in outcomes


def test_boxes_are_certified_up_to_what_breaks_them(folder):
    found = spans(
        file_of(folder), read_samples(folder / "triggers.npz"), BOX, Fraction(1, 100), QUICK
    )
    for span in found:
        assert span.broken is not None
        assert 0 < span.certified < span.broken
    steps = curve(found)
    assert steps[0].certified == 3
    assert steps[-1].certified == 0
    assert steps[-1].broken == 3


def test_every_trigger_s_answer_has_evidence(folder, capsys):
    held, file = read_samples(folder / "triggers.npz"), file_of(folder)
    (folder / "evidence").mkdir()
    place = Place(folder / "evidence", folder, Progress(enabled=False))
    least = min(span.certified for span in spans(file, held, BOX, Fraction(1, 100), QUICK))
    asked = answers(place, file, held, BOX, least, 20.0)
    assert surviving(asked) == 3
    wide = answers(place, file, held, BOX, Fraction(10), 20.0)
    assert {one.answer for one in wide} == {"sat"}
    assert surviving(wide) == 0
    assert farkas.main(["check", str(folder / "evidence")]) in (0, 1)
    out = capsys.readouterr().out
    assert out.count("valid unsat") >= 3
    assert "invalid" not in out


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 30), st.integers(1, 20))
def test_the_largest_count_is_found(limit, start, most):
    asked = []

    def holds(k):
        asked.append(k)
        return k <= limit

    assert largest_count(holds, start, most) == min(limit, most)
    assert all(1 <= k <= most for k in asked)
    assert len(set(asked)) == len(asked)


@settings(max_examples=60, deadline=None)
@given(
    st.fractions(Fraction(1, 10**8), Fraction(2)),
    st.sampled_from([Fraction(1, 10**5), Fraction(1, 10), Fraction(1)]),
    st.integers(1, 3),
)
def test_the_largest_size_has_few_digits(limit, start, digits):
    tuned = Settings(digits=digits)
    found = largest_size(lambda size: size <= limit, start, tuned)
    assert found <= limit
    assert found == 1 or found >= limit * (1 - Fraction(2, 10 ** (digits - 1)) * Fraction(1, 2))
    assert largest_size(lambda size: False, start, tuned) == 0
    assert largest_size(lambda size: True, start, tuned) == 1


def test_the_curve_counts_both_ways():
    found = [
        Span(Fraction(1), Fraction(3)),
        Span(Fraction(2), None),
        Span(Fraction(0), Fraction(2)),
    ]
    assert [(s.size, s.certified, s.broken) for s in curve(found)] == [
        (0, 3, 0),
        (1, 2, 0),
        (2, 1, 1),
        (3, 0, 2),
    ]


@pytest.mark.parametrize(
    ("table", "size"),
    [({"model": "pruning"}, "bits"), ({"model": "pruning", "k": 1}, "k")],
    ids=["unknown", "stated"],
)
def test_sizes_that_are_none_are_refused(table, size):
    with pytest.raises(QuestionError, match="no size"):
        Changes(table, size)


def test_a_reference_model_is_asked_around_triggers(folder):
    network, file = read_model(folder / "net.onnx")
    held = read_samples(folder / "triggers.npz")
    (folder / "evidence").mkdir()
    place = Place(folder / "evidence", folder, Progress(enabled=False))
    near = robust_around(place, file, network, held, Fraction(1, 1000), 20.0)
    assert [sane.label for sane in near] == held.labels.tolist()
    assert {sane.answered.answer for sane in near} == {"unsat"}
    far = robust_around(place, file, network, held, Fraction(5), 20.0)
    assert {sane.answered.answer for sane in far} == {"sat"}


def test_a_tie_is_no_label(folder):
    network, _ = read_model(folder / "net.onnx")
    values = evaluate(network, [Fraction(0)] * 3)
    assert reference_label(network, [Fraction(0)] * 3) == int(np.argmax([v for v, _ in values]))
    flat = models.classifier(folder / "flat.onnx", 3, zero=True)
    with pytest.raises(QuestionError, match="no certain label"):
        reference_label(read_model(flat)[0], [Fraction(0)] * 3)


def apart(folder, radius):
    (folder / "apart.toml").write_text(
        apart_text("net.onnx", "triggers.npz", "honest.npz", Fraction(radius))
    )
    return models.load_mark_question(folder / "apart.toml")


def test_distances_to_honest_samples_are_exact(folder):
    from proofs.watermarks.check import check_mark
    from proofs.watermarks.evidence import MarkEvidence

    points = read_samples(folder / "triggers.npz").points
    near = points[:1] + np.array([0.5, 0.25, -0.125])
    honest = np.concatenate([points + 3.0, near])
    np.savez(folder / "honest.npz", points=honest, labels=np.zeros(len(honest), int))
    for radius, holds in (("0.4999999999", True), ("0.5", False), ("2", False)):
        asked = apart(folder, radius)
        verdicts = [
            check_mark(asked, MarkEvidence(asked.digest, claims))[0].verdict
            for claims in ("unsat", "sat")
        ]
        assert verdicts == (["valid unsat", "invalid"] if holds else ["invalid", "valid sat"])
    extra = MarkEvidence(asked.digest, "sat", {"hint": np.zeros(1)})
    assert check_mark(asked, extra)[0].verdict == "invalid"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_nearest_sample_is_that_of_all(data):
    from proofs.watermarks.claims.apart import nearest

    number = st.floats(-4, 4) | st.sampled_from([0.0, 5e-324, 1e300, -1e300, 1 + 2.0**-52, 1.0])
    size = data.draw(st.integers(1, 3))
    rows = st.lists(number, min_size=size, max_size=size)
    point = np.array(data.draw(rows))
    others = np.array(data.draw(st.lists(rows, min_size=1, max_size=5)))
    found, _ = nearest(point, others)
    exact = min(
        max(abs(Fraction(a) - Fraction(b)) for a, b in zip(point.tolist(), row, strict=True))
        for row in others.tolist()
    )
    assert found == exact


def test_samples_of_another_size_have_no_distance(folder):
    np.savez(folder / "honest.npz", points=np.zeros((2, 4)), labels=np.zeros(2, int))
    with pytest.raises(QuestionError, match="samples of 4 entries, and triggers of 3"):
        apart(folder, "0.5")
    (folder / "apart.toml").write_text(
        '[models]\nnet = "net.onnx"\n[claim]\nkind = "apart"\nradius = 1\nsamples = "x"\n'
    )
    with pytest.raises(QuestionError, match="needs 'others'"):
        models.load_mark_question(folder / "apart.toml")


def test_samples_are_kept_as_they_are():
    made = labelled(np.array([[0.1, 2]]), np.array([1]), "here")
    assert made.points.tolist() == [[0.1, 2.0]]
    assert made.text != labelled(np.array([[0.1, 2]]), np.array([0]), "here").text
    with pytest.raises(QuestionError, match="too large"):  # float64 would round it
        labelled(np.array([[2**53 + 1]]), np.array([1]), "here")
