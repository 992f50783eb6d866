"""Elementary functions of constants, enclosed by integer arithmetic alone.

Exporters fold constants themselves, so these are rare: simplicity counts, not speed.  A
series is summed in fixed point with ``BITS`` bits behind the point.  Every step truncates by
less than one unit; the sums below have at most 2**13 terms, whose errors no step enlarges
beyond 2**40 units together, so a margin of ``2**(64 - BITS)`` covers truncations and the
remainder of the series.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError

BITS = 384
MARGIN = Fraction(1, 2 ** (BITS - 64))
LARGEST_EXPONENT = 2**12
"""Beyond this argument the exponential leaves every type's range."""
FAR = 16
"""``1 - erf(16) < exp(-256) < MARGIN``."""


@dataclass(frozen=True)
class Span:
    """A real number between two rationals."""

    low: Fraction
    high: Fraction

    def __add__(self, other: Span | Fraction | int) -> Span:
        that = _span(other)
        return Span(self.low + that.low, self.high + that.high)

    def __neg__(self) -> Span:
        return Span(-self.high, -self.low)

    def __sub__(self, other: Span | Fraction | int) -> Span:
        return self + -_span(other)

    def __mul__(self, other: Span | Fraction | int) -> Span:
        that = _span(other)
        ends = [a * b for a in (self.low, self.high) for b in (that.low, that.high)]
        return Span(min(ends), max(ends))

    def __truediv__(self, other: Span | Fraction | int) -> Span:
        that = _span(other)
        if that.low <= 0 <= that.high:
            raise ModelError("a constant is divided by what may be 0")
        return self * Span(1 / that.high, 1 / that.low)

    def widened(self, by: Fraction) -> Span:
        return Span(self.low - by, self.high + by)

    def trimmed(self) -> Span:
        """Ends of about ``BITS`` significant bits, outside the old ones."""
        return Span(_shortened(self.low, math.floor), _shortened(self.high, math.ceil))


def exponential(x: Fraction) -> Span:
    """``exp(x)``."""
    if x < 0:
        if x < -LARGEST_EXPONENT:
            return Span(Fraction(0), 1 / exponential(Fraction(LARGEST_EXPONENT)).low)
        return (_span(1) / exponential(-x)).trimmed()
    if x > LARGEST_EXPONENT:
        raise ModelError("an exponential of a constant is not finite")
    halvings = max(0, math.ceil(2 * x).bit_length())
    y = _fixed(x / 2**halvings)  # at most 1/2
    total = term = 1 << BITS
    for n in range(1, 96):
        term = (term * y >> BITS) // n
        total += term
    result = _near(total)
    for _ in range(halvings):
        result = (result * result).trimmed()
    return result


def logarithm(x: Fraction) -> Span:
    """The natural logarithm of ``x > 0``."""
    if x <= 0:
        raise ModelError("a logarithm of a constant that may not be positive")
    shift = x.numerator.bit_length() - x.denominator.bit_length()
    mantissa = x / Fraction(2) ** shift  # in (1/2, 2)
    return _double_atanh((mantissa - 1) / (mantissa + 1)) + _log_of_2() * shift


def arctangent(x: Fraction) -> Span:
    """The arctangent."""
    if x < 0:
        return -arctangent(-x)
    if x > 1:
        return pi(BITS) * Fraction(1, 2) - arctangent(1 / x)
    half = Fraction(1, 2)
    return _atan_series(half) + _atan_series((x - half) / (1 + x * half))


def sine(x: Fraction) -> Span:
    """The sine."""
    return _circular(x, 1)


def cosine(x: Fraction) -> Span:
    """The cosine."""
    return _circular(x, 0)


def error_function(x: Fraction) -> Span:
    """``erf(x)``, by ``2 / sqrt(pi) exp(-x^2)`` times a series of positive terms."""
    if x < 0:
        return -error_function(-x)
    if x > FAR:
        return Span(1 - MARGIN, Fraction(1))
    square = _fixed(2 * x * x)
    total = term = _fixed(x)
    n = 0
    while term or n < 4 * x * x:
        n += 1
        term = (term * square >> BITS) // (2 * n + 1)
        total += term
    # exp(-x^2) undoes what the terms' growth does to the errors of truncation.
    series = _near(total, exponential(x * x).high) * exponential(-x * x)
    return (series * 2 / root(pi(BITS))).trimmed()


