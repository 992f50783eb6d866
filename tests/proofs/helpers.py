"""Small questions, and their true answers by exact enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from proofs.check import ARITHMETICS, Checked, check_proof
from proofs.proof import Proof, ProofBuilder
from specs.enclosure import Enclosure, zeros
from specs.linear import Identity, LinearMap, MatMul, Scale
from specs.network import Input, Linear, Network, Term, Univariate
from specs.property import Case, Conjunction, Property, constraint
from specs.query import ModelFile, Query

BOTH = tuple(ARITHMETICS)


def exact(value: object) -> Fraction:
    return Fraction(float(value))  # type: ignore[arg-type]


def query(network: Network, cases: Sequence[Case]) -> Query:
    stated = Property(network.input_size, network.output_size, tuple(cases))
    return Query(network, stated, (ModelFile(None, b"", "0"),), stated.digest)


def box_case(
    lower: Iterable[float],
    upper: Iterable[float],
    *unsafe: Conjunction,
    constraints: Conjunction = (),
) -> Case:
    low, high = tuple(map(Fraction, lower)), tuple(map(Fraction, upper))
    return Case(low, high, tuple(unsafe), constraints)


def at_least(output: int, threshold: object, strict: bool = False) -> Conjunction:
    """Unsafe when an output is at least the threshold."""
    return (constraint({}, {output: Fraction(-1)}, Fraction(threshold), strict),)  # type: ignore[arg-type]


def at_most(output: int, threshold: object, strict: bool = False) -> Conjunction:
    return (constraint({}, {output: Fraction(1)}, -Fraction(threshold), strict),)  # type: ignore[arg-type]


class Net:
    """Builds a network node by node; every method returns the tensor's number."""

    def __init__(self, *inputs: int) -> None:
        self.nodes: list = [Input(f"x{k}", (size,)) for k, size in enumerate(inputs)]

    def size(self, tensor: int) -> int:
        return int(np.prod(self.nodes[tensor].shape))

    def linear(self, *terms: tuple[int, LinearMap], offset: object = None) -> int:
        size = terms[0][1].target_size
        if offset is None:
            offset = zeros(size)
        elif not isinstance(offset, Enclosure):
            offset = Enclosure(np.asarray(offset, dtype=float))
        made = tuple(Term(source, map_) for source, map_ in terms)
        self.nodes.append(Linear(f"n{len(self.nodes)}", (size,), made, offset))
        return len(self.nodes) - 1

    def dense(self, source: int, weight: object, offset: object = None) -> int:
        """``weight`` is ``(target, source)``, as in mathematics."""
        if not isinstance(weight, Enclosure):
            weight = Enclosure(np.asarray(weight, dtype=float).T)
        return self.linear((source, MatMul(weight)), offset=offset)

    def add(self, *sources: int) -> int:
        return self.linear(*((s, Identity(self.size(s))) for s in sources))

    def subtract(self, first: int, second: int) -> int:
        minus = Scale(Enclosure(-np.ones(self.size(second))))
        return self.linear((first, Identity(self.size(first))), (second, minus))

    def relu(self, source: int) -> int:
        self.nodes.append(Univariate(f"n{len(self.nodes)}", (self.size(source),), source, "relu"))
        return len(self.nodes) - 1

    def done(self, *outputs: int) -> Network:
        return Network(tuple(self.nodes), outputs or (len(self.nodes) - 1,))


def builder(stated: Query, bits: int = 7) -> ProofBuilder:
    made = ProofBuilder(stated, bits)
    made.begin_case(0)
    return made


def verdicts(stated: Query, proof: Proof | None) -> dict[str, Checked]:
    return {name: check_proof(stated, proof, arithmetic=name) for name in BOTH}


# ---------------------------------------------------------------- the true answer, exactly

Matrix = list[list[Fraction]]


def matrix_of(term: LinearMap, part: str = "value") -> Matrix:
    """The dense matrix of a map, rows are targets; by unit vectors in rational numbers."""
    weight = None
    if term.weight is not None:
        stored = getattr(term.weight, part)
        stored = np.zeros(term.weight.shape) if stored is None else stored
        weight = np.empty(stored.shape, dtype=object)
        for place, value in np.ndenumerate(stored):
            weight[place] = exact(value)
    unit = np.empty((term.source_size, term.source_size), dtype=object)
    unit[...] = Fraction(0)
    for i in range(term.source_size):
        unit[i, i] = Fraction(1)
    columns = term.forward(unit, weight, lambda a, b: a @ b)
    return [[Fraction(v) for v in row] for row in columns.T]


def outputs_at(network: Network, point: Sequence[Fraction]) -> list[list[Fraction]]:
    """All tensors at a point, in rational numbers; independent of the kernel's evaluation."""
    tensors: list[list[Fraction]] = []
    start = 0
    for number, node in enumerate(network.nodes):
        if isinstance(node, Input):
            tensors.append(list(point[start : start + network.sizes[number]]))
            start += network.sizes[number]
        elif isinstance(node, Linear):
            values = [exact(v) for v in node.offset.value]
            for term in node.terms:
                for row, weights in enumerate(_cached(term.map)):
                    source = tensors[term.source]
                    values[row] += sum(
                        (w * source[k] for k, w in enumerate(weights) if w), Fraction(0)
                    )
            tensors.append(values)
        else:
            tensors.append([max(v, Fraction(0)) for v in tensors[node.source]])
    return tensors


_MATRICES: dict[int, tuple[LinearMap, Matrix]] = {}


