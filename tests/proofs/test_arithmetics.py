"""Each operation of both arithmetics against rationals, over all scales."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs.arithmetic import usable_slopes
from proofs.check import ARITHMETICS
from proofs.outward import TINY, Outward
from specs.enclosure import Enclosure
from specs.errors import EvidenceError, FarkasError
from specs.linear import MatMul
from tests.proofs.helpers import BOTH

F = Fraction


def sample(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Floats of every size, exact ones, zeros, and neighbours that cancel."""
    scale = 2.0 ** rng.integers(-60, 60, size=shape)
    kinds = rng.integers(0, 6, size=shape)
    values = rng.normal(size=shape) * scale
    values = np.where(kinds == 0, 0.0, values)
    values = np.where(kinds == 1, rng.choice([1.0, -1.0, 1 + 2.0**-52], size=shape), values)
    values = np.where(kinds == 2, rng.choice([5e-324, -1e-310, 1e-290], size=shape), values)
    return np.where(kinds == 3, rng.integers(-5, 6, size=shape), values)


def check_operations(arithmetic, seeds: int = 60) -> None:
    for seed in range(seeds):
        _check_operations(arithmetic, np.random.default_rng(seed))


def _check_operations(arithmetic, rng: np.random.Generator) -> None:
    real = arithmetic.fraction
    rows, columns = 3, int(rng.integers(1, 30))
    a, b = sample(rng, rows, columns), sample(rng, rows, columns)
    p, q = arithmetic.lift_down(a), arithmetic.lift_up(b)
    exact = np.vectorize(real, otypes=[object])
    for lifted, given, sign in ((p, a, 1), (q, b, -1)):
        for number, value in zip(lifted.flat, given.flat, strict=True):
            assert 0 <= (F(value) - real(number)) * sign <= F(1, 2**128)
    for numbers in (p, arithmetic.multiply_down(p, q)):
        floats = arithmetic.floats_down(numbers).flat, arithmetic.floats_up(numbers).flat
        for number, low, high in zip(numbers.flat, *floats, strict=True):
            assert F(low) <= real(number) <= F(high)
            assert high <= np.nextafter(low, np.inf)
    x, y = exact(p), exact(q)
    for down, up, value in (
        (arithmetic.add_down, arithmetic.add_up, x + y),
        (arithmetic.multiply_down, arithmetic.multiply_up, x * y),
    ):
        low, high = exact(down(p, q)), exact(up(p, q))
        assert np.all(low <= value)
        assert np.all(value <= high)
        small = F(TINY) + F(2, 2**128) * (arithmetic.name == "exact")
        assert np.all(high - low <= np.abs(value) / 2**50 + small)
    simple = arithmetic.lift_down(rng.choice([0.0, 1.0, -1.0], size=p.shape))
    assert np.all(exact(arithmetic.multiply_down(p, simple)) == x * exact(simple))
    assert np.all(exact(arithmetic.multiply_up(p, simple)) == x * exact(simple))
    for values in (q, q[0]):
        found = exact(arithmetic.dot_down(p, values))
        terms = np.sum(x * exact(values), axis=1)
        size = np.sum(np.abs(x * exact(values)), axis=1)
        assert np.all(found <= terms)
        assert np.all(terms - found <= size / 2**45 + F(1, 2**120))
    low, high = arithmetic.lift_down(np.minimum(a, b)), arithmetic.lift_up(np.maximum(a, b))
    coefficients = arithmetic.lift_down(sample(rng, rows, columns))
    c = exact(coefficients)
    least = np.sum(np.minimum(c * exact(low), c * exact(high)), axis=1)
    assert np.all(exact(arithmetic.box_down(coefficients, low, high)) <= least)
    owner = rng.integers(0, rows, size=rows)
    assert np.all(
        exact(arithmetic.box_down(coefficients, low, high, owner))
        <= np.sum(np.minimum(c * exact(low[owner]), c * exact(high[owner])), axis=1)
    )
    vector = arithmetic.lift_up(np.abs(b[0]))
    cost = exact(arithmetic.cost(p, vector))
    assert np.all(np.sum(np.abs(x) * exact(vector), axis=1) <= cost)
    parts = [*p.T, *(-q).T, arithmetic.rounding_scalar(p[0])]
    total = sum((exact(part) for part in parts[:-1]), arithmetic.fraction(parts[-1]))
    assert np.all(arithmetic.sum_down(parts[:1], rows) == parts[0])
    found = exact(arithmetic.sum_down(parts, rows))
    assert np.all(found <= total)
    size = sum(np.abs(exact(part)) for part in parts)
    assert np.all(total - found <= size / 2**45 + F(1, 2**120))
    _check_dot(arithmetic, rng, p, q)
    _check_relax(arithmetic, rng, p, q)
    _check_rounding(arithmetic, rng, p, q)
    _check_adjoint(arithmetic, rng, p)
    _check_rationals(arithmetic, rng)