def root(x: Span) -> Span:
    """The square root of a number that is not negative."""
    if x.low < 0:
        raise ModelError("a square root of a constant that may be negative")
    low = math.isqrt(math.floor(x.low * 4**BITS))
    high = math.isqrt(math.floor(x.high * 4**BITS)) + 1
    return Span(Fraction(low, 2**BITS), Fraction(high, 2**BITS))


@lru_cache(maxsize=8)
def pi(bits: int) -> Span:
    """Pi to so many bits, by Machin's formula."""
    return _inverse_atan(5, bits) * 16 - _inverse_atan(239, bits) * 4


def sigmoid(x: Fraction) -> Span:
    """``1 / (1 + exp(-x))``."""
    small = exponential(-abs(x))
    return (_span(1) if x >= 0 else small) / (small + 1)


def hyperbolic_tangent(x: Fraction) -> Span:
    """The hyperbolic tangent."""
    small = exponential(-2 * abs(x))
    size = (_span(1) - small) / (small + 1)
    return size if x >= 0 else -size


def softplus(x: Fraction) -> Span:
    """``log(1 + exp(x))``."""
    small = exponential(-abs(x)) + 1
    return Span(logarithm(small.low).low, logarithm(small.high).high) + max(x, Fraction(0))


def gelu(x: Fraction) -> Span:
    """``x (1 + erf(x / sqrt 2)) / 2``."""
    inner = _rising(error_function, root(_span(x * x / 2)))
    return ((inner if x >= 0 else -inner) + 1) * (x / 2)


def gelu_tanh(x: Fraction) -> Span:
    """``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``."""
    inner = root(_span(2) / pi(BITS)) * (x + Fraction(44715, 10**6) * x**3)
    return (_rising(hyperbolic_tangent, inner.trimmed()) + 1) * (x / 2)


def mish(x: Fraction) -> Span:
    """``x tanh(softplus(x))``."""
    return _rising(hyperbolic_tangent, softplus(x).trimmed()) * x


def hardswish(x: Fraction) -> Span:
    """``x min(max(x / 6 + 1/2, 0), 1)``."""
    return _span(x * min(max(x / 6 + Fraction(1, 2), Fraction(0)), Fraction(1)))


def elu(x: Fraction, alpha: Fraction) -> Span:
    """``x`` above 0, ``alpha (exp(x) - 1)`` below."""
    return _span(x) if x >= 0 else (exponential(x) - 1) * alpha


PLAIN: dict[str, tuple[Callable[[Fraction], Span], int]] = {
    "exp": (exponential, 0),
    "log": (logarithm, 0),
    "sin": (sine, 1),
    "cos": (cosine, 1),
    "atan": (arctangent, 0),
    "erf": (error_function, 0),
    "sigmoid": (sigmoid, 0),
    "tanh": (hyperbolic_tangent, 0),
    "softplus": (softplus, 0),
    "sinh": (lambda x: (exponential(x) - exponential(-x)) * Fraction(1, 2), 0),
    "softsign": (lambda x: _span(x / (1 + abs(x))), 0),
    "silu": (lambda x: sigmoid(x) * x, 2),
    "gelu": (gelu, 2),
    "gelu_tanh": (gelu_tanh, 2),
    "mish": (mish, 2),
    "hardswish": (hardswish, 2),
}
"""By function its values at rationals, and how steep it is at most; 0: it is monotone."""


def image(name: str, parameters: tuple[float, ...], x: Enclosure) -> Enclosure:
    """A function of constants, elementwise.

    Raises:
        ModelError: it is not defined at a constant, or its value is not finite.
        UnsupportedOperatorError: there is no rule for the function.
    """
    value, radius = x.value.reshape(-1), np.zeros(x.value.size)
    if x.radius is not None:
        radius = x.radius.reshape(-1)
    known: dict[tuple[float, float], tuple[float, float]] = {}
    for centre, width in zip(value.tolist(), radius.tolist(), strict=True):
        if (centre, width) not in known:
            found = _image(name, parameters, Fraction(centre), Fraction(width))
            known[centre, width] = rounded(found)
    pairs = [known[key] for key in zip(value.tolist(), radius.tolist(), strict=True)]
    made = np.array(pairs, dtype=np.float64).reshape(*x.shape, 2)
    return Enclosure(made[..., 0], made[..., 1])


