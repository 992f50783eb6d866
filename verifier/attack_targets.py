"""What an attack aims at: the disjuncts of a property as arrays, and its regions in float32.

An attack works in floating point; what it finds is then moved to a point of the region
that is exact: float32 numbers inside wherever the region has some.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.perturbation import Rounding
from specs.property import Case, Constraint
from specs.query import Query

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

_REPAIR_ROUNDS = 8
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Targets:
    """Cases and disjuncts of a property as arrays.

    With ``C`` cases, ``T`` targets (one per case and disjunct), ``K`` constraints at most,
    ``n`` inputs and ``m`` outputs, target ``t`` is hit at ``x, y`` when every entry of
    ``inputs[t] @ x + outputs[t] @ y + constant[t]`` is at most 0.  The constraints of the
    region are among them.  Rows that only fill up have the constant ``-inf``.

    Attributes:
        cases: ``(C,)`` numbers of the cases in the property.
        lower, upper: ``(C, n)`` boxes, beyond-range bounds replaced by large floats.
        case: ``(T,)`` position of each target's case in ``cases``.
        disjunct: ``(T,)`` number of each target's disjunct in its case.
        inputs: ``(T, K, n)``, or ``None`` when no constraint speaks of inputs.
        outputs: ``(T, K, m)``.
        constant: ``(T, K)``.
    """

    cases: IndexArray
    lower: FloatArray
    upper: FloatArray
    case: IndexArray
    disjunct: IndexArray
    inputs: FloatArray | None
    outputs: FloatArray
    constant: FloatArray

    def margins(self, targets: IndexArray, x: FloatArray, y: FloatArray) -> FloatArray:
        """Constraint values ``(batch, K)`` of target ``targets[i]`` at ``x[i], y[i]``."""
        values = np.einsum("bkm,bm->bk", self.outputs[targets], y) + self.constant[targets]
        if self.inputs is not None:
            values += np.einsum("bkn,bn->bk", self.inputs[targets], x)
        return values


def compile_targets(query: Query, cases: Sequence[int]) -> Targets:
    """The targets of the cases with these numbers; cases without a disjunct have none."""
    prop = query.property
    taken = [prop.cases[number] for number in cases]
    n, m = prop.input_size, prop.output_size
    conjunctions = [
        (position, number, (*disjunct, *case.constraints))
        for position, case in enumerate(taken)
        for number, disjunct in enumerate(case.unsafe)
    ]
    height = max([1, *(len(c) for _, _, c in conjunctions)])
    mixed = any(c.inputs for _, _, conjunction in conjunctions for c in conjunction)
    inputs = np.zeros((len(conjunctions), height, n)) if mixed else None
    outputs = np.zeros((len(conjunctions), height, m))
    constant = np.full((len(conjunctions), height), -np.inf)
    for t, (_, _, conjunction) in enumerate(conjunctions):
        for k, c in enumerate(conjunction):
            _write(c, outputs[t, k], None if inputs is None else inputs[t, k])
            constant[t, k] = _float(c.constant)
    boxes = [case.box() for case in taken]
    lower = np.array([box[0] for box in boxes]).reshape(len(taken), n)
    upper = np.array([box[1] for box in boxes]).reshape(len(taken), n)
    return Targets(
        cases=np.array(cases, dtype=np.int64),
        lower=np.maximum(lower, -_FLOAT32_MAX),
        upper=np.minimum(upper, _FLOAT32_MAX),
        case=np.array([c[0] for c in conjunctions], dtype=np.int64),
        disjunct=np.array([c[1] for c in conjunctions], dtype=np.int64),
        inputs=inputs,
        outputs=outputs,
        constant=constant,
    )


def _write(constraint: Constraint, outputs: FloatArray, inputs: FloatArray | None) -> None:
    for j, c in constraint.outputs:
        outputs[j] = _float(c)
    if inputs is not None:
        for i, c in constraint.inputs:
            inputs[i] = _float(c)


def _float(number: Fraction) -> float:
    try:
        return number.numerator / number.denominator
    except OverflowError:
        return math.copysign(_FLOAT32_MAX, 1 if number > 0 else -1)


class InnerBox:
    """The float32 points of a case's box, and exact points where it has none.

    Attributes:
        lower, upper: the smallest and largest float32 numbers inside each interval, as
            float64; ``lower > upper`` where there is none.
        empty: how many intervals contain no float32 number.
    """

    def __init__(self, case: Case) -> None:
        self._case = case
        size = len(case.lower)
        pairs = (_inner_bounds(case, i) for i in range(size))
        bounds = np.fromiter(pairs, dtype=np.dtype((np.float64, 2)), count=size)
        self.lower = bounds[:, 0]
        self.upper = bounds[:, 1]
        self._none: list[int] = np.flatnonzero(self.lower > self.upper).tolist()
        self.empty = len(self._none)

    def point(self, x: FloatArray) -> tuple[Fraction, ...]:
        """A point of the box near ``x``: float32 where possible, rational where not.

        Linear constraints of the region are repaired one variable at a time; they may
        still fail, which the exact check then finds.
        """
        near = np.clip(x, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32).astype(np.float64)
        near = np.clip(near, self.lower, np.maximum(self.lower, self.upper))
        point = [Fraction(v) for v in near.tolist()]
        for i in self._none:
            point[i] = _clamped(self._case, i, Fraction(float(x[i])))
        if self._case.constraints:
            _repair(self._case, point)
        return tuple(point)


def inner_point(case: Case, x: FloatArray, format: Rounding) -> tuple[Fraction, ...]:
    """Numbers of a format near ``x``, inside the case's box wherever it has such numbers."""
    found = []
    for i, value in enumerate(np.clip(x, -format.largest, format.largest).tolist()):
        low, high = case.lower[i], case.upper[i]
        near = float(format.rounded(min(max(value, _float(low)), _float(high))))
        step = math.ldexp(1.0, max(math.frexp(near)[1] - 1, format.smallest) + 1 - format.precision)
        if Fraction(near) < low or (near == low and i in case.strict_lower):
            near += step
        elif Fraction(near) > high or (near == high and i in case.strict_upper):
            near -= step
        found.append(Fraction(near))
    return tuple(found)


