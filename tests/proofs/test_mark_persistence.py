"""Rules about changed weights: what they accept no change contradicts, whatever the hints."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.watermarks.definite import exceeding
from proofs.watermarks.persistence import Corners, Ellipsoid, forms_at, proved, refuted
from specs.errors import EvidenceError, QuestionError
from specs.faults.budget import worst
from specs.faults.formats import FLOAT16, IntegerFormat
from specs.watermarks.changes import Ball, Flips, Pruned, best_flips, rounded_to_steps
from specs.watermarks.rows import Demand, Rows, lost, rows_of

NONE = np.zeros(0)


def system(rng, bits=4, size=5):
    rows = rows_of(rng.integers(-9, 10, size=(bits, size)).astype(np.float64))
    return rows, np.round(rng.normal(size=size) * 16) / 16


def committed(rows, weights, rng, wrong=0.1):
    values = np.array([float(x) for x in forms_at(rows, weights)])
    return (values > 0) ^ (rng.random(values.size) < wrong)


def some_hints(rng, rows, weights):
    """Sometimes sensible, sometimes not."""
    bits = rows.bits
    scale = 10.0 ** rng.uniform(-2, 3)
    inverse = [NONE, rng.uniform(0.01, 3.0, weights.size)]
    ellipsoid = Ellipsoid(
        scale * rng.uniform(0.5, 2.0, bits),
        rng.normal(size=bits) * rng.choice([0.0, 0.01, 0.1]),
        inverse[rng.integers(2)],
        [NONE, rng.normal(size=bits) * 0.05][rng.integers(2)],
    )
    corners = Corners(
        rng.uniform(0.0, 1.0, bits) / scale, rng.normal(size=bits) * rng.choice([0.0, 0.1]) / scale
    )
    return ellipsoid, corners, rng.uniform(0.0, 1.0, bits) ** rng.integers(1, 4) * scale


def changes_of(kind, rng, weights):
    """A set, and changes of it: its corners above all."""
    size = weights.size
    if kind in ("linf", "l2", "l1"):
        radius = Fraction(int(rng.integers(1, 200)), 64)
        made = []
        for _ in range(60):
            d = rng.normal(size=size) * (rng.random(size) < rng.choice([0.3, 1.0]))
            length = {
                "linf": np.abs(d).max(),
                "l2": np.linalg.norm(d),
                "l1": np.abs(d).sum(),
            }[kind]
            if kind == "linf":
                d, length = np.sign(d), 1.0
            if length:
                made.append(d * float(radius) / length * (1 - 2**-40))
        return Ball(kind, radius), made
    if kind == "pruned":
        count = int(rng.integers(0, size + 1))
        made = []
        for _ in range(60):
            at = rng.permutation(size)[: rng.integers(0, count + 1)]
            d = np.zeros(size)
            d[at] = -weights[at]
            made.append(d)
        return Pruned(count), made
    count = int(rng.integers(1, 4))
    format = IntegerFormat(6, (0.0625,))
    words = Flips(count, format, np.zeros(size, np.int64))
    stored, made = words.stored(weights), []
    for _ in range(60):
        now = stored.copy()
        for _ in range(count):
            now[rng.integers(size)] ^= np.uint32(1 << rng.integers(6))
        made.append(format.decode(now, np.zeros(size, np.int64))[0] - weights)
    return words, made


SETS = ("linf", "l2", "l1", "pruned", "flips")


@pytest.mark.parametrize("kind", SETS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_change_of_the_set_does_what_is_shown_impossible(kind, seed):
    rng = np.random.default_rng(seed)
    rows, weights = system(rng)
    weights = np.clip(weights, -1.875, 1.875)
    demands = [lost(rows, committed(rows, weights, rng), int(rng.integers(1, 5)))]
    if rng.random() < 0.3:
        second, _ = system(rng)
        demands.append(Demand(second, rng.random(4) < 0.5, int(rng.integers(1, 5))))
    changes, made = changes_of(kind, rng, weights)
    ellipsoid, corners, prices = some_hints(rng, rows, weights)
    if len(demands) == 2:
        widths, centre = np.tile(ellipsoid.widths, 2), np.tile(ellipsoid.centre, 2)
        ellipsoid = Ellipsoid(widths, centre, NONE, NONE)
        corners = Corners(np.tile(corners.weights, 2), np.tile(corners.slopes, 2))
        prices = np.tile(prices, 2)
    shown = proved(demands, [changes], weights, ellipsoid, corners, prices).holds
    for change in made:
        assert not (shown and refuted(demands, [changes], weights, change).holds)


def exact_case():
    """Forms 2 a + b and b at (1, 1): margins 3 and 1; both bits are 1 and at least 1 must stay."""
    rows = rows_of([[2.0, 1.0], [0.0, 1.0]])
    return lost(rows, np.array([True, True]), 1), np.array([1.0, 1.0])


def test_a_change_is_tried_exactly():
    demand, weights = exact_case()
    # Both bits are lost at (0, 0), where no form is positive, and not a little before.
    assert refuted([demand], [Ball("linf", Fraction(1))], weights, np.array([-1.0, -1.0])).holds
    small = Fraction(1) - Fraction(1, 2**52)
    assert not refuted([demand], [Ball("linf", small)], weights, np.array([-1.0, -1.0])).holds
    near = np.array([-1.0, -1.0 + 2.0**-52])
    assert not refuted([demand], [Ball("linf", Fraction(1))], weights, near).holds
    assert refuted([demand], [Pruned(2)], weights, -weights).holds
    assert not refuted([demand], [Pruned(1)], weights, -weights).holds
    assert not refuted([demand], [Pruned(2)], weights, np.array([-1.0, -1.5])).holds


def test_each_bit_by_itself_is_decided_to_the_last_digit():
    demand, weights = exact_case()
    two = lost(demand.rows, np.array([True, True]), 2)  # one lost bit is one too many
    below = Ball("linf", Fraction(1) - Fraction(1, 2**40))
    assert proved([two], [below], weights).holds
    assert not proved([two], [Ball("linf", Fraction(1))], weights).holds
    assert refuted([two], [Ball("linf", Fraction(1))], weights, np.array([0.0, -1.0])).holds
    assert proved([two], [Pruned(0)], weights).holds
    assert not proved([two], [Pruned(1)], weights).holds


def test_a_zero_bit_is_kept_by_a_form_that_is_zero():
    rows = rows_of([[1.0, 0.0]])
    weights = np.array([-1.0, 0.5])
    kept = lost(rows, np.array([False]), 1)
    assert proved([kept], [Ball("linf", Fraction(1) - Fraction(1, 2**40))], weights).holds
    assert not refuted([kept], [Ball("linf", Fraction(1))], weights, np.array([1.0, 0.0])).holds
    assert refuted([kept], [Ball("linf", Fraction(2))], weights, np.array([1.5, 0.0])).holds


def test_all_bits_together_show_more_than_each_alone():
    # Two orthogonal rows, both of which must go: the change has to be as long as both.
    rows = rows_of([[1.0, 0.0], [0.0, 1.0]])
    weights, demand = np.ones(2), lost(rows, np.array([True, True]), 1)
    hints = Ellipsoid(np.full(2, 1.0), np.zeros(2), NONE, NONE)
    ball = Ball("l2", Fraction(141, 100))  # less than sqrt(2), more than each margin
    assert not proved([demand], [ball], weights).holds
    assert proved([demand], [ball], weights, hints).holds
    assert not proved([demand], [Ball("l2", Fraction(142, 100))], weights, hints).holds
    corners = Corners(np.full(2, 1.0), np.full(2, -200.0))  # nearly linear
    assert not proved([demand], [Ball("l1", Fraction(199, 100))], weights).holds
    assert proved([demand], [Ball("l1", Fraction(199, 100))], weights, None, corners).holds
    assert not proved([demand], [Ball("l1", Fraction(2))], weights, None, corners).holds
    both = np.ones(2)
    assert proved([demand], [Ball("l1", Fraction(199, 100))], weights, None, None, both).holds
    assert not proved([demand], [Ball("l1", Fraction(2))], weights, None, None, both).holds
    assert not proved([demand], [Ball("l1", Fraction(1))], weights, None, None, 0 * both).holds


def test_two_demands_are_met_together_or_not_at_all():
    # The mark is lost below 0, the second key is written above: no change does both.
    rows = rows_of([[1.0, 0.0]])
    weights = np.array([1.0, 0.0])
    gone = lost(rows, np.array([True]), 1)
    kept = Demand(rows_of([[2.0, 0.0]]), np.array([True]), 1)
    ball = Ball("l2", Fraction(50))
    assert not proved([gone], [ball], weights).holds
    hints = Ellipsoid(np.full(2, 1e3), np.array([1.0, -0.5]) * 1e-3, NONE, NONE)
    assert refuted([gone], [ball], weights, np.array([-1.0, 0.0])).holds
    assert not refuted([gone, kept], [ball], weights, np.array([-1.0, 0.0])).holds
    proved([gone, kept], [ball], weights, hints)  # whatever it says, it may not be wrong


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("widths", [np.nan, 1.0]),
        ("widths", [np.inf, 1.0]),
        ("widths", [0.0, 1.0]),
        ("widths", [-1.0, 1.0]),
        ("widths", [1.0]),
        ("widths", [1e-300, 1.0]),
        ("centre", [np.nan, 0.0]),
        ("centre", [1.0, 2.0, 3.0]),
        ("centre", [1e300, 0.0]),
        ("inverse", [1.0, -np.inf]),
        ("inverse", [1.0, 1.0, 1.0]),
        ("tilt", [np.inf, 0.0]),
        ("tilt", [1.0]),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
)
def test_hints_that_are_no_numbers_or_do_not_fit_are_refused(field, value):
    demand, weights = exact_case()
    given = {"widths": np.ones(2), "centre": np.zeros(2), "inverse": NONE, "tilt": NONE}
    hints = Ellipsoid(**{**given, field: np.array(value)})
    with pytest.raises(EvidenceError):
        proved([demand], [Ball("l2", Fraction(5))], weights, hints)


@pytest.mark.parametrize(
    ("weights", "slopes"),
    [([-1.0, 1.0], [0.0, 0.0]), ([np.nan, 1.0], [0.0, 0.0]), ([1.0, 1.0], [np.inf, 0.0]), ([], [])],
    ids=["negative", "nan", "infinite", "missing"],
)
def test_hints_for_corners_are_refused(weights, slopes):
    demand, held = exact_case()
    hints = Corners(np.array(weights), np.array(slopes))
    with pytest.raises(EvidenceError):
        proved([demand], [Ball("l1", Fraction(5))], held, None, hints)
    with pytest.raises(EvidenceError):
        proved([demand], [Ball("l1", Fraction(5))], held, None, None, np.array([*weights, *slopes]))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_raised_diagonal_exceeds_the_matrix(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 5))
    half = rng.integers(-50, 51, size=(size, size)).astype(object) * 10 ** int(rng.integers(0, 25))
    matrix = half.dot(half.T) if rng.random() < 0.7 else half + half.T
    proposal = [10 ** int(rng.integers(0, 30)) for _ in range(size)]
    found = exceeding(matrix, proposal)
    rest = np.array([[Fraction(0)] * size for _ in range(size)])
    for row in range(size):
        for column in range(size):
            rest[row, column] = Fraction(-int(matrix[row, column]))
        rest[row, row] += found[row]
    for pivot in range(size):  # symmetric elimination: no negative pivot, and none 0 with a rest
        own = rest[pivot, pivot]
        assert own >= 0
        if own == 0:
            assert not rest[pivot, pivot:].any()
            continue
        for row in range(pivot + 1, size):
            rest[row] = rest[row] - rest[pivot] * (rest[row, pivot] / own)


def test_a_good_proposal_is_hardly_raised():
    matrix = np.array([[4, 2], [2, 3]], dtype=object) * 10**9
    assert max(exceeding(matrix, [6 * 10**9, 5 * 10**9])) <= 6 * 10**9 * (1 + 1e-8)
    raised = exceeding(matrix, [1, 1])
    assert raised[0] >= 4 * 10**9


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_supports_and_energies_are_upper_bounds(data):
    seed = data.draw(st.integers(0, 2**32 - 1))
    kind = data.draw(st.sampled_from(SETS))
    rng = np.random.default_rng(seed)
    weights = np.clip(np.round(rng.normal(size=5) * 16) / 16, -1.875, 1.875)
    changes, made = changes_of(kind, rng, weights)
    forms = rng.normal(size=(3, 5)) * (rng.random((3, 5)) < 0.8)
    inverse = np.where(rng.random(5) < 0.2, np.inf, rng.uniform(0.1, 3.0, 5))
    linear = rng.normal(size=5)
    support = changes.support(forms, weights)
    energy = Fraction(changes.energy(inverse, linear, weights))
    spikes = changes.spikes(weights)
    rise, fall = rng.uniform(0.0, 2.0, (2, 5))
    gain = Fraction(changes.gain(rise, fall, weights))
    for change in made:
        steps = [Fraction(x) for x in change.tolist()]
        assert changes.contains(steps, weights)
        for form, most in zip(forms.tolist(), support.tolist(), strict=True):
            assert sum(Fraction(a) * d for a, d in zip(form, steps, strict=True)) <= Fraction(most)
        squares = sum(
            d * d / Fraction(i) for d, i in zip(steps, inverse.tolist(), strict=True) if i < np.inf
        )
        slope = sum(Fraction(x) * d for x, d in zip(linear.tolist(), steps, strict=True))
        assert squares + 2 * slope <= energy
        paid = sum(
            Fraction(x) * d if d > 0 else -Fraction(y) * d
            for x, y, d in zip(rise.tolist(), fall.tolist(), steps, strict=True)
        )
        assert paid <= gain
        if spikes is not None:
            used = sum(
                d / Fraction(top if d > 0 else low)
                for d, low, top in zip(steps, *(end.tolist() for end in spikes), strict=True)
                if d
            )
            assert used <= 1


def test_norms_are_compared_exactly():
    weights = np.array([3.0, 4.0])
    assert Ball("l2", Fraction(1), True).contains([Fraction(3), Fraction(4)], weights)
    assert not Ball("l2", Fraction(1), True).contains([Fraction(3), Fraction(4) + 1], weights)
    assert Ball("l1", Fraction(7)).contains([Fraction(-3), Fraction(4)], weights)
    assert not Ball("l1", Fraction(7)).contains([Fraction(-3), Fraction(41, 10)], weights)
    assert Ball("l2", Fraction(1), True).length(weights) >= 5.0
    assert rounded_to_steps(Fraction(1, 2)) == Ball("linf", Fraction(1, 4))


def test_sets_that_make_no_sense_are_refused():
    for made in (
        lambda: Ball("l7", Fraction(1)),
        lambda: Ball("l2", Fraction(-1)),
        lambda: Ball("l1", Fraction(1), True),
        lambda: Pruned(-1),
        lambda: Flips(0, FLOAT16, np.zeros(2, np.int64)),
        lambda: Flips(1, FLOAT16, np.zeros(2, np.int64), (16,)),
        lambda: Flips(1, FLOAT16, np.zeros(2, np.int64)).stored(np.array([0.1, 0.0])),
        lambda: Flips(1, FLOAT16, np.zeros(3, np.int64)).stored(np.zeros(2)),
        lambda: rows_of([[0.5]]),
        lambda: rows_of([[2.0**21]]),
        lambda: Rows(np.ones((1, 1)), np.array([1])),
        lambda: lost(rows_of([[1.0]]), np.array([True]), 2),
        lambda: Demand(rows_of([[1.0]]), np.array([True, True]), 1),
    ):
        with pytest.raises(QuestionError):
            made()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_flips_gain_no_more_than_is_said(seed):
    rng = np.random.default_rng(seed)
    count, words = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    steps = rng.uniform(0.0, 1.0, (count, words))
    if rng.random() < 0.5:
        steps = np.sort(steps, axis=0)[::-1]
    gains = np.cumsum(np.round(steps * 64) / 64, axis=0)
    exact = float(worst(gains[:, None, :])[0])
    said = best_flips(gains, count)
    assert said >= exact
    if np.all(np.diff(gains, 2, axis=0, prepend=0.0) <= 0.0):
        assert said <= exact * (1 + 1e-12) + 1e-200
    assert best_flips(np.full((1, 2), np.inf), 1) == np.inf


def test_flips_of_floats_move_words_as_bits_do():
    weights = np.array([1.0, -0.5])
    words = Flips(1, FLOAT16, np.zeros(2, np.int64), (15, 0))
    assert words.contains([Fraction(-2), Fraction(0)], weights)  # the sign
    assert words.contains([Fraction(1, 1024), Fraction(0)], weights)
    assert not words.contains([Fraction(-2), Fraction(1)], weights)  # two of them
    assert not words.contains([Fraction(1, 512), Fraction(0)], weights)  # another bit
    assert not words.contains([Fraction(1, 3), Fraction(0)], weights)
    assert not words.contains([Fraction(10**9), Fraction(0)], weights)


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_corners_of_pruning_hold_every_digit_of_a_weight(count):
    weights = np.random.default_rng(count).normal(size=200)
    weights[:3] = 5e-324, -5e-324, 0.0
    lowest, highest = Pruned(count).spikes(weights)
    for weight, low, high in zip(*(a.tolist() for a in (weights, lowest, highest)), strict=True):
        assert low <= 0.0 <= high
        assert Fraction(low) <= -count * Fraction(weight) <= Fraction(high)