def _check_dot(arithmetic, rng, p, q) -> None:
    """A product's rounding is paid through the sizes of coefficients."""
    exact = np.vectorize(arithmetic.fraction, otypes=[object])
    vector, flat = arithmetic.dot_cost(q[0])
    found, value = exact(arithmetic.dot(p, q[0])), np.sum(exact(p) * exact(q[0]), axis=1)
    paid = exact(arithmetic.cost(p, vector)) + arithmetic.fraction(flat)
    assert np.all(found - value <= paid)
    size = np.sum(np.abs(exact(p) * exact(q[0])), axis=1)
    assert np.all(value - found <= size / 2**45 + F(1, 2**120))


def _check_relax(arithmetic, rng, p, q) -> None:
    """Each coefficient takes its sign's line of its owner; sums of intercepts are no more."""
    exact = np.vectorize(arithmetic.fraction, otypes=[object])
    rows, columns = p.shape
    magnitude = arithmetic.lift_up(np.abs(sample(rng, columns)))
    unit, flat = arithmetic.rounding(magnitude), arithmetic.rounding_scalar(magnitude)
    owner = rng.integers(0, rows, size=rows)
    choices = (owner, owner), (None, np.arange(rows)), (None, np.zeros(rows, dtype=np.int64))
    for number, (given, used) in enumerate(choices):
        domains = 1 if number == 2 else rows
        below, above = (
            arithmetic.lift_down(usable_slopes(rng.normal(size=(domains, columns))))
            for _ in range(2)
        )
        for resting in (False, True):
            ceiling = abs(q[:domains]) if resting else q[:domains]
            floor = None if resting else -3 * q[:domains]
            found, gain = arithmetic.relax(p, [(below, above)], floor, ceiling, given)
            x, positive = exact(p), np.asarray(p > 0)
            slope = np.where(positive, exact(below)[used], exact(above)[used])
            owed = np.sum(np.abs(exact(found[0]) - x * slope) * exact(magnitude), axis=1)
            assert np.all(
                owed <= exact(arithmetic.cost(found[0], unit)) + arithmetic.fraction(flat)
            )
            low = 0 * exact(ceiling) if floor is None else exact(floor)
            terms = x * np.where(positive, low[used], exact(ceiling)[used])
            value, size = np.sum(terms, axis=1), np.sum(np.abs(terms), axis=1)
            assert np.all(exact(gain) <= value)
            assert np.all(value - exact(gain) <= size / 2**45 + F(1, 2**120))


def _check_rounding(arithmetic, rng, p, q) -> None:
    """What scaling and adding are off by is paid through magnitudes."""
    exact = np.vectorize(arithmetic.fraction, otypes=[object])
    magnitude = arithmetic.lift_up(np.abs(sample(rng, p.shape[1])))
    slopes = arithmetic.lift_down(usable_slopes(rng.normal(size=p.shape)))
    unit, flat = arithmetic.rounding(magnitude), arithmetic.rounding_scalar(magnitude)
    for found, value in (
        (arithmetic.scale(p, slopes), exact(p) * exact(slopes)),
        (arithmetic.accumulate(p, q), exact(p) + exact(q)),
    ):
        paid = exact(arithmetic.cost(found, unit)) + arithmetic.fraction(flat)
        owed = np.sum(np.abs(exact(found) - value) * exact(magnitude), axis=1)
        assert np.all(owed <= paid)


