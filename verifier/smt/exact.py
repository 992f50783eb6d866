"""Small questions as a whole for Z3, in rational numbers.

A model is a violation of the network as its weights are stored; a core names the neurons
whose exact Relu matters, beside the triangle that every one has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import numpy as np
import z3

from proofs.forms import Place
from specs.enclosure import Enclosure
from specs.linear import LinearMap
from specs.network import Input, Linear, Network, Univariate
from specs.property import Case, Constraint


@dataclass(frozen=True)
class Violation:
    """A point that violates a disjunct of a case."""

    disjunct: int
    point: tuple[Fraction, ...]


@dataclass(frozen=True)
class Core:
    """No point does, and it takes the exact Relu of these neurons to see it."""

    neurons: tuple[Place, ...]


def fits(network: Network, neurons: int, coefficients: int) -> bool:
    """Whether a network is of Relus, known exactly, and so small."""
    count = 0
    for number, node in enumerate(network.nodes):
        if isinstance(node, Linear):
            parts = [node.offset, *(t.map.weight for t in node.terms if t.map.weight is not None)]
            if any(part.radius is not None for part in parts):
                return False
            count += sum(term.map.fan_in for term in node.terms) * network.sizes[number]
        elif not isinstance(node, Input) and not (
            isinstance(node, Univariate) and node.function == "relu"
        ):
            return False
    return network.neurons <= neurons and count <= coefficients


def decided(
    network: Network, case: Case, bounds: Mapping[Place, tuple[float, float]], seconds: float
) -> Violation | Core | None:
    """What Z3 says of a case; ``None``: nothing in the time there is.

    Args:
        network: one that :func:`fits`.
        bounds: of pre-activations; those that are 0 on one side for good take no part in a core.
    """
    context = z3.Context()
    solver = z3.Solver(ctx=context)
    solver.set("timeout", max(1, int(1000 * seconds)))
    inputs = [z3.Real(f"x{k}", context) for k in range(network.input_size)]
    exactly: dict[Place, z3.BoolRef] = {}
    tensors: list[list[z3.ArithRef]] = []
    for number, node in enumerate(network.nodes):
        if isinstance(node, Input):
            start = sum(map(len, tensors[:number]))  # inputs come first
            tensors.append(inputs[start : start + network.sizes[number]])
        elif isinstance(node, Linear):
            tensors.append(_sums(node, tensors, context))
        elif isinstance(node, Univariate):
            made = []
            for entry, z in enumerate(tensors[node.source]):
                y = z3.Real(f"y{number}_{entry}", context)
                place = node.source, entry
                exact = exactly.setdefault(place, z3.Bool(f"e{place[0]}_{entry}", context))
                low, high = bounds.get(place, (-np.inf, np.inf))
                solver.add(y >= 0, y >= z)
                solver.add(z3.Implies(exact, z3.Or(y <= 0, y <= z)))
                if np.isfinite(low) and np.isfinite(high) and low < 0 < high:
                    a, b = Fraction(low), Fraction(high)
                    solver.add(
                        y * _real(b - a, context) <= _real(b, context) * (z - _real(a, context))
                    )
                made.append(y)
            tensors.append(made)
    outputs = list(chain.from_iterable(tensors[t] for t in network.outputs))
    for k, x in enumerate(inputs):
        low, high = (_real(end[k], context) for end in (case.lower, case.upper))
        solver.add(x > low if k in case.strict_lower else x >= low)
        solver.add(x < high if k in case.strict_upper else x <= high)
    for row in case.constraints:
        solver.add(_holds(row, inputs, outputs, context))
    violated = [z3.Bool(f"d{k}", context) for k in range(len(case.unsafe))]
    for flag, disjunct in zip(violated, case.unsafe, strict=True):
        for row in disjunct:
            solver.add(z3.Implies(flag, _holds(row, inputs, outputs, context)))
    solver.add(z3.Or(*violated, z3.BoolVal(False, context)))
    found = solver.check(*exactly.values())
    if found == z3.unsat:
        names = {str(flag) for flag in solver.unsat_core()}
        return Core(tuple(place for place, flag in exactly.items() if str(flag) in names))
    if found != z3.sat:
        return None
    model = solver.model()
    chosen = next(k for k, flag in enumerate(violated) if z3.is_true(model.eval(flag, True)))
    values = (model.eval(x, True) for x in inputs)
    return Violation(chosen, tuple(Fraction(v.as_fraction()) for v in values))


def _real(value: Fraction, context: z3.Context) -> z3.RatNumRef:
    return z3.RatVal(value.numerator, value.denominator, context)


def _sums(
    node: Linear, tensors: Sequence[Sequence[z3.ArithRef]], context: z3.Context
) -> list[z3.ArithRef]:
    offset = [Fraction(v) for v in node.offset.value.tolist()]
    parts = [[_real(v, context)] for v in offset]
    for term in node.terms:
        for row, source in zip(_matrix(term.map), tensors[term.source], strict=True):
            for target, weight in enumerate(row):
                if weight:
                    parts[target].append(_real(weight, context) * source)
    return [z3.Sum(*part) if len(part) > 1 else part[0] for part in parts]


def _matrix(term: LinearMap) -> list[list[Fraction]]:
    """Coefficients by source, then target."""

    def rational(values: np.ndarray) -> np.ndarray:
        made = np.empty(values.shape, dtype=object)
        for place, value in np.ndenumerate(values):
            made[place] = Fraction(float(value))
        return made

    stored: Enclosure | None = term.weight
    weight = None if stored is None else rational(stored.value)
    found = term.forward(rational(np.eye(term.source_size)), weight, np.matmul)
    return [[Fraction(value) for value in row] for row in found]


def _holds(
    row: Constraint,
    inputs: Sequence[z3.ArithRef],
    outputs: Sequence[z3.ArithRef],
    context: z3.Context,
) -> z3.BoolRef:
    parts = [_real(row.constant, context)]
    parts += [_real(c, context) * inputs[i] for i, c in row.inputs]
    parts += [_real(c, context) * outputs[j] for j, c in row.outputs]
    total = z3.Sum(*parts) if len(parts) > 1 else parts[0]
    return total < 0 if row.strict else total <= 0
