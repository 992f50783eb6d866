"""Resize and Upsample by fixed factors.

Positions are computed in rationals.  Nearest neighbours jump, so where a runtime's float32
arithmetic could choose another entry than the exact position does, the model is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError, UnsupportedOperatorError
from specs.reader import rounding
from specs.reader.builder import Builder
from specs.reader.calls import Call, integers, operator, resolved_axes
from specs.reader.operands import Operand
from specs.reader.tensors import Constant

HALF = Fraction(1, 2)
SLACK = Fraction(1, 2**20)
"""How far, relative to a position and 1, float32 arithmetic may move the position."""
POSITION_COST = 256
"""What a rational position costs of the budget, in tensor entries."""
LARGEST_PLAIN = 2**20

Position = Callable[[int, Fraction, int, int], Fraction]
"""From result index, scale, source extent and result extent to the source position."""

POSITIONS: dict[str, Position] = {
    "asymmetric": lambda i, scale, _size, _count: i / scale,
    "half_pixel": lambda i, scale, _size, _count: (i + HALF) / scale - HALF,
    "tf_half_pixel_for_nn": lambda i, scale, _size, _count: (i + HALF) / scale,
    "pytorch_half_pixel": lambda i, scale, _size, count: (
        (i + HALF) / scale - HALF if count > 1 else Fraction(0)
    ),
    "align_corners": lambda i, _scale, size, count: (
        Fraction(i * (size - 1), count - 1) if count > 1 else Fraction(0)
    ),
}
ROUNDINGS: dict[str, tuple[Callable[[Fraction], int], ...]] = {
    "round_prefer_floor": (lambda p: math.ceil(p - HALF),),
    "round_prefer_ceil": (lambda p: math.floor(p + HALF),),
    "floor": (math.floor,),
    "ceil": (math.ceil,),
    # Opset 10 leaves open how a shrinking Resize rounds: both ways must agree.
    "unstated": (math.floor, math.ceil),
}


@operator("Upsample")
def upsample(call: Call) -> Operand:
    x, mode = call.operand(0), call.text("mode", "nearest")
    stated = call.floats("scales") if call.opset < 9 else _scales(call.constant(1))
    scales = stated or ()
    factors = [Fraction(scale) for scale in scales]
    if any(factor < 1 for factor in factors):
        raise ModelError("it shrinks an axis, which Resize does")
    return _resized(call, x, factors, None, mode, "asymmetric", "floor")


@operator("Resize")
def resize(call: Call) -> Operand:
    x, mode = call.operand(0), call.text("mode", "nearest")
    rank = len(x.shape)
    if call.opset < 11:
        factors = [Fraction(scale) for scale in _scales(call.constant(1))]
        shrinks = any(factor < 1 for factor in factors)
        return _resized(
            call, x, factors, None, mode, "asymmetric", "unstated" if shrinks else "floor"
        )
    transform = call.text("coordinate_transformation_mode", "half_pixel")
    nearest = call.text("nearest_mode", "round_prefer_floor")
    if transform == "tf_half_pixel_for_nn" and (call.opset > 12 or mode != "nearest"):
        raise ModelError(f"opset {call.opset} has no '{transform}' for mode '{mode}'")
    call.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value")
    if call.int("antialias", 0):
        raise UnsupportedOperatorError("antialias has no rule")
    if call.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedOperatorError("keep_aspect_ratio_policy other than 'stretch' has no rule")
    axes = resolved_axes(call.ints("axes") or tuple(range(rank)), rank)
    scales, sizes = call.optional_constant(2), call.optional_constant(3)
    scales = None if scales is not None and not scales.value.size else scales
    sizes = None if sizes is not None and not sizes.value.size else sizes
    if (scales is None) == (sizes is None):
        raise ModelError("it needs either scales or sizes")
    factors, counts = [Fraction(1)] * rank, list(x.shape)
    if sizes is not None:
        wanted = integers(sizes)
        if len(wanted) != len(axes) or min(wanted, default=1) < 1 or 0 in x.shape:
            raise ModelError(f"sizes {wanted} do not fit {len(axes)} axes of {x.shape}")
        for axis, count in zip(axes, wanted, strict=True):
            factors[axis], counts[axis] = Fraction(count, x.shape[axis]), count
        return _resized(call, x, factors, counts, mode, transform, nearest)
    if scales is not None:
        given = _scales(scales)
        if len(given) != len(axes):
            raise ModelError(f"scales {given} do not fit {len(axes)} axes")
        for axis, scale in zip(axes, given, strict=True):
            factors[axis] = Fraction(scale)
    return _resized(call, x, factors, None, mode, transform, nearest)


def _scales(constant: Constant) -> tuple[float, ...]:
    if constant.radius is not None or constant.value.ndim != 1:
        raise ModelError("its scales are not a list of numbers")
    return tuple(float(scale) for scale in constant.value)


def _resized(
    call: Call,
    x: Operand,
    factors: list[Fraction],
    counts: list[int] | None,
    mode: str,
    transform: str,
    nearest: str,
) -> Operand:
    if transform not in POSITIONS:
        raise UnsupportedOperatorError(f"coordinate transformation '{transform}' has no rule")
    if mode not in ("nearest", "linear") or nearest not in ROUNDINGS:
        raise UnsupportedOperatorError(f"mode '{mode}' with '{nearest}' has no rule")
    if len(factors) != len(x.shape) or any(factor <= 0 for factor in factors):
        raise ModelError(f"scales {[float(f) for f in factors]} do not fit shape {x.shape}")
    if counts is None:
        counts = [_count(size, factor) for size, factor in zip(x.shape, factors, strict=True)]
    call.builder.claim(counts)
    for axis, (factor, count) in enumerate(zip(factors, counts, strict=True)):
        size = x.shape[axis]
        if factor == 1 and count == size:
            continue
        if size == 0 or count == 0:
            raise ModelError(f"an axis of {size} entries cannot become one of {count}")
        call.builder.claim((POSITION_COST, count))
        place = POSITIONS[transform]
        positions = [place(i, factor, size, count) for i in range(count)]
        if mode == "nearest":
            plain = _is_plain(factor) and max(size, count) <= LARGEST_PLAIN
            chosen = _nearest(positions, size, ROUNDINGS[nearest], plain)
            x = call.builder.view(x, _picker(chosen, axis))
        else:
            x = _interpolated(call.builder, x, axis, positions)
    return x


def _picker(
    chosen: list[int], axis: int
) -> Callable[..., np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return lambda array, _: np.take(array, chosen, axis=axis)


def _count(size: int, factor: Fraction) -> int:
    count = math.floor(size * factor)
    if int(np.float32(size) * np.float32(float(factor))) != count:
        raise UnsupportedOperatorError(
            f"scale {float(factor)} of {size} entries, whose product runtimes round; give sizes"
        )
    return count


def _is_plain(factor: Fraction) -> bool:
    """Whether float32 computes every position that lies on a jump exactly."""
    numerator, denominator = factor.numerator, factor.denominator
    return denominator == 1 or (numerator == 1 and denominator & (denominator - 1) == 0)


def _nearest(
    positions: list[Fraction],
    size: int,
    choices: tuple[Callable[[Fraction], int], ...],
    plain: bool,
) -> list[int]:
    """The source entry of every position.

    Raises:
        UnsupportedOperatorError: rounding, or what the opset leaves open, decides one.
    """
    chosen = []
    for position in positions:
        slack = 0 if plain else SLACK * (abs(position) + 1)
        picks = {
            min(max(choose(p), 0), size - 1)
            for p in {position - slack, position, position + slack}
            for choose in choices
        }
        if len(picks) > 1:
            raise UnsupportedOperatorError(
                "a scale for which the nearest entry depends on rounding; use whole scales"
            )
        chosen.append(picks.pop())
    return chosen


def _interpolated(builder: Builder, x: Operand, axis: int, positions: list[Fraction]) -> Operand:
    """Linear interpolation along one axis; positions outside stop at its ends."""
    size, count = x.shape[axis], len(positions)
    builder.claim((count, size))
    value, radius = np.zeros((count, size, 1)), np.zeros((count, size, 1))
    for row, position in enumerate(positions):
        inside = min(max(position, Fraction(0)), Fraction(size - 1))
        low = min(math.floor(inside), max(size - 2, 0))
        shares = rounding.enclose([1 - (inside - low), inside - low])
        for column, share in enumerate(shares.value):
            if low + column < size:
                value[row, low + column, 0] = share
                if shares.radius is not None:
                    radius[row, low + column, 0] = shares.radius[column]
    outer, inner = math.prod(x.shape[:axis]), math.prod(x.shape[axis + 1 :])
    mixer = Conv(
        Enclosure(value, radius), (outer, size, inner), (outer, count, inner), (1,), (0,), (1,)
    )
    return builder.apply(mixer, x, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