def rounded(span: Span) -> tuple[float, float]:
    """A float, and an upper bound of its distance from any number of the span."""
    try:
        value = float((span.low + span.high) / 2)
        gap = max(span.high - Fraction(value), Fraction(value) - span.low)
        radius = math.nextafter(float(gap), math.inf) if gap else 0.0
    except OverflowError:
        raise ModelError("a function of a constant is not finite") from None
    return value, radius


def _image(name: str, parameters: tuple[float, ...], centre: Fraction, width: Fraction) -> Span:
    exact = [Fraction(parameter) for parameter in parameters]
    if name == "cosh":
        ends = [centre - width, centre + width]
        least = 0 if ends[0] <= 0 <= ends[1] else min(map(abs, ends))
        low, high = (
            exponential(Fraction(x)) + exponential(Fraction(-x))
            for x in (least, max(map(abs, ends)))
        )
        return Span(low.low, high.high) * Fraction(1, 2)
    if name in ("elu", "selu"):
        alpha, gamma = (exact[0], exact[1]) if name == "selu" else (exact[0], Fraction(1))
        steepest = max(Fraction(1), abs(alpha)) * abs(gamma)
        return (elu(centre, alpha) * gamma).widened(steepest * width)
    if name not in PLAIN:
        raise UnsupportedOperatorError(f"the function '{name}' of a constant has no rule")
    function, steepness = PLAIN[name]
    if steepness:
        return function(centre).widened(steepness * width)
    return _rising(function, Span(centre - width, centre + width))


def _rising(function: Callable[[Fraction], Span], x: Span) -> Span:
    """A function that never falls, of a number between two."""
    return Span(function(x.low).low, function(x.high).high)


def _span(number: Span | Fraction | int) -> Span:
    if isinstance(number, Span):
        return number
    return Span(Fraction(number), Fraction(number))


def _fixed(x: Fraction, bits: int = BITS) -> int:
    return math.floor(x * (1 << bits))


def _near(units: int, share: Fraction | int = 1) -> Span:
    number = Fraction(units, 2**BITS)
    return Span(number, number).widened(MARGIN * share)


def _shortened(x: Fraction, towards: Callable[[Fraction], int]) -> Fraction:
    if x == 0:
        return x
    shift = BITS - (x.numerator.bit_length() - x.denominator.bit_length())
    return Fraction(towards(x * Fraction(2) ** shift)) / Fraction(2) ** shift


def _atan_series(x: Fraction) -> Span:
    """The arctangent of at most 1/2 in size."""
    z = _fixed(x)
    square, total, power = z * z >> BITS, 0, z
    for n in range(BITS):
        total += (-power if n % 2 else power) // (2 * n + 1)
        power = power * square >> BITS
    return _near(total)


def _double_atanh(x: Fraction) -> Span:
    """``2 atanh(x)`` for at most 1/3 in size."""
    z = _fixed(x)
    square, total, power = z * z >> BITS, 0, z
    for n in range(BITS):
        total += 2 * power // (2 * n + 1)
        power = power * square >> BITS
    return _near(total)


@lru_cache(maxsize=1)
def _log_of_2() -> Span:
    return _double_atanh(Fraction(1, 3))


def _inverse_atan(n: int, bits: int) -> Span:
    """``atan(1 / n)`` for ``n >= 5``; fewer than ``bits`` terms, each truncated twice."""
    power = (1 << bits) // n
    total, k = 0, 0
    while power:
        total += (-power if k % 2 else power) // (2 * k + 1)
        power //= n * n
        k += 1
    margin = Fraction(4 * (k + 1), 2**bits)
    return Span(Fraction(total, 2**bits), Fraction(total, 2**bits)).widened(margin)


def _circular(x: Fraction, first: int) -> Span:
    """The sine (``first`` = 1) or cosine (0), after taking multiples of pi away."""
    size = max(0, abs(math.floor(x)).bit_length())
    half_turn = pi(BITS + size + 8)
    turns = round(x / half_turn.low)
    rest = _span(x) - half_turn * turns
    centre = (rest.low + rest.high) / 2  # at most 2 in size
    y = _fixed(centre)
    total = term = y if first else 1 << BITS
    for n in range(first + 1, 2 * 96, 2):
        term = -((term * y >> BITS) * y >> BITS) // (n * (n + 1))
        total += term
    found = _near(total).widened(rest.high - centre)
    return -found if turns % 2 else found
