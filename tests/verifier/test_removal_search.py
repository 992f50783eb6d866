"""The search for the least change of a last layer: exact, and its evidence checks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import removal_models as models

import farkas
from proofs.format import read_evidence, write_mark
from proofs.watermarks.check import check_mark
from proofs.watermarks.evidence import MarkEvidence
from proofs.watermarks.last_layer import measured, samples_of, stated
from proofs.watermarks.removal import Removal, refuted
from specs.errors import InputError
from verifier.watermarks.removal import SLACK, exact_removal, least_removal, second_best
from verifier.watermarks.removal_question import Removing, answered, fails, holds, least_change


@pytest.fixture
def folder(tmp_path):
    models.classifier(tmp_path / "net.onnx", 3)
    models.make_samples(tmp_path, 4)
    return tmp_path


def verdict(asked, made):
    return check_mark(asked, made)[0].verdict


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("lost", [1, 2, 3])
def test_the_optimum_is_that_of_all_choices(folder, norm, lost):
    for seed in range(3):
        models.make_samples(folder, 3, seed)
        samples = stated(models.question(folder, 1).claim).samples
        exact = exact_removal(samples, norm, lost)
        found = least_removal(samples, norm, lost)
        assert found.closed
        assert found.moved.radius == pytest.approx(exact.radius, rel=1e-6)
        assert exact.radius * (1 - 1e-5) < found.radius < exact.radius
        above = Removal(samples, norm, Fraction(exact.radius * (1 + 1e-6)), lost)
        assert refuted(above, found.tree) is not None
        assert second_best(samples, norm).radius >= exact_removal(samples, norm, 3).radius - 1e-9


def test_one_trigger_has_the_radius_of_its_nearest_class(folder):
    points = np.load(folder / "triggers.npz")["points"][:1]
    read, logits = models.hidden(folder / "net.onnx", points)
    best, second = np.sort(logits[0])[::-1][:2]
    samples = stated(models.question(folder, 1).claim).samples
    one = replace(
        samples,
        **{k: getattr(samples, k)[:1] for k in ("hidden", "blur", "low", "high")},
        labels=samples.labels[:1],
        trigger=(True,),
    )
    found = least_removal(one, "linf", 1)
    assert float(found.radius) == pytest.approx((best - second) / (2 * read.sum()), rel=1e-5)


def test_a_question_is_answered_either_way(folder):
    found = least_change(models.question(folder, 1).claim)
    below = models.question(folder, f"{float(found.radius) * 0.99:.12f}")
    above = models.question(folder, f"{float(found.radius) * 1.01:.12f}")
    held, failed = answered(below), answered(above)
    assert verdict(below, held) == "valid unsat"
    assert verdict(above, failed) == "valid sat"
    assert verdict(above, holds(above, found.tree)) == "invalid"
    assert fails(below, found.moved) is None
    swapped = MarkEvidence(below.digest, "sat", failed.arrays)
    assert check_mark(below, swapped)[0].reason.startswith("its linf norm")
    assert verdict(below, MarkEvidence(below.digest, "unsat", failed.arrays)) == "invalid"


def test_the_bias_may_move_only_where_the_question_says_so(folder):
    plain, moving = models.question(folder, 1), models.question(folder, 1, "bias = true")
    least = [least_change(asked.claim) for asked in (plain, moving)]
    assert least[1].moved.radius < least[0].moved.radius
    failed = fails(moving, least[1].moved)
    assert verdict(moving, failed) == "valid sat"
    assert verdict(plain, MarkEvidence(plain.digest, "sat", failed.arrays)) == "invalid"


def test_other_samples_that_keep_their_labels_cost_more(folder):
    models.make_samples(folder, 5, 7, "others.npz")
    alone = least_change(models.question(folder, 1).claim)
    both = models.question(folder, 1, 'others = "others.npz"')
    joint = least_change(both.claim)
    assert joint.closed
    assert joint.radius > alone.radius
    some = least_change(models.question(folder, 1, 'others = "others.npz"\nkeep = 3').claim)
    assert alone.radius * (1 - SLACK) <= some.radius <= joint.radius
    assert some.moved.radius >= some.radius
    assert refuted(replace(stated(both.claim), radius=joint.radius), joint.tree) is None
    without = replace(stated(both.claim), radius=joint.radius, kept=0)
    assert refuted(without, joint.tree) is not None


def test_evidence_is_checked_from_files(folder, capsys):
    found = least_change(models.question(folder, 1).claim)
    stated_ = Removing("net.onnx", "triggers.npz").text(found.radius)
    (folder / "question.toml").write_text(stated_)
    asked = models.load_mark_question(folder / "question.toml")
    assert asked.claim.radius == found.radius
    write_mark(folder / "question.farkas", holds(asked, found.tree))
    files = [str(folder / "question.toml"), str(folder / "question.farkas")]
    assert farkas.main(["check", *files]) == 0
    assert capsys.readouterr().out.startswith("valid unsat\n")
    assert farkas.main(["show", *files]) == 0
    assert "takes the label from 4 or more of the 4 triggers" in capsys.readouterr().out
    made = read_evidence(folder / "question.farkas")
    rng = np.random.default_rng(0)
    for _ in range(20):  # tampered with: another number in one place
        name = ("target", "value", "row", "first")[int(rng.integers(4))]
        array = made.arrays[name].copy()
        array[int(rng.integers(array.size))] += int(rng.integers(1, 1 << 20))
        other = MarkEvidence(asked.digest, "unsat", {**made.arrays, name: array})
        if verdict(asked, other) == "valid unsat":  # where it made no difference to the truth
            assert name in ("target", "value", "row")


def test_the_digest_covers_samples_and_keys(folder):
    base = models.question(folder, 1).digest
    assert models.question(folder, 2).digest != base
    assert models.question(folder, 1, "bias = true").digest != base
    assert models.question(folder, 1, "removed = 2").digest != base
    models.make_samples(folder, 4, 9)
    assert models.question(folder, 1).digest != base


WRONG = {
    "removed": ("removed = 5", "from 1 to 4"),
    "norm": ('norm = "l3"', "use linf, l2, l1"),
    "radius": ("removed = 4\n[claim.x]", "unknown key 'x'"),
    "others": ('others = "no.npz"', "there is no such file"),
    "keep": ("keep = 1", "goes with 'others'"),
    "tensors": ('tensors = ["w0"]', "its weights are not one initializer"),
    "bad tensor": ("tensors = [1]", "a list of strings"),
}


@pytest.mark.parametrize(("more", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_in_a_question_is_said(folder, more, message):
    with pytest.raises(InputError, match=message):
        models.question(folder, 1, more)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"scale": 2.0}, "is scaled or shifted"), ({"twice": True}, "is no dense layer")],
    ids=["scaled", "sum"],
)
def test_last_layers_that_are_no_plain_matrix_are_refused(folder, changes, message):
    models.classifier(folder / "net.onnx", 3, **changes)
    with pytest.raises(InputError, match=message):
        models.question(folder, 1)


SAMPLES = {
    "size": (np.zeros((2, 4)), np.zeros(2, int), "samples of 4 entries"),
    "label": (np.zeros((2, 3)), np.array([0, 3]), "there are 3 classes"),
    "negative": (np.zeros((2, 3)), np.array([0, -1]), "no class"),
    "nan": (np.full((2, 3), np.nan), np.zeros(2, int), "not finite"),
    "labels": (np.zeros((2, 3)), np.zeros(3, int), "one for each sample"),
    "floats": (np.zeros((2, 3)), np.zeros(2), "whole numbers"),
    "none": (np.zeros((0, 3)), np.zeros(0, int), "one for each sample"),
}


@pytest.mark.parametrize(("points", "labels", "message"), SAMPLES.values(), ids=SAMPLES)
def test_samples_that_do_not_fit_are_refused(folder, points, labels, message):
    np.savez(folder / "triggers.npz", points=points, labels=labels)
    with pytest.raises(InputError, match=message):
        models.question(folder, 1)
    (folder / "triggers.npz").write_text("no archive")
    with pytest.raises(InputError, match="npz"):
        models.question(folder, 1)


def test_a_last_layer_without_bias_moves_alone(folder):
    models.classifier(folder / "net.onnx", 3, bias=False)
    with pytest.raises(InputError, match="has no bias"):
        models.question(folder, 1, "bias = true")
    claim = models.question(folder, 1).claim
    made = measured(claim.layer, samples_of(claim), False)
    logits = np.asarray(made.hidden.astype(float) / 2.0**96) @ claim.layer.weights.T
    apart = logits[np.arange(4), claim.triggers.labels][:, None] - logits
    np.testing.assert_allclose(made.low.astype(float) / 2.0**96, apart, atol=1e-9)
