"""How far library functions may be off under float semantics.

No standard bounds the error of ``exp`` or ``tanh``, and vectorised versions clamp their
arguments.  What is assumed of every library stands in this one table, is printed with a
verdict and listed in ``proofs/TRUSTED.md``; ``tests/specs/test_libraries.py`` measures
onnxruntime and torch against it.  Published figures for comparison: Innocente and
Zimmermann, *Accuracy of mathematical functions in single, double, double extended double
and quadruple precision*, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from specs.network import Error
from specs.perturbation import Rounding, above


@dataclass(frozen=True)
class Allowance:
    """A result may be off by ``ulps`` units in its last place plus ``absolute * u``.

    Attributes:
        ulps: units in the last place, of at most ``2 u`` times the value each.
        absolute: in units of the unit roundoff ``u``.
        reach: largest magnitude of an argument for which this is assumed.
    """

    ulps: float
    absolute: float
    reach: float = float("inf")


ALLOWANCES = MappingProxyType(
    {
        "atan": Allowance(4.0, 2.0),
        "cos": Allowance(4.0, 4.0, 2.0**13),
        "elu": Allowance(4.0, 6.0),
        "erf": Allowance(4.0, 4.0),
        "exp": Allowance(4.0, 2.0),
        "log": Allowance(4.0, 2.0),
        "sigmoid": Allowance(4.0, 4.0),
        "sin": Allowance(4.0, 4.0, 2.0**13),
        "softplus": Allowance(4.0, 8.0),
        "tanh": Allowance(8.0, 2.0),
    }
)
"""By the function's name in a network."""

POWERS = MappingProxyType({0.5: 2.0, 1.0: 1.0, 2.0: 2.0, 3.0: 3.0, 4.0: 4.0})
"""Units in the last place of a power, by its exponent."""


def library_error(rounding: Rounding, function: str, parameters: tuple[float, ...] = ()) -> Error:
    """The error of a function of the table, for an argument that may be flushed to zero.

    All of them but ``log`` have slopes of at most 2 near 0, so flushing an argument moves
    them by at most twice the smallest normal number; the argument of ``log`` is flushed
    before.  Overflow counts from half the largest number on, since some libraries clamp
    the argument of ``exp`` there.
    """
    known = ALLOWANCES[function]
    scale = max(1.0, *map(abs, parameters)) if parameters else 1.0
    limit = rounding.largest / 2.0
    return Error(
        own=known.ulps * 2.0 * rounding.unit,
        floor=above([scale * (known.absolute * rounding.unit + 4.0 * rounding.tiny)]),
        limit=limit,
        reach=limit / known.reach,
    )


def power_error(rounding: Rounding, exponent: float) -> Error:
    """The error of a power in ``POWERS``.

    A square root moves by the root of the smallest normal number where its argument is
    flushed, a whole power by less than that number.
    """
    moved = np.sqrt(rounding.tiny) if exponent == 0.5 else 0.0
    return Error(
        own=POWERS[exponent] * 2.0 * rounding.unit,
        floor=above([2.0 * (moved + rounding.tiny)]),
        limit=rounding.largest,
    )


def allowances(rounding: Rounding) -> list[str]:
    """The table in words, a line each."""
    lines = []
    for name, known in ALLOWANCES.items():
        where = "" if known.reach == float("inf") else f" up to |x| = {known.reach:g}"
        lines.append(
            f"{name}: {known.ulps:g} units in the last place and {known.absolute:g} times "
            f"2**-{rounding.precision}{where}"
        )
    return lines