def _cached(term: LinearMap) -> Matrix:
    if id(term) not in _MATRICES:
        _MATRICES[id(term)] = (term, matrix_of(term))
    return _MATRICES[id(term)][1]


Affine = tuple[tuple[Fraction, ...], Fraction]
"""Coefficients of the inputs, and a constant."""


def pieces(network: Network) -> Iterable[tuple[list[Affine], list[list[Affine]]]]:
    """Every activation pattern: half spaces ``>= 0`` that define it, and all tensors on it."""
    size = network.input_size

    def extend(number: int, facts: list[Affine], tensors: list[list[Affine]], start: int):
        if number == len(network.nodes):
            yield facts, tensors
            return
        node = network.nodes[number]
        if isinstance(node, Input):
            own = [
                (tuple(Fraction(int(k == start + i)) for k in range(size)), Fraction(0))
                for i in range(network.sizes[number])
            ]
            yield from extend(number + 1, facts, [*tensors, own], start + len(own))
        elif isinstance(node, Linear):
            own = [((Fraction(0),) * size, exact(v)) for v in node.offset.value]
            for term in node.terms:
                for row, weights in enumerate(_cached(term.map)):
                    for k, w in enumerate(weights):
                        if w:
                            own[row] = _plus(own[row], w, tensors[term.source][k])
            yield from extend(number + 1, facts, [*tensors, own], start)
        else:
            source = tensors[node.source]
            zero: Affine = ((Fraction(0),) * size, Fraction(0))
            for signs in itertools.product((True, False), repeat=len(source)):
                more = [a if on else _plus(zero, Fraction(-1), a) for on, a in zip(signs, source)]
                own = [a if on else zero for on, a in zip(signs, source, strict=True)]
                if not _possible(network, [*facts, *more]):
                    continue
                yield from extend(number + 1, [*facts, *more], [*tensors, own], start)

    yield from extend(0, [], [], 0)


def _plus(a: Affine, w: Fraction, b: Affine) -> Affine:
    return tuple(p + w * q for p, q in zip(a[0], b[0], strict=True)), a[1] + w * b[1]


def _possible(network: Network, facts: list[Affine]) -> bool:
    return not any(not any(c) and k < 0 for c, k in facts)


def largest_slack(stated: Query, case: int = 0, disjunct: int = 0) -> Fraction | None:
    """The minimum over the region of the largest ``value`` of a disjunct's constraints.

    At most 0: the disjunct is reached (closure).  ``None``: the region is empty.  For
    networks of one or two inputs, by vertices of ``(x, t)``: minimise ``t`` subject to
    ``value_k(x) <= t`` on every piece, all in rational numbers.
    """
    network = stated.network
    chosen = stated.property.cases[case]
    size = network.input_size
    best: Fraction | None = None
    bounds: list[Affine] = []
    for i in range(size):
        unit = tuple(Fraction(int(k == i)) for k in range(size))
        bounds.append((unit, -chosen.lower[i]))
        bounds.append((tuple(-u for u in unit), chosen.upper[i]))
    for c in chosen.constraints:
        bounds.append(
            _plus(((Fraction(0),) * size, Fraction(0)), Fraction(-1), _affine(c, [], size))
        )
    for facts, tensors in pieces(network):
        y = [a for output in network.outputs for a in tensors[output]]
        rows = [_affine(c, y, size) for c in chosen.unsafe[disjunct]]
        found = _minimise([*bounds, *facts], rows, size)
        if found is not None and (best is None or found < best):
            best = found
    return best


def _affine(c, y: Sequence[Affine], size: int) -> Affine:
    out: Affine = ((Fraction(0),) * size, c.constant)
    for i, w in c.inputs:
        unit: Affine = (tuple(Fraction(int(k == i)) for k in range(size)), Fraction(0))
        out = _plus(out, w, unit)
    for j, w in c.outputs:
        out = _plus(out, w, y[j])
    return out


def _minimise(facts: list[Affine], rows: list[Affine], size: int) -> Fraction | None:
    """Minimum of ``max(rows)`` subject to ``facts >= 0``, by vertices of the epigraph."""
    # In (x, t): facts(x) >= 0 and t - row(x) >= 0; bounded below, so a vertex is optimal.
    spaces = [((*c, Fraction(0)), k) for c, k in facts if any(c)]
    spaces += [((*(-v for v in c), Fraction(1)), -k) for c, k in rows]
    if any(k < 0 for c, k in facts if not any(c)):
        return None
    spaces = list(dict.fromkeys(spaces))
    best: Fraction | None = None
    for chosen in itertools.combinations(spaces, size + 1):
        if not any(c[-1] for c, _ in chosen):
            continue
        point = _solve([list(c) for c, _ in chosen], [-k for _, k in chosen])
        if point is None or (best is not None and point[-1] >= best):
            continue
        if all(sum(p * q for p, q in zip(c, point, strict=True)) + k >= 0 for c, k in spaces):
            best = point[-1]
    return best


def _solve(matrix: Matrix, right: list[Fraction]) -> list[Fraction] | None:
    n = len(matrix)
    rows = [[*row, r] for row, r in zip(matrix, right, strict=True)]
    for column in range(n):
        pivot = next((r for r in range(column, n) if rows[r][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        lead = rows[column][column]
        rows[column] = [v / lead for v in rows[column]]
        for r in range(n):
            if r != column and rows[r][column]:
                factor = rows[r][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[column], strict=True)]
    return [row[-1] for row in rows]