def _check_adjoint(arithmetic, rng, p) -> None:
    exact = np.vectorize(arithmetic.fraction, otypes=[object])
    weight = sample(rng, 4, p.shape[1])
    radius = np.abs(rng.normal(size=weight.shape)) * 1e-3
    term = MatMul(Enclosure(weight, radius))
    magnitude = arithmetic.lift_up(np.abs(sample(rng, 4)))
    vector, flat = arithmetic.adjoint_cost(term, magnitude)
    found = exact(arithmetic.adjoint(term, p))
    reals = np.vectorize(F, otypes=[object])
    sides = rng.choice([-1, 1], size=weight.shape)
    for side in (sides, -sides):
        value = exact(p) @ (reals(weight) + reals(radius) * side).T
        owed = np.sum(np.abs(found - value) * exact(magnitude), axis=1)
        paid = exact(arithmetic.cost(p, vector)) + arithmetic.fraction(flat)
        assert np.all(owed <= paid)
    picked = arithmetic.select(term, np.array([0]))
    if picked is not None:
        assert np.all(exact(picked[0]) == reals(weight[:, 0]))
    offset = Enclosure(weight[0], radius[0])
    centre, width = (exact(part) for part in arithmetic.offset(offset))
    assert np.all(centre - width <= reals(weight[0]) - reals(radius[0]))
    assert np.all(reals(weight[0]) + reals(radius[0]) <= centre + width)
    assert np.all(width <= reals(radius[0]) + F(2, 2**128))


def _check_rationals(arithmetic, rng) -> None:
    for value in (
        F(int(rng.integers(-(10**9), 10**9)), int(rng.integers(1, 10**9))),
        F(1, 3) * F(10) ** int(rng.integers(-30, 30)),
        -F(1, 3**900),
        F(0),
        F(5, 8),
    ):
        number = arithmetic.fraction(arithmetic.fraction_down(value))
        assert number <= value
        assert value - number <= abs(value) / 2**52 + F(1, 2**128)
    assert arithmetic.fraction(arithmetic.fraction_down(F(5, 8))) == F(5, 8)


@pytest.mark.parametrize("name", BOTH)
def test_operations(name):
    check_operations(ARITHMETICS[name]())


