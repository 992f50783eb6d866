"""Squares beside products in the kernel: planes enclose, gain, and wrong ones are noticed."""

from __future__ import annotations

from fractions import Fraction
from itertools import cycle

import numpy as np
import pytest

from proofs import products
from proofs.arithmetic import Arithmetic
from proofs.check import ARITHMETICS
from proofs.products import Squared
from tests.proofs.helpers import BOTH, clip

SIZES = (0.0, 5e-324, 1e-300, 1e-19, 1e-16, 0.3, 1.0, 7.0, 1e6, 1e25)
RATIOS = (2.0**-60, 1e-9, 0.125, 0.7, 1.0, 3.0, 1e9, 2.0**60)
HINTS = (np.nan, -3.0, 0.0, 0.3, 0.5, 1.0, 9.0)
COUNT = 30


def outward(ends: tuple[Fraction, Fraction]) -> tuple[float, float]:
    low, high = map(float, ends)
    low = low if Fraction(low) <= ends[0] else np.nextafter(low, -np.inf)
    return low, high if Fraction(high) >= ends[1] else np.nextafter(high, np.inf)


def correlated(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bounds ``(4, 2, n)`` of ``x = a u + v``, ``y = -b u + w`` and both forms; ``t (n,)``."""
    bounds, scale = np.empty((4, 2, COUNT)), np.empty(COUNT)
    for k in range(COUNT):
        a, b, *middles = (Fraction(rng.choice(SIZES) * rng.normal()) for _ in range(5))
        widths = [Fraction(rng.choice(SIZES) * rng.random()) for _ in range(3)]
        if rng.random() < 0.5:  # little noise
            widths[1:] = [width * min(1, abs(a), abs(b)) / 100 for width in widths[1:]]
        scale[k] = rng.choice(RATIOS)
        if rng.random() < 0.5 and a and b:
            scale[k] = float(min(max(abs(a / b), Fraction(RATIOS[0])), Fraction(RATIOS[-1])))
        t = Fraction(scale[k])
        for row, form in enumerate(((a, 1, 0), (-b, 0, 1), (a - t * b, 1, t), (a + t * b, 1, -t))):
            middle = sum(c * m for c, m in zip(form, middles, strict=True))
            reach = sum(abs(c) * w for c, w in zip(form, widths, strict=True))
            bounds[row, :, k] = outward((middle - reach, middle + reach))
    return bounds, scale


def samples(bounds: np.ndarray, t: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Points of a polygon: its corners, on its edges, and where a chord meets a tangent."""
    (a, b), (c, d), total, difference = [tuple(map(Fraction, row)) for row in bounds]
    cell = [(a, c), (b, c), (b, d), (a, d)]
    cuts = []
    for sign, ends in ((1, total), (-1, difference)):
        cuts += [((Fraction(1), sign * t), -ends[0]), ((Fraction(-1), -sign * t), ends[1])]
    for cut in cuts:
        cell = clip(cell, cut)
    found = list(cell)
    for k, corner in enumerate(cell):
        for part in (Fraction(1, 3), Fraction(1, 2)):
            found.append(
                tuple(p + part * (q - p) for p, q in zip(cell[k - 1], corner, strict=True))
            )
    for (e, f), ends, mirrored in ((total, difference, 1), (difference, total, -1)):
        for part in (0, Fraction(3, 10), Fraction(1, 2), 1):
            for end in ends:
                s, r = ((1 - part) * e + part * f, end)[::mirrored]
                x, y = (s + r) / 2, (s - r) / (2 * t)
                if a <= x <= b and c <= y <= d:
                    found.append((x, y))
    return found


def check_planes(numbers: Arithmetic, rng: np.random.Generator) -> None:
    bounds, scale = correlated(rng)
    left, right, *forms = ((numbers.lift_down(a), numbers.lift_up(b)) for a, b in bounds)
    weights = [rng.choice(HINTS, COUNT) for _ in range(2)]
    squared = Squared(*forms, scale)
    under, floor, over, ceiling = products.planes(numbers, left, right, *weights, squared)
    exact, tried = numbers.fraction, 0
    for k in range(COUNT):
        for x, y in samples(bounds[:, :, k], Fraction(scale[k])):
            below = exact(under[0][k]) * x + exact(under[1][k]) * y + exact(floor[k])
            above = exact(over[0][k]) * x + exact(over[1][k]) * y + exact(ceiling[k])
            assert below <= x * y <= above
            tried += 1
    assert tried > 5 * COUNT


def strongly(rng: np.random.Generator, numbers: Arithmetic, sign: float):
    """Factors ``x`` and ``y ~ sign b x``: points ``(200, n)``, and bounds of all four."""
    u = np.concatenate(
        [rng.uniform(-1, 1, (198, COUNT)), -np.ones((1, COUNT)), np.ones((1, COUNT))]
    )
    slope, scale = np.exp(rng.normal(size=(2, COUNT)))
    x = slope * (u + rng.normal(size=COUNT)) + 1e-3 * rng.random(u.shape)
    y = sign * slope / scale * (u + rng.normal(size=COUNT)) + 1e-3 / scale * rng.random(u.shape)
    values = (x, y, x + scale * y, x - scale * y)
    ends = [(numbers.lift_down(v.min(0)), numbers.lift_up(v.max(0))) for v in values]
    return x, y, ends, scale


def check_tightness(numbers: Arithmetic, rng: np.random.Generator) -> None:
    """On one side a part of what McCormick's planes leave, on the other one hardly more."""
    for sign in (-1.0, 1.0):
        x, y, (left, right, *forms), scale = strongly(rng, numbers, sign)
        gaps = []
        for squared in (None, Squared(*forms, scale)):
            under, floor, over, ceiling = products.planes(numbers, left, right, None, None, squared)
            for slopes, intercept in ((under, floor), (over, ceiling)):
                p, q = (numbers.floats_down(s) for s in slopes)
                plane = p * x + q * y + numbers.floats_down(intercept)
                gaps.append(np.abs(x * y - plane).mean(0))
        shares = gaps[2] / gaps[0], gaps[3] / gaps[1]
        good, other = shares[::-1] if sign < 0 else shares
        assert np.all(good < 0.35)
        assert np.all(other < 1.05)


def check_hints(numbers: Arithmetic, rng: np.random.Generator) -> None:
    """Over both ends of a chord a plane reaches the product, where the hint says.

    It may lie beyond outside the factors' box.
    """
    for sign in (-1.0, 1.0):
        _, _, (left, right, *forms), scale = strongly(rng, numbers, sign)
        weight = rng.choice([0.0, 0.3, 1.0], COUNT)
        planes = products.planes(numbers, left, right, weight, weight, Squared(*forms, scale))
        (p, q), intercept = planes[2:] if sign < 0 else planes[:2]
        p, q, constant = (numbers.floats_down(part) for part in (p, q, intercept))
        chord, (e, f) = forms if sign < 0 else forms[::-1]
        middle = (1 - weight) * numbers.floats_down(e) + weight * numbers.floats_down(f)
        for end in chord:
            s, r = (numbers.floats_down(end), middle)[:: 1 if sign < 0 else -1]
            x, y = (s + r) / 2, (s - r) / (2 * scale)
            reached = sign * (p * x + q * y + constant - x * y)
            assert np.all(reached >= -1e-11 - 1e-9 * np.abs(x * y))


PROBES = {"planes": check_planes, "tightness": check_tightness, "hints": check_hints}


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("probe", PROBES)
def test_squares_enclose_products(probe: str, arithmetic: str) -> None:
    for seed in range(8):
        with np.errstate(all="ignore"):
            PROBES[probe](ARITHMETICS[arithmetic](), np.random.default_rng(seed))


def negated(interval):
    return -interval[1], -interval[0]


def not_exchanged(_):
    return lambda own: Squared(negated(own.total), negated(own.difference), own.scale)


def not_negated(_):
    return lambda own: Squared(own.difference, own.total, own.scale)


def rounded_inwards(original):
    def separate(numbers, slopes, squared):
        class Inverted:
            lift_down, floats_down, floats_up = (
                getattr(numbers, name) for name in ("lift_down", "floats_down", "floats_up")
            )
            multiply_down, multiply_up = numbers.multiply_up, numbers.multiply_down
            add_down = numbers.add_up

            def divide_up(self, a, b):
                return -numbers.divide_up(-a, b)

        return original(Inverted(), slopes, squared)

    return separate


def wrong_sign_mirrored(original):
    turns = cycle((1, -1))

    def separate(numbers, slopes, squared):
        return original(numbers, (slopes[0], next(turns) * slopes[1]), squared)

    return separate


def with_forms(change):
    def changed(original):
        def separate(numbers, slopes, own):
            total, difference = change(own.total, own.difference)
            return original(numbers, slopes, Squared(total, difference, own.scale))

        return separate

    return changed


def halfway(interval):
    middle = (interval[0] + interval[1]) // 2 if interval[0].dtype == object else sum(interval) / 2
    return middle, middle


def times(factor):
    return lambda original: lambda *args: original(*args) * factor


def divided(original):
    return lambda *args: original(*args) / 2 if args[1][0].dtype != object else original(*args) // 2


def useless(original):
    return lambda numbers, *rest: original(numbers, *rest) - numbers.lift_up(np.array([1e3]))


def slopes_exchanged(original):
    return lambda taken, ours, others: original(taken, ours[::-1], others)


def never_taken(original):
    return lambda taken, ours, others: original(taken & False, ours, others)


def hints_backwards(original):
    return lambda start, end, weight: original(end, start, weight)


PLACES = {"mirrored": Squared}
MUTANTS = (
    ("forms not exchanged", "planes", "mirrored", not_exchanged),
    ("forms not negated", "planes", "mirrored", not_negated),
    ("rounded inwards", "planes", "_separate", rounded_inwards),
    ("a wrong sign above", "planes", "_separate", wrong_sign_mirrored),
    ("the forms exchanged", "planes", "_separate", with_forms(lambda s, r: (r, s))),
    ("a tangent for the chord", "planes", "_separate", with_forms(lambda s, r: (s, halfway(r)))),
    ("an end of the chord", "planes", "_separate", with_forms(lambda s, r: (s, (r[0], r[0])))),
    ("an end of the tangent", "planes", "_separate", with_forms(lambda s, r: ((s[0], s[0]), r))),
    ("2 t for 4 t", "planes", "_separate", times(2)),
    ("8 t for 4 t", "planes", "_separate", divided),
    ("useless intercepts", "tightness", "_separate", useless),
    ("slopes exchanged", "tightness", "_chosen", slopes_exchanged),
    ("squares not taken", "hints", "_chosen", never_taken),
    ("hints backwards", "hints", "_mixed", hints_backwards),
    ("hints not looked at", "hints", "_weight", lambda _: lambda hint, like: like * 0 + 0.5),
)


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize("name", [name for name, *_ in MUTANTS])
def test_wrong_squares_are_noticed(name: str, arithmetic: str, monkeypatch) -> None:
    _, probe, place, change = next(mutant for mutant in MUTANTS if mutant[0] == name)
    owner = PLACES.get(place, products)
    monkeypatch.setattr(owner, place, change(getattr(owner, place)))
    with pytest.raises(AssertionError):
        test_squares_enclose_products(probe, arithmetic)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_unbounded_forms_leave_mccormicks_planes(arithmetic: str) -> None:
    """One entry without bounds of a form costs all entries their squares, and no more."""
    numbers = ARITHMETICS[arithmetic]()
    _, _, (left, right, *forms), scale = strongly(np.random.default_rng(0), numbers, -1.0)
    plain = products.planes(numbers, left, right, None, None)
    for form in range(2):
        for side, infinite in enumerate((-np.inf, np.inf)):
            wild = [[end.copy() for end in ends] for ends in forms]
            wild[form][side][3] = infinite
            squared = Squared(*map(tuple, wild), scale)
            found = products.planes(numbers, left, right, None, None, squared)
            for one, other in zip(found, plain, strict=True):
                assert np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("arithmetic", BOTH)
def test_unbounded_factors_have_unbounded_planes(arithmetic: str) -> None:
    numbers = ARITHMETICS[arithmetic]()
    _, _, (left, right, *forms), scale = strongly(np.random.default_rng(0), numbers, -1.0)
    low = left[0].copy()
    low[:] = -np.inf
    squared = Squared(*forms, scale)
    _, floor, _, ceiling = products.planes(numbers, (low, left[1]), right, None, None, squared)
    assert all(end == -np.inf for end in floor)
    assert all(end == np.inf for end in ceiling)


@pytest.mark.parametrize("arithmetic", BOTH)
def test_an_unbounded_factor_leaves_the_others_their_squares(arithmetic: str) -> None:
    numbers = ARITHMETICS[arithmetic]()
    _, _, (left, right, *forms), scale = strongly(np.random.default_rng(0), numbers, -1.0)
    usual = products.planes(numbers, left, right, None, None, Squared(*forms, scale))
    infinite = [[end.copy() for end in ends] for ends in (left, *forms)]
    for ends in infinite:
        ends[1][3] = np.inf
    wild, *others = map(tuple, infinite)
    found = products.planes(numbers, wild, right, None, None, Squared(*others, scale))
    rest = np.arange(left[0].shape[-1]) != 3
    for place in (1, 3):
        assert np.array_equal(found[place][..., rest], usual[place][..., rest])
    assert found[1][3] == -np.inf
    assert found[3][3] == np.inf
