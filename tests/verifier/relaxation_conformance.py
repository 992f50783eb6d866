"""What every relaxation of the search must keep, as one call per function.

A test of a function is ``relaxation_conformance(truth)``: ``truth`` says what the function
is, independently of the search, and what to leave out.  Derivatives come from its values at
complex arguments, extremes from repeated sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from tests.verifier.relaxation_mutants import MUTANTS
from verifier.relaxations import Lines, find

TOLERANCE = 1e-9
FLOOR = 1e-10
"""What tangents far out in a tail may be off, absolutely."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A function, as the tests see it.

    Attributes:
        value: at real or complex numpy arrays.
        pieces: by piece 1 where it is convex, -1 concave, 0 linear; ``bends`` between them.
        corners: the bends where the derivative jumps.
        span: where it is tested; ``core``: where it bends most.
        outside: intervals on which it is not defined.
        steps: of a staircase on an interval: place, value just before, value just after.
        skipped: checks that do not apply; ``harmless``: mutants that are none.
    """

    name: str
    value: Callable[[Any], Any]
    pieces: tuple[int, ...]
    bends: tuple[float, ...] = ()
    corners: tuple[float, ...] = ()
    parameters: tuple[float, ...] = ()
    span: tuple[float, float] = (-30.0, 30.0)
    core: tuple[float, float] = (-4.0, 4.0)
    outside: tuple[tuple[float, float], ...] = ()
    steps: Callable[[float, float], list[tuple[float, float, float]]] | None = None
    skipped: tuple[str, ...] = ()
    harmless: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *map(str, self.parameters)])

    def slope(self, x: Any) -> Any:
        """The derivative, by a complex step."""
        h = 1e-30
        return np.imag(self.value(np.asarray(x, dtype=float) + 1j * h)) / h


def intervals(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Narrow and wide, inside pieces, across bends and ending at them."""
    rng = np.random.default_rng(0)
    first, last = truth.span
    pairs = []
    for _ in range(40):
        centre = rng.uniform(*truth.core)
        width = 10.0 ** rng.uniform(-3, 1.3)
        share = rng.uniform()
        pairs.append((centre - share * width, centre + (1 - share) * width))
    pairs += [tuple(np.sort(rng.uniform(*truth.span, size=2))) for _ in range(12)]
    pairs += [tuple(np.sort(rng.uniform(*truth.core, size=2))) for _ in range(12)]
    for bend in (*truth.bends, 0.0, 1.0):
        for width in (1e-4, 0.1, 3.0):
            pairs += [(bend - width, bend), (bend, bend + width), (bend - width, bend + 2 * width)]
    kept = [(max(a, first), min(b, last)) for a, b in pairs if max(a, first) < min(b, last)]
    low, high = np.array(kept).T
    return low[None], high[None]


def extreme(
    function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, sign: float
) -> np.ndarray:
    """The least (sign 1) or greatest (-1) value on intervals.

    By sampling ever more closely, in each of 20 parts, for there may be several extremes.
    """
    parts = np.linspace(0, 1, 21)[:, None, None]
    edges = low + parts * (high - low)
    edges[-1] = high
    a, b = edges[:-1, None], edges[1:, None]
    share = np.linspace(0, 1, 17)[:, None, None]
    best = np.full(low.shape, np.inf)
    for _ in range(10):
        x = np.minimum(a + share * (b - a), high)
        y = sign * function(x)
        k = y.argmin(1)[:, None]
        best = np.minimum(best, y.min((0, 1)))
        x, step = np.take_along_axis(x, k, 1), (b - a) / 16
        a, b = np.maximum(a, x - step), np.minimum(b, x + step)
    return sign * best


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays]


def arrays(lines: Lines) -> tuple[np.ndarray, ...]:
    none = torch.zeros_like(lines.lower_slope)
    floor = none if lines.lower_intercept is None else lines.lower_intercept
    parts = (lines.lower_slope, floor, lines.upper_slope, lines.upper_intercept)
    return tuple(part.numpy() for part in torch.broadcast_tensors(*parts))