MUTANTS = {
    "dot products unpaid": ("outward", "dot_down", lambda s, r, v: np.sum(r * v, axis=1)),
    "boxes of the wrong end": ("*", "box_down", lambda s, r, lo, hi, o=None: s.dot_down(r, hi)),
    "boxes of others": (
        "*",
        "box_down",
        lambda s, r, lo, hi, o=None: type(s).__mro__[1].box_down(s, r, lo, hi),
    ),
    "lines of others": (
        "*",
        "relax",
        lambda s, r, sl, f, c, o: type(s).__mro__[1].relax(s, r, sl, f, c, None),
    ),
    "lines exchanged": (
        "*",
        "relax",
        lambda s, r, sl, f, c, o: type(s).__mro__[1].relax(s, r, [p[::-1] for p in sl], f, c, o),
    ),
    "ends unpaid": (
        "outward",
        "_ends_down",
        lambda s, r, p, n, lo, hi: np.sum(p * lo + n * hi, axis=1),
    ),
    "products with offsets unpaid": ("outward", "dot_cost", lambda s, v: (v * 0, 0.0)),
    "products with offsets up": ("exact", "dot", lambda s, r, v: -((-r @ v) >> 128)),
    "sums of parts to nearest": ("outward", "sum_down", lambda s, p, n: sum(p) + np.zeros(n)),
    "sums to nearest": ("outward", "add_down", lambda s, a, b: a + b),
    "sums to nearest, above": ("outward", "add_up", lambda s, a, b: a + b),
    "sums the wrong way": ("outward", "add_down", lambda s, a, b: np.nextafter(a + b, np.inf)),
    "products to nearest": ("outward", "multiply_down", lambda s, a, b: a * b),
    "products to nearest, above": ("outward", "multiply_up", lambda s, a, b: a * b),
    "products up": ("exact", "multiply_down", lambda s, a, b: s.multiply_up(a, b)),
    "products down": ("exact", "multiply_up", lambda s, a, b: s.multiply_down(a, b)),
    "cost of half": ("*", "cost", lambda s, r, v: s.zeros((len(r),))),
    "rounding unpaid": ("outward", "rounding", lambda s, m: m * 0),
    "units unpaid": ("exact", "rounding_scalar", lambda s, m: 0),
    "constants to nearest": ("outward", "fraction_down", lambda s, v: float(v)),
    "constants up": ("exact", "fraction_down", lambda s, v: -((-v * 2**128).__floor__())),
    "lifted down": ("exact", "lift_up", lambda s, v: s.lift_down(v)),
    "floats up": ("exact", "floats_down", lambda s, v: s.floats_up(v)),
    "adjoints unpaid": (
        "*",
        "adjoint_cost",
        lambda s, t, m: (s.zeros((t.target_size,)), s.zeros((1,))[0]),
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_operation_is_noticed(mutant):
    which, method, wrong = MUTANTS[mutant]
    for name in BOTH if which == "*" else (which,):
        kind = type(ARITHMETICS[name]())
        broken = type("Broken", (kind,), {method: wrong})()
        with pytest.raises(AssertionError):
            check_operations(broken)


@pytest.mark.parametrize("name", BOTH)
def test_numbers_beyond_reach_are_refused_or_rounded(name):
    arithmetic = ARITHMETICS[name]()
    huge = np.array([1.7e308, -1.7e308, 1e300])
    low, high = arithmetic.lift_down(huge), arithmetic.lift_up(huge)
    for value, down, up in zip(huge, low, high, strict=True):
        assert arithmetic.fraction(down) == arithmetic.fraction(up) == F(value)
    assert np.all(arithmetic.floats_down(low) <= huge)
    assert np.all(arithmetic.floats_up(low) >= huge)
    if name == "exact":
        beyond = np.array([10**400, -(10**400)], dtype=object)
        assert list(arithmetic.floats_down(beyond)) == [1.7976931348623157e308, -np.inf]
        assert list(arithmetic.floats_up(beyond)) == [np.inf, -1.7976931348623157e308]
        with pytest.raises(EvidenceError):
            arithmetic.lift_down(np.array([np.inf]))
    else:
        for value in (F(10) ** 400, -(F(10) ** 400), -F(1.7976931348623157e308) - 1):
            with pytest.raises(EvidenceError):
                arithmetic.fraction_down(value)


def test_outward_refuses_single_precision():
    """float32 times a Python float would stay float32."""
    arithmetic = Outward()
    weight = MatMul(Enclosure(np.ones((2, 2))))
    with pytest.raises(FarkasError):
        arithmetic.adjoint(weight, np.ones((1, 2), dtype=np.float32))


def test_slopes_are_on_a_grid_on_which_one_minus_them_is_exact():
    hints = np.array([np.nan, np.inf, -np.inf, 1e300, -5.0, 1 / 3, 5e-324, 1023.9999999999])
    used = usable_slopes(hints)
    assert np.all(np.isfinite(used))
    for slope in used:
        assert F(slope) == F(int(F(slope) * 2**40), 2**40)
        assert F(1.0 - slope) == 1 - F(slope)


def fast_product(a, b):
    """Strassen's: seven products of blocks in place of eight."""
    (a, b, c, d), (e, f, g, h) = (
        [block for half in np.split(whole, 2) for block in np.split(half, 2, axis=1)]
        for whole in (a, b)
    )
    one, two, three = (a + d) @ (e + h), (c + d) @ e, a @ (f - h)
    four, five = d @ (g - e), (a + b) @ h
    six, seven = (c - a) @ (e + f), (b - d) @ (g + h)
    return np.block(
        [[one + four - five + seven, three + five], [two + four, one - two + three + six]]
    )


def test_a_fast_matrix_product_is_noticed_at_every_start(monkeypatch):
    from proofs import outward

    whole = np.arange(16.0).reshape(4, 4)
    assert np.array_equal(fast_product(whole, whole.T), whole @ whole.T)
    Outward()
    monkeypatch.setattr(outward, "_product", fast_product)
    with pytest.raises(FarkasError, match="componentwise"):
        Outward()


@pytest.mark.parametrize("broken", ["rounding", "flushing"])
def test_the_start_refuses_a_machine_that_does_not_compute_as_assumed(broken, monkeypatch):
    from proofs import outward

    class Machine:
        """numpy, but for one thing."""

        def __getattr__(self, name):
            return getattr(np, name)

        def array(self, values, **options):
            made = np.array(values, **options)
            if broken == "rounding" and np.any(np.abs(made) == 2.0**-53):
                return made * 4
            if broken == "flushing" and np.any(made == 2.0**-1060):
                return made * 0
            return made

    monkeypatch.setattr(outward, "np", Machine())
    with pytest.raises(FarkasError, match="no check is possible"):
        Outward()