def _inner_bounds(case: Case, i: int) -> tuple[float, float]:
    low, high = case.lower[i], case.upper[i]
    first = _nearest_float32(low)
    while Fraction(first) < low or (first == low and i in case.strict_lower):
        first = float(np.nextafter(np.float32(first), np.float32(np.inf)))
        if first == math.inf:
            return _FLOAT32_MAX, -_FLOAT32_MAX
    last = _nearest_float32(high)
    while Fraction(last) > high or (last == high and i in case.strict_upper):
        last = float(np.nextafter(np.float32(last), np.float32(-np.inf)))
        if last == -math.inf:
            return _FLOAT32_MAX, -_FLOAT32_MAX
    return first, last


def _nearest_float32(number: Fraction) -> float:
    return float(np.float32(min(max(_float(number), -_FLOAT32_MAX), _FLOAT32_MAX)))


def _clamped(case: Case, i: int, value: Fraction) -> Fraction:
    low, high = case.lower[i], case.upper[i]
    if (value <= low and i in case.strict_lower) or (value >= high and i in case.strict_upper):
        return (low + high) / 2
    return min(max(value, low), high)


def _repair(case: Case, point: list[Fraction]) -> None:
    """Move single variables until the region's constraints hold, or give up."""
    for _ in range(_REPAIR_ROUNDS):
        broken = [c for c in case.constraints if not c.holds(point, ())]
        if not broken:
            return
        for c in broken:
            excess = c.value(point, ())
            if excess < 0 or (excess == 0 and not c.strict):
                continue
            for i, coefficient in c.inputs:
                wanted = point[i] - excess / coefficient
                moved = min(max(wanted, case.lower[i]), case.upper[i])
                excess += coefficient * (moved - point[i])
                point[i] = moved
                if excess <= 0:
                    break


def rounded_to_float32(point: Sequence[Fraction]) -> npt.NDArray[np.float32]:
    """The nearest float32 numbers (through float64, as any reader of decimals does)."""
    values: list[Any] = [_float(v) for v in point]
    return np.array(values, dtype=np.float64).astype(np.float32)