def scale(truth: Truth, slope: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """What relative errors of a line on an interval are relative to."""
    x = low + np.linspace(0, 1, 65)[:, None, None] * (high - low)
    size = np.abs(truth.value(x)).max(0)
    return size + np.abs(slope) * np.maximum(np.abs(low), np.abs(high))


def check_lines(truth: Truth, lines: Lines, low: np.ndarray, high: np.ndarray) -> None:
    """The lines enclose the function, and touch it."""
    below, floor, above, ceiling = arrays(lines)
    under = extreme(lambda x: truth.value(x) - below * x, low, high, 1.0)
    over = extreme(lambda x: truth.value(x) - above * x, low, high, -1.0)
    for found, true, slope in ((floor, under, below), (ceiling, over, above)):
        assert np.isfinite(found).all()
        assert np.isfinite(slope).all()
        room = TOLERANCE * scale(truth, slope, low, high) + FLOOR
        worst = np.abs(found - true) - room
        k = np.unravel_index(worst.argmax(), worst.shape)
        assert worst[k] <= 0, (truth.name, low[0, k[-1]], high[0, k[-1]], found[k], true[k])


def check_value(truth: Truth, relaxation: Any) -> None:
    """Values and, by autograd, derivatives."""
    x = np.concatenate([np.linspace(*truth.span, 301), np.linspace(*truth.core, 301)])
    x = x[np.abs(x[:, None] - np.array([*truth.bends, 0.0])).min(1) > 1e-6]
    leaf = torch.from_numpy(x).requires_grad_()
    value = relaxation.value(leaf)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    np.testing.assert_allclose(value.detach(), truth.value(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(slope, truth.slope(x), rtol=1e-10, atol=1e-12)


def check_default(truth: Truth, relaxation: Any) -> None:
    low, high = intervals(truth)
    check_lines(truth, relaxation.default(*tensors(low, high)), low, high)


def check_free(truth: Truth, relaxation: Any) -> None:
    """Every parameter gives lines that enclose, for one row of intervals or many."""
    low, high = intervals(truth)
    bounds = tensors(low, high)
    free = relaxation.relaxed(*bounds)
    rows = relaxation.relaxed(*(b.expand(3, -1).contiguous() for b in bounds))
    shares = torch.tensor([[0.0], [1.0], [0.37]]).double().expand(-1, low.shape[1])
    used = [shares, shares.flip(0)][: relaxation.free]
    together, one_by_one = arrays(free.lines(*used)), rows.lines(*used)
    for part, own in zip(together, arrays(one_by_one), strict=True):
        # A short interval's chord multiplies the last bit, in which vectors of other widths differ.
        np.testing.assert_allclose(part, own, rtol=1e-10, atol=1e-13)
    check_lines(truth, one_by_one, low, high)
    rng = np.random.default_rng(1)
    used = tensors(*(rng.uniform(size=low.shape) for _ in range(relaxation.free)))
    check_lines(truth, free.lines(*used), low, high)


def check_start(truth: Truth, relaxation: Any) -> None:
    """The first parameters give the default lines.

    With two bends or a corner inside, where the default comes from samples, only if its slope
    is in reach.
    """
    low, high = intervals(truth)
    bounds = tensors(low, high)
    free = relaxation.relaxed(*bounds)
    start = free.start()
    assert len(start) == relaxation.free
    assert all(bool(((s >= 0) & (s <= 1)).all()) for s in start)
    bends, corners = (np.reshape(b, (-1, 1, 1)) for b in (truth.bends, truth.corners))
    sure = ((low < bends) & (bends < high)).sum(0) < 2
    sure &= ((low < corners) & (corners < high)).sum(0) < 1
    lines, default = arrays(free.lines(*start)), arrays(relaxation.default(*bounds))
    for side, share in zip((slice(2), slice(2, 4)), (*start, None), strict=False):
        within = sure if share is None else sure | ((share > 0) & (share < 1)).numpy()
        for found, expected in zip(lines[side], default[side], strict=True):
            np.testing.assert_allclose(found[within], expected[within], rtol=1e-9, atol=1e-10)


def check_rates(truth: Truth, relaxation: Any) -> None:
    """Rates are derivatives of lines."""
    low, high = intervals(truth)
    free = relaxation.relaxed(*tensors(low, high))
    rng = np.random.default_rng(2)
    at = tensors(*(rng.uniform(0.2, 0.8, size=low.shape) for _ in range(relaxation.free)))
    h = 1e-6
    more, less = arrays(free.lines(*(p + h for p in at))), arrays(free.lines(*(p - h for p in at)))
    mean = arrays(free.lines(*at))
    rates = free.rates(*at)
    parts = (rates.lower_slope, rates.lower_intercept, rates.upper_slope, rates.upper_intercept)
    moved = 0
    for rate, after, now, before in zip(parts, more, mean, less, strict=True):
        expected = (after - before) / (2 * h)
        # The secants on either side differ where the derivative jumps, and by curvature.
        bent = np.abs(after + before - 2 * now) / h
        found = np.zeros_like(expected) if rate is None else rate.expand(low.shape).numpy()
        room = 1e-5 * np.abs(expected) + 1e-8 * np.abs(now) / np.sqrt(h) + bent + 1e-8
        assert (np.abs(found - expected) <= room).all(), truth.name
        moved += int((np.abs(expected) > 4 * room).sum())
    assert moved > 0 or relaxation.free == 0


def check_intercepts(truth: Truth, relaxation: Any) -> None:
    """Accurate for slopes of all kinds."""
    low, high = intervals(truth)
    rng = np.random.default_rng(3)
    with np.errstate(all="ignore"):
        chord = (truth.value(high) - truth.value(low)) / (high - low)
    for slope in (
        chord,
        np.zeros_like(low),
        chord + rng.normal(size=low.shape) * (1 + np.abs(chord)),
        chord * rng.uniform(size=low.shape),
    ):
        floor, ceiling = relaxation.intercepts(*tensors(low, high, slope, slope))
        (steep,) = tensors(slope)
        check_lines(truth, Lines(steep, floor, steep, ceiling), low, high)


def check_image(truth: Truth, relaxation: Any) -> None:
    low, high = intervals(truth)
    found = relaxation.image(*tensors(low, high))
    for end, sign in zip(found, (1.0, -1.0), strict=True):
        true = extreme(truth.value, low, high, sign)
        np.testing.assert_allclose(end, true, rtol=1e-10, atol=1e-12)


def check_shape(truth: Truth, relaxation: Any) -> None:
    """Where it is said to be a multiple, or affine, it is so; elsewhere it is not."""
    low, high = intervals(truth)
    bounds = tensors(low, high)
    linear, factor = (part.numpy() for part in relaxation.linear(*bounds))
    unstable = relaxation.unstable(*bounds).numpy()
    assert not (linear & unstable).any()
    x = low + np.linspace(0, 1, 65)[:, None, None] * (high - low)
    y = truth.value(x)
    size = np.abs(y).max(0) + FLOOR
    assert np.where(linear, np.abs(y - factor * x).max(0) <= TOLERANCE * size, True).all()
    assert (factor[~linear] == 0).all()
    with np.errstate(all="ignore"):
        chord = y[0] + (x - x[0]) * ((y[-1] - y[0]) / (x[-1] - x[0]))
    away = np.abs(y - chord).max(0)
    assert np.where(unstable, True, away <= TOLERANCE * size).all()
    wide = high - low > 0.01
    inner = (low < truth.core[1]) & (high > truth.core[0])
    assert np.where(unstable & wide & inner, away > 1e-12 * size, True).all()
    points, _ = relaxation.linear(bounds[0], bounds[0])
    assert not relaxation.unstable(bounds[0], bounds[0]).any()
    assert points.shape == bounds[0].shape


def check_numbers(truth: Truth, relaxation: Any) -> None:
    """Nothing is NaN and no slope infinite, whatever the interval and the precision."""
    ends = [0.0, 1e-300, 1e-38, 1e-12, 1e-6, 0.3, 1.0, 3.0, 1e2, 1e4, 1e30, np.inf]
    ends += [*(abs(bend) for bend in truth.bends)]
    signed = sorted({s * e for e in ends for s in (-1.0, 1.0)})
    pairs = [(a, b) for a in signed for b in signed if a <= b]
    pairs += [(a, a + w) for a in signed if abs(a) < 1e5 for w in (1e-12, 1e-9, 1e-3)]
    pairs = [p for p in pairs if p[0] < np.inf and p[1] > -np.inf]
    for dtype in (torch.float64, torch.float32):
        low, high = torch.tensor(pairs, dtype=torch.float64).to(dtype).T[:, None]
        free = relaxation.relaxed(low, high)
        half = [torch.full_like(low, 0.5)] * relaxation.free
        ones = [torch.ones_like(low)] * relaxation.free
        image = relaxation.image(low, high)
        assert bool((image[0] <= image[1]).all())
        for lines in (
            relaxation.default(low, high),
            free.lines(*half),
            free.lines(*ones),
            free.lines(*free.start()),
        ):
            for slope in (lines.lower_slope, lines.upper_slope):
                assert slope.dtype == dtype
                assert bool(slope.isfinite().all())
            floor, ceiling = lines.lower_intercept, lines.upper_intercept
            assert floor is None or bool((floor < np.inf).all())
            assert bool((ceiling > -np.inf).all())
        rates = free.rates(*half)
        for part in (rates.lower_slope, rates.upper_slope):
            assert part is None or bool(part.isfinite().all())
        for part in (rates.lower_intercept, rates.upper_intercept):
            assert part is None or not bool(part.isnan().any())
        point = relaxation.split_point(low, high)
        assert bool(point.isfinite().all())
        zero = torch.zeros_like(low)
        floor, ceiling = relaxation.intercepts(low, high, zero, zero)
        assert not bool(floor.isnan().any())
        assert not bool(ceiling.isnan().any())


def check_singles(truth: Truth, relaxation: Any) -> None:
    """In float32 the lines are those of float64, to float32's accuracy."""
    low, high = (torch.from_numpy(e).float() for e in intervals(truth))
    kept = (high - low > 1e-2)[0]
    low, high = low[:, kept], high[:, kept]
    x = low.double() + torch.linspace(0, 1, 257).double()[:, None] * (high - low).double()
    y = torch.from_numpy(truth.value(x.numpy()))
    free = relaxation.relaxed(low, high)
    for share in (0.0, 0.6, 1.0):
        lines = free.lines(*[torch.full_like(low, share)] * relaxation.free)
        below, floor, above, ceiling = (torch.from_numpy(p).double() for p in arrays(lines))
        size = y.abs().amax(0) + torch.maximum(below.abs(), above.abs()) * x.abs().amax(0)
        room = 1e-5 * size + 1e-5
        assert bool((below * x + floor <= y + room).all())
        assert bool((above * x + ceiling >= y - room).all())


def check_undefined(truth: Truth, relaxation: Any) -> None:
    """Where the function is not defined throughout, nothing is known."""
    if not truth.outside:
        return
    low, high = (torch.tensor([ends]).double() for ends in zip(*truth.outside, strict=True))
    least, greatest = relaxation.image(low, high)
    assert bool((least == -np.inf).all())
    assert bool((greatest == np.inf).all())
    lines = relaxation.default(low, high)
    assert bool((lines.lower_intercept == -np.inf).all())
    assert bool((lines.upper_intercept == np.inf).all())


def check_split(truth: Truth, relaxation: Any) -> None:
    """Inside the interval; both parts are shorter by a share."""
    low, high = intervals(truth)
    point = relaxation.split_point(*tensors(low, high)).numpy()
    assert ((point > low) & (point < high)).all()
    inner = (low >= truth.core[0]) & (high <= truth.core[1]) & (truth.steps is None)
    share = (point - low) / (high - low)
    assert np.where(inner, (share > 0.05) & (share < 0.95), True).all()


def check_slopes(truth: Truth, relaxation: Any) -> None:
    """The default slopes are those that the kernel is to choose."""
    low, high = intervals(truth)
    below, _, above, _ = arrays(relaxation.default(*tensors(low, high)))
    checked = 0
    for k in range(low.shape[1]):
        expected = default_slopes(truth, float(low[0, k]), float(high[0, k]))
        if expected is None:
            continue
        checked += 1
        for found, true in zip((below[0, k], above[0, k]), expected, strict=True):
            room = 1e-7 * (abs(true) + 1e-3)
            assert abs(found - true) <= room, (truth.name, low[0, k], high[0, k], found, true)
    assert checked > 30


def default_slopes(truth: Truth, l: float, u: float) -> tuple[float, float] | None:  # noqa: E741
    """Default slopes from their definition; ``None`` where it leaves a choice."""
    if truth.steps is not None:
        return _stair_slopes(truth, l, u)
    f, d = truth.value, truth.slope
    m = 0.5 * (l + u)
    if any(abs(end - bend) < 1e-9 for bend in truth.corners for end in (l, u, m)):
        return None
    inside = [bend for bend in truth.bends if l < bend < u]
    kind = truth.pieces[sum(bend <= l for bend in truth.bends)]
    chord = (f(u) - f(l)) / (u - l)
    if not inside:
        return (d(m), chord) if kind >= 0 else (chord, d(m))
    after = truth.pieces[sum(bend <= l for bend in truth.bends) + 1]
    if len(inside) > 1 or inside[0] in truth.corners or kind * after != -1:
        y = f(l + (u - l) * np.arange(17) / 16)
        step = (u - l) / 16
        return _hull(y) / step, -_hull(-y) / step
    (c,) = inside

    def touching(a: float, end: float, sign: int) -> float:
        def excess(t: float) -> float:
            return sign * (d(t) * (t - a) - (f(t) - f(a)))

        if (end - a) * excess(end) >= 0:
            return chord
        t = brentq(excess, c, end, xtol=1e-14, rtol=1e-14)
        return d(max(t, m) if end > c else min(t, m))

    right, left = touching(l, u, kind), touching(u, l, kind)
    return (left, right) if kind > 0 else (right, left)


def _hull(y: np.ndarray) -> float:
    """Slope of the lower hull at the middle sample; the mean of both where it has a corner."""
    chords = [(y[i] * (j - 8) + y[j] * (8 - i)) / (j - i) for i in range(8) for j in range(9, 17)]
    least = min(y[8], *chords)
    return 0.5 * (
        max((least - y[i]) / (8 - i) for i in range(8))
        + min((y[j] - least) / (j - 8) for j in range(9, 17))
    )


def _stair_slopes(truth: Truth, l: float, u: float) -> tuple[float, float] | None:  # noqa: E741
    """Of the hulls of the corners; where a step lies at an end there is a choice."""
    assert truth.steps is not None
    steps = truth.steps(l, u)
    m = 0.5 * (l + u)
    if any(abs(place - end) < 1e-9 for place, _, _ in steps for end in (l, u, m)):
        return None
    ends = [(l, truth.value(np.array(l))), (u, truth.value(np.array(u)))]
    below = sorted([*ends, *((x, y) for x, y, _ in steps)])
    above = sorted([*ends, *((x, y) for x, _, y in steps)])
    found = []
    for corners, sign in ((below, 1.0), (above, -1.0)):
        pairs = [
            (sign * (p[1] + (m - p[0]) * (q[1] - p[1]) / (q[0] - p[0])), p, q)
            for p in corners
            for q in corners
            if p[0] < m < q[0]
        ]
        _, p, q = min(pairs, key=lambda pair: pair[0])
        found.append((q[1] - p[1]) / (q[0] - p[0]))
    return found[0], found[1]


CHECKS: dict[str, Callable[[Truth, Any], None]] = {
    "value": check_value,
    "default": check_default,
    "free": check_free,
    "start": check_start,
    "rates": check_rates,
    "intercepts": check_intercepts,
    "image": check_image,
    "shape": check_shape,
    "numbers": check_numbers,
    "singles": check_singles,
    "undefined": check_undefined,
    "split": check_split,
    "slopes": check_slopes,
}


def checks(truth: Truth) -> list[str]:
    """The checks that apply to a function."""
    left_out = truth.skipped if truth.outside else (*truth.skipped, "undefined")
    return [name for name in CHECKS if name not in left_out]


def mutants(truth: Truth) -> list[str]:
    """The mutants that are wrong for a function."""
    used = checks(truth)
    return [
        name for name, (check, _) in MUTANTS.items() if check in used and name not in truth.harmless
    ]


def relaxation_conformance(truth: Truth) -> tuple[Callable[..., None], Callable[..., None]]:
    """The tests of a relaxation: checks that it passes, and that each mutant fails."""

    @pytest.mark.parametrize("check", checks(truth))
    def test_relaxation_conforms(check: str) -> None:
        CHECKS[check](truth, find(truth.name, truth.parameters))

    @pytest.mark.parametrize("mutant", mutants(truth))
    def test_refuses_wrong_relaxation(mutant: str) -> None:
        check, change = MUTANTS[mutant]
        with pytest.raises(AssertionError):
            CHECKS[check](truth, change(find(truth.name, truth.parameters)))

    return test_relaxation_conforms, test_refuses_wrong_relaxation
