"""Builders: common questions stated in Python.

A model is the path of an ONNX file, or a network with the file it was read from.  Numbers
are taken exactly: a float means the rational that it is, a string the decimal it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from specs.decimals import parse_decimal
from specs.errors import QuestionError
from specs.network import Network, Node, moved
from specs.onnx_reader import read_model
from specs.perturbation import rounding_of
from specs.property import Case, Conjunction, Constraint, Property, constraint
from specs.query import ModelFile, Query

Model = str | Path | tuple[Network, ModelFile]
COPY_PREFIX = "farkas:copy2/"
"""What the tensors of the second copy in a two-copy query are prefixed with."""


def robustness(
    model: Model,
    centre: Any,
    label: int,
    radius: Any,
    *,
    target: int | None = None,
    lower: Any = None,
    upper: Any = None,
) -> Query:
    """Every input within ``radius`` of ``centre`` is classified as ``label``.

    Unsafe is an input where some other output is at least output ``label``; with
    ``target``, where output ``target`` is.

    Args:
        centre: one number per input, in any shape.
        radius: a number, or one per input (L-infinity ball or box).
        lower, upper: clip the region to these bounds, each a number or one per input.

    Raises:
        QuestionError: an index out of range, a number that is not finite, a negative
            radius, or a region that the clip leaves empty.
    """
    network, file = _model(model)
    low, high = ball(network.input_size, centre, radius, lower, upper)
    unsafe = misclassified(network.output_size, label, target)
    title = f"robustness of label {label}" + ("" if target is None else f" against {target}")
    return _query(network, (file,), (Case(low, high, unsafe),), title)


def output_range(
    model: Model,
    lower: Any,
    upper: Any,
    output: int,
    *,
    minimum: Any = None,
    maximum: Any = None,
) -> Query:
    """Over the box from ``lower`` to ``upper``, ``minimum <= y[output] <= maximum``.

    Either limit may be left out; unsafe is an output strictly beyond one.

    Raises:
        QuestionError: an index out of range, numbers that are not finite or out of order,
            or no limit.
    """
    network, file = _model(model)
    low, high = box(network.input_size, lower, upper)
    unsafe = out_of_range(network.output_size, output, minimum, maximum)
    return _query(network, (file,), (Case(low, high, unsafe),), f"range of output {output}")


def monotonicity(
    model: Model,
    lower: Any,
    upper: Any,
    features: int | Sequence[int],
    output: int,
    direction: str = "increasing",
) -> Query:
    """Raising ``features`` never lowers the output (or never raises it, if "decreasing").

    The query runs over two copies of the network, a and b, on the same box: inputs are
    equal but for ``features``, where ``x_a[i] <= x_b[i]``.  Unsafe is
    ``y_a[output] > y_b[output]``, or ``<`` if decreasing.

    Raises:
        QuestionError: an index out of range or named twice, numbers that are not finite or
            out of order, or another direction than the two.
    """
    network, file = _model(model)
    size = network.input_size
    low, high = box(size, lower, upper)
    moved = [features] if isinstance(features, int | np.integer) else list(features)
    moved = [_index(i, size, "feature") for i in moved]
    if not moved or len(set(moved)) != len(moved):
        raise QuestionError("monotonicity needs one or more features, each named once")
    if direction not in ("increasing", "decreasing"):
        raise QuestionError(f"direction '{direction}' is neither 'increasing' nor 'decreasing'")
    one = Fraction(1)
    linking = []
    for i in range(size):
        linking.append(constraint({i: one, size + i: -one}, {}, Fraction(0)))
        if i not in moved:
            linking.append(constraint({i: -one, size + i: one}, {}, Fraction(0)))
    j = _index(output, network.output_size, "output")
    sign = -one if direction == "increasing" else one
    wrong = constraint({}, {j: sign, network.output_size + j: -sign}, Fraction(0), strict=True)
    case = Case(low + low, high + high, ((wrong,),), tuple(linking))
    return _query(two_copies(network), (file, file), (case,), f"output {j} {direction}")


def two_copies(network: Network) -> Network:
    """The network beside a copy of itself; the copy's tensors carry ``COPY_PREFIX``.

    Inputs and outputs are those of the network, then those of the copy.
    """
    shift = len(network.nodes)
    copy = tuple(_copied(node, shift) for node in network.nodes)
    outputs = network.outputs + tuple(o + shift for o in network.outputs)
    aliases = dict(network.aliases)
    aliases |= {COPY_PREFIX + name: i + shift for name, i in network.aliases.items()}
    return Network(network.nodes + copy, outputs, aliases)


def _copied(node: Node, shift: int) -> Node:
    renamed = replace(node, name=COPY_PREFIX + node.name)
    return moved(renamed, lambda number: number + shift)


def ball(
    size: int, centre: Any, radius: Any, lower: Any = None, upper: Any = None
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """The box ``|x - centre| <= radius``, cut by ``lower`` and ``upper`` where given.

    Raises:
        QuestionError: sizes that differ, numbers that are not finite, a negative radius,
            or nothing left.
    """
    middle = vector(centre, size, "centre", spread=False)
    reach = vector(radius, size, "radius")
    if any(r < 0 for r in reach):
        raise QuestionError(f"radius {min(reach)} is negative")
    low = [c - r for c, r in zip(middle, reach, strict=True)]
    high = [c + r for c, r in zip(middle, reach, strict=True)]
    if lower is not None:
        low = [max(a, b) for a, b in zip(low, vector(lower, size, "lower"), strict=True)]
    if upper is not None:
        high = [min(a, b) for a, b in zip(high, vector(upper, size, "upper"), strict=True)]
    return _ordered(low, high)


def box(size: int, lower: Any, upper: Any) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """The box from ``lower`` to ``upper``, each a number or one per input.

    Raises:
        QuestionError: sizes that differ, numbers that are not finite or out of order.
    """
    return _ordered(vector(lower, size, "lower"), vector(upper, size, "upper"))


def misclassified(outputs: int, label: int, target: int | None = None) -> tuple[Conjunction, ...]:
    """Unsafe: some other output, or output ``target``, is at least output ``label``.

    Raises:
        QuestionError: an index out of range, or ``target`` is ``label``.
    """
    label = _index(label, outputs, "label")
    others = [j for j in range(outputs) if j != label]
    if target is not None:
        others = [_index(target, outputs, "target")]
        if others == [label]:
            raise QuestionError(f"target {target} is the label itself")
    one = Fraction(1)
    return tuple((constraint({}, {label: one, j: -one}, Fraction(0)),) for j in others)


def out_of_range(
    outputs: int, output: int, minimum: Any = None, maximum: Any = None
) -> tuple[Conjunction, ...]:
    """Unsafe: an output strictly below ``minimum`` or strictly above ``maximum``.

    Raises:
        QuestionError: an index out of range, no limit, or limits out of order.
    """
    j = _index(output, outputs, "output")
    if minimum is None and maximum is None:
        raise QuestionError("an output range needs a minimum or a maximum")
    limits: list[tuple[Constraint]] = []
    low = None if minimum is None else number(minimum, "minimum")
    high = None if maximum is None else number(maximum, "maximum")
    if low is not None and high is not None and low > high:
        raise QuestionError(f"the minimum {low} exceeds the maximum {high}")
    if low is not None:
        limits.append((constraint({}, {j: Fraction(1)}, -low, strict=True),))
    if high is not None:
        limits.append((constraint({}, {j: Fraction(-1)}, high, strict=True),))
    return tuple(limits)


def vector(values: Any, size: int, name: str, *, spread: bool = True) -> list[Fraction]:
    """One exact number per input; a single number stands for all, if ``spread``.

    Raises:
        QuestionError: another count than ``size``, or a number that is not finite.
    """
    if isinstance(values, np.ndarray):
        values = values.reshape(-1).tolist() if values.ndim else values.item()
    if not isinstance(values, Iterable) or isinstance(values, str):
        if not spread and size != 1:
            raise QuestionError(f"{name}: one number, but the network has {size} inputs")
        return [number(values, name)] * size
    flat = list(_flat(values))
    if len(flat) != size:
        raise QuestionError(f"{name}: {len(flat)} numbers, but the network has {size} inputs")
    return [number(value, f"{name}[{i}]") for i, value in enumerate(flat)]


def number(value: Any, name: str) -> Fraction:
    """The exact rational that ``value`` is.

    Raises:
        QuestionError: it is no number, or not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    try:
        if isinstance(value, str):
            return parse_decimal(value)
        if isinstance(value, Decimal | float | int | Fraction) and not isinstance(value, bool):
            return Fraction(value)
    except (ValueError, OverflowError):
        raise QuestionError(f"{name}: {value} is not a finite number") from None
    raise QuestionError(f"{name}: {value!r} is not a number")


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, np.ndarray):
            yield from value.reshape(-1).tolist()
        elif isinstance(value, Iterable) and not isinstance(value, str):
            yield from _flat(value)
        else:
            yield value


def _ordered(
    low: Sequence[Fraction], high: Sequence[Fraction]
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        if a > b:
            raise QuestionError(f"input {i}: the lower bound {a} exceeds the upper bound {b}")
    return tuple(low), tuple(high)


def _index(index: int, size: int, name: str) -> int:
    if isinstance(index, bool) or not isinstance(index, int | np.integer):
        raise QuestionError(f"{name}: {index!r} is not an integer")
    if not 0 <= index < size:
        raise QuestionError(f"{name} {index} is out of range: there are {size}, from 0 on")
    return int(index)


def _model(model: Model) -> tuple[Network, ModelFile]:
    return model if isinstance(model, tuple) else read_model(Path(model))


def _query(
    network: Network, files: tuple[ModelFile, ...], cases: tuple[Case, ...], title: str
) -> Query:
    stated = Property(network.input_size, network.output_size, cases)
    format = rounding_of(network.semantics)
    perturbations = () if format is None else (format,)
    return Query(network, stated, files, stated.digest, perturbations, title)
