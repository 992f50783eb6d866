"""Small questions, and their true answers by exact enumeration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from proofs.check import ARITHMETICS, Checked, check_proof
from proofs.proof import Fact, NodeKind, Proof, ProofBuilder, Side, SlopeHint, neuron_tensors
from specs.convolution import Conv
from specs.enclosure import Enclosure, zeros
from specs.linear import Gather, Identity, LinearMap, MatMul, Scale
from specs.network import Input, Linear, Network, Product, Term, Univariate
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

    def product(self, left: int, right: int) -> int:
        self.nodes.append(Product(f"n{len(self.nodes)}", (self.size(left),), left, right))
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
Point = tuple[Fraction, ...]


def value_at(affine: Affine, point: Point) -> Fraction:
    return sum((c * x for c, x in zip(affine[0], point, strict=True)), affine[1])


def clip(cell: list[Point], affine: Affine) -> list[Point]:
    """The part of a convex cell (its vertices in order) where a function is at least 0."""
    values = [value_at(affine, point) for point in cell]
    if all(v >= 0 for v in values):
        return cell
    kept: list[Point] = []
    for k, (point, value) in enumerate(zip(cell, values, strict=True)):
        before, last = cell[k - 1], values[k - 1]
        if value * last < 0:
            share = last / (last - value)
            kept.append(tuple(a + share * (b - a) for a, b in zip(before, point, strict=True)))
        if value >= 0:
            kept.append(point)
    return list(dict.fromkeys(kept))


def region(case: Case) -> list[Point]:
    """The vertices of a case's region, of one or two inputs."""
    (a, b), *more = list(zip(case.lower, case.upper, strict=True))
    cell: list[Point] = [(a,), (b,)]
    if more:
        c, d = more[0]
        cell = [(a, c), (b, c), (b, d), (a, d)]
    for c in case.constraints:
        cell = clip(cell, _scaled(_affine(c, [], len(case.lower)), Fraction(-1)))
    return list(dict.fromkeys(cell))


def cells(network: Network, cell: list[Point]) -> Iterable[tuple[list[Point], list[list[Affine]]]]:
    """Every activation pattern that a region meets: its cell, and all tensors on it."""
    size = network.input_size
    zero: Affine = ((Fraction(0),) * size, Fraction(0))

    def extend(number, cell, tensors, start):
        if not cell:
            return
        if number == len(network.nodes):
            yield cell, tensors
            return
        node = network.nodes[number]
        if isinstance(node, Input):
            own = [_unit(size, start + i) for i in range(network.sizes[number])]
            yield from extend(number + 1, cell, [*tensors, own], start + len(own))
        elif isinstance(node, Linear):
            own = [((Fraction(0),) * size, exact(v)) for v in node.offset.value]
            for term in node.terms:
                for row, weights in enumerate(_cached(term.map)):
                    for k, w in enumerate(weights):
                        if w:
                            own[row] = _plus(own[row], w, tensors[term.source][k])
            yield from extend(number + 1, cell, [*tensors, own], start)
        else:
            yield from phases(number, cell, tensors, [], start)

    def phases(number, cell, tensors, own, start):
        source = tensors[network.nodes[number].source]
        if len(own) == len(source):
            yield from extend(number + 1, cell, [*tensors, own], start)
            return
        here = source[len(own)]
        values = [value_at(here, point) for point in cell]
        if max(values) > 0:
            yield from phases(number, clip(cell, here), tensors, [*own, here], start)
        if min(values) < 0 or max(values) <= 0:
            part = clip(cell, _scaled(here, Fraction(-1)))
            yield from phases(number, part, tensors, [*own, zero], start)

    yield from extend(0, cell, [], 0)


def reached(stated: Query, case: int = 0) -> bool:
    """Whether some point of a case's closed region satisfies a disjunct's closure."""
    chosen, network = stated.property.cases[case], stated.network
    for cell, tensors in cells(network, region(chosen)):
        y = [a for output in network.outputs for a in tensors[output]]
        for disjunct in chosen.unsafe:
            part = cell
            for c in disjunct:
                row = _affine(c, y, network.input_size)
                part = clip(part, _scaled(row, Fraction(-1))) if part else part
            if part:
                return True
    return False


def extremes(network: Network, case: Case, output: int = 0) -> tuple[Fraction, Fraction, Point]:
    """Minimum and maximum of an output over a case's region, and where the latter is."""
    values = []
    for cell, tensors in cells(network, region(case)):
        y = [a for tensor in network.outputs for a in tensors[tensor]]
        values += [(value_at(y[output], point), point) for point in cell]
    return min(values)[0], max(values)[0], max(values)[1]


def _unit(size: int, i: int) -> Affine:
    return tuple(Fraction(int(k == i)) for k in range(size)), Fraction(0)


def _scaled(a: Affine, w: Fraction) -> Affine:
    return tuple(w * c for c in a[0]), w * a[1]


def _plus(a: Affine, w: Fraction, b: Affine) -> Affine:
    return tuple(p + w * q for p, q in zip(a[0], b[0], strict=True)), a[1] + w * b[1]


def _affine(c, y: Sequence[Affine], size: int) -> Affine:
    out: Affine = ((Fraction(0),) * size, c.constant)
    for i, w in c.inputs:
        out = _plus(out, w, _unit(size, i))
    for j, w in c.outputs:
        out = _plus(out, w, y[j])
    return out


# ------------------------------------------------------------------------ random networks


def random_weights(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small dyadics or floats with all their bits, some of them zero."""
    values = rng.normal(size=shape)
    if rng.random() < 0.5:
        values = np.rint(values * 4) / 4
    return values * (rng.random(shape) < 0.85)


def enclosed(rng: np.random.Generator, values: np.ndarray, share: float) -> Enclosure:
    radius = None if rng.random() >= share else np.abs(rng.normal(size=values.shape)) * 1e-3
    return Enclosure(values, radius)


def random_network(rng: np.random.Generator, inputs: int = 1, radii: float = 0.0) -> Network:
    """Dense and convolutional layers, residuals, concatenations, several readers."""
    net = Net(inputs) if inputs < 2 or rng.random() < 0.7 else Net(*[1] * inputs)
    current = 0
    if len(net.nodes) > 1:  # several input tensors are put together first
        parts = [
            (k, Gather(np.where(np.arange(inputs) == k, 0, -1), 1)) for k in range(len(net.nodes))
        ]
        current = net.linear(*parts)

    def dense(source: int, size: int) -> int:
        weight = enclosed(rng, random_weights(rng, net.size(source), size), radii)
        offset = enclosed(rng, random_weights(rng, size), radii)
        return net.linear((source, MatMul(weight)), offset=offset)

    for _ in range(int(rng.integers(1, 3))):
        kind = rng.choice(["dense", "conv", "residual", "concat", "direct"])
        if kind == "dense":
            current = net.relu(dense(current, 3))
        elif kind == "conv":
            wide = dense(current, 4)
            shape = (1, 1, 4), (1, 1, 3)
            kernel = enclosed(rng, random_weights(rng, 1, 1, 2), radii)
            map_ = Conv(kernel, *shape, (1,), (0,), (1,), 1)
            current = net.relu(net.linear((wide, map_), offset=random_weights(rng, 3)))
        elif kind == "residual":
            inner = net.relu(dense(current, 2))
            current = net.add(dense(inner, net.size(current)), current)
        elif kind == "concat":
            a, b = net.relu(dense(current, 2)), dense(current, 1)
            first, second = np.array([0, 1, -1]), np.array([-1, -1, 0])
            current = net.linear((a, Gather(first, 2)), (b, Gather(second, 1)))
        else:
            current = net.relu(current)
    dense(current, 2)
    return net.done()


def member(rng: np.random.Generator, network: Network) -> Network:
    """A network whose constants lie anywhere in the enclosures of another."""

    def inside(enclosure: Enclosure) -> Enclosure:
        if enclosure.radius is None:
            return enclosure
        drawn = enclosure.value + rng.choice([-1.0, -0.5, 0.0, 1.0], size=enclosure.shape) * (
            enclosure.radius
        )
        for place, value in np.ndenumerate(drawn):  # the sum was rounded, perhaps outward
            if abs(exact(value) - exact(enclosure.value[place])) > exact(enclosure.radius[place]):
                drawn[place] = enclosure.value[place]
        return Enclosure(drawn)

    nodes: list = []
    for node in network.nodes:
        if isinstance(node, Linear):
            terms = tuple(
                t
                if t.map.weight is None
                else Term(t.source, replace(t.map, weight=inside(t.map.weight)))
                for t in node.terms
            )
            node = replace(node, terms=terms, offset=inside(node.offset))
        nodes.append(node)
    return Network(tuple(nodes), network.outputs)


# -------------------------------------------------------------------------- random proofs


class RandomProof:
    """Writes proofs that are well-formed and otherwise as wild as they can be."""

    def __init__(self, rng: np.random.Generator, stated: Query, wild: float = 0.3) -> None:
        self.rng, self.stated, self.wild = rng, stated, wild
        self.made = ProofBuilder(stated, int(rng.integers(1, 12)))
        self.lemmas: list[int] = []
        # Of their own, so that the seeds by which mutants are known keep their meaning.
        self.scaling = np.random.default_rng(len(stated.network.nodes))

    def proof(self, depth: int = 4, cases: Sequence[int] = (0,)) -> Proof:
        rng = self.rng
        for case in cases:
            self.lemmas = []
            steps = [self.step(case, rows=True) for _ in range(int(rng.integers(0, 3)))]
            prelude = [(NodeKind.BOUND, step) for step in steps]
            if rng.random() < 0.7:
                prelude.insert(0, (NodeKind.SWEEP, int(rng.integers(0, 2))))
            self.made.begin_case(case, prelude)
            self.forms = [self.form() for _ in range(3)]
            disjuncts = len(self.stated.property.cases[case].unsafe)
            for _ in range(int(rng.integers(0, 3))):
                chosen = rng.integers(0, len(self.forms), size=int(rng.integers(0, 3)))
                literals = [(self.forms[k], Side(int(rng.integers(0, 2)))) for k in chosen]
                one = int(rng.integers(0, disjuncts)) if rng.random() < 0.5 else None
                number = self.made.begin_tree(literals, one)
                self.tree(case, int(rng.integers(0, 3)), 1 if one is not None else disjuncts)
                self.lemmas.append(number)
            self.made.begin_tree()
            self.tree(case, depth, disjuncts)
        proof = self.made.finish()
        if rng.random() < self.wild / 2:  # wider types hold wilder numbers
            for name in ("multiplier_value", "weight_value"):
                values = proof.arrays[name].astype(np.float64)
                values *= rng.choice([1.0, 1e-270, 1e250], size=values.shape)
                proof = with_arrays(proof, **{name: values})
        return proof

    def tree(self, case: int, depth: int, disjuncts: int) -> None:
        rng, made = self.rng, self.made
        kinds = ["close", "cite", "sweep", "bound", "clip", "input", "neuron", "form", "each"]
        kind = rng.choice(kinds)
        if depth <= 0 or kind == "close" or (kind == "cite" and not self.lemmas):
            made.close(self.hints(case) if rng.random() < 0.8 else None)
        elif kind == "cite":
            made.cite(int(rng.choice(self.lemmas)))
        elif kind == "sweep":
            made.sweep(bool(rng.integers(0, 2)))
            self.tree(case, depth - 1, disjuncts)
        elif kind == "bound":
            made.bound(self.step(case))
            self.tree(case, depth - 1, disjuncts)
        elif kind == "clip":
            made.clip(self.hints(case) if rng.random() < 0.5 else None)
            self.tree(case, depth - 1, disjuncts)
        elif kind == "each":
            made.split_disjunct(disjuncts)
            for _ in range(disjuncts):
                self.tree(case, depth - 1, 1)
        else:
            self.split(kind)
            self.tree(case, depth - 1, disjuncts)
            self.tree(case, depth - 1, disjuncts)

    def split(self, kind: str) -> None:
        rng, made, network = self.rng, self.made, self.stated.network
        if kind == "input" or not network.nonlinear:
            point = None if rng.random() < 0.5 else float(rng.normal())
            made.split_input(int(rng.integers(0, network.input_size)), point)
        elif kind == "neuron":
            tensor = int(rng.choice(neuron_tensors(self.stated)))
            index = int(rng.integers(0, network.sizes[tensor]))
            made.split_neuron(tensor, index, 0.0 if rng.random() < 0.7 else float(rng.normal()))
        else:
            made.split_form(int(rng.choice(self.forms)))

    def form(self) -> int:
        rng, network = self.rng, self.stated.network
        entries = []
        for _ in range(int(rng.integers(0, 4))):
            tensor = int(rng.integers(0, len(network.nodes)))
            index = int(rng.integers(0, network.sizes[tensor]))
            entries.append((tensor, index, float(rng.choice([1.0, -1.0, rng.normal(), 1e30]))))
        if rng.random() < 0.3:
            entries = [(0, 0, 1.0)]
        return self.made.form(entries, float(rng.normal()))

    def number(self) -> float:
        rng = self.rng
        if rng.random() < self.wild:
            return float(rng.choice([0.0, -1.0, 1e-30, 1e30, 1e10, 1e-10, 3.0, 3e38]))
        return float(2.0 ** rng.normal(scale=2.0))

    def slopes(self, rows: int = 1) -> list[SlopeHint]:
        rng, network, hints = self.rng, self.stated.network, []
        for tensor in network.nonlinear:
            for side in Side:
                if rng.random() < 0.5:
                    continue
                size = network.sizes[tensor]
                picked = None
                if rng.random() < 0.3:
                    picked = rng.permutation(size)[: int(rng.integers(1, size + 1))]
                count = rows if rng.random() < 0.5 else 1
                values = rng.random((count, size if picked is None else len(picked)))
                if rng.random() < self.wild:
                    values = values * rng.choice([-1.0, 3.0, 2000.0, -5e4])
                hints.append(SlopeHint(tensor, side, values, picked))
        return hints

    def hints(self, case: int, rows: int = 1) -> int:
        rng, stated = self.rng, self.stated
        neurons = sum(stated.network.sizes[t] for t in neuron_tensors(stated))
        listed = stated.property.cases[case]
        facts = []
        for _ in range(int(rng.integers(0, 5))):
            kind = Fact(int(rng.integers(0, 5)))
            limit = neurons if kind in (Fact.LOWER, Fact.UPPER) else 4
            if limit:
                facts.append((kind, int(rng.integers(0, limit)), self.number()))
        weights = []
        if rng.random() < 0.3:
            longest = max((len(d) for d in listed.unsafe), default=0)
            weights = [self.number() for _ in range(longest)]
        stop = None
        if rng.random() < 0.2 and stated.network.nonlinear:
            stop = int(rng.choice([*neuron_tensors(stated), *stated.network.nonlinear]))
        keep = None
        if stop is not None and self.scaling.random() < 0.7:
            size = stated.network.sizes[stop]
            keep = self.scaling.permutation(size)[: int(self.scaling.integers(0, size + 1))]
        return self.made.substitution(self.slopes(rows), facts, weights, stop, keep)

    def step(self, case: int, rows: bool | None = None) -> int:
        rng, network = self.rng, self.stated.network
        if not network.nonlinear:
            raise ValueError("a network without neurons has no bound steps")
        target = int(rng.choice(neuron_tensors(self.stated)))
        chosen = None
        if rows or rng.random() < 0.5:
            size = network.sizes[target]
            chosen = rng.permutation(size)[: int(rng.integers(1, size + 1))]
        sides = [(Side.LOWER,), (Side.UPPER,), tuple(Side)][int(rng.integers(0, 3))]
        hints = self.hints(case, 1 if chosen is None else len(chosen))
        scales, own = None, self.scaling
        if chosen is not None and own.random() < 0.5:
            most = 128 if own.random() < self.wild else 6
            scales = own.integers(-most, most, (len(sides), len(chosen)))
        return self.made.step(
            target,
            chosen,
            sides,
            hints if rng.random() < 0.8 else None,
            scales,
            as_stored=bool(own.random() < 0.3),
        )


def with_arrays(proof: Proof, **arrays: np.ndarray) -> Proof:
    return replace(proof, arrays={**proof.arrays, **arrays})


def mutated(rng: np.random.Generator, proof: Proof) -> Proof:
    """A proof with a few numbers of its arrays changed."""
    arrays = {name: array.copy() for name, array in proof.arrays.items()}
    filled = [name for name, array in arrays.items() if array.size]
    for _ in range(int(rng.integers(1, 4))):
        array = arrays[str(rng.choice(filled))]
        place = int(rng.integers(0, array.size))
        if array.dtype.kind == "f":
            array[place] = rng.choice([-1.0, 0.0, 1e30, 1e-30, -array[place], np.nan, np.inf])
        else:
            other = int(array[int(rng.integers(0, array.size))])
            drawn = int(rng.choice([other, 0, 1, int(array[place]) + 1, int(array[place]) - 1]))
            info = np.iinfo(array.dtype)
            array[place] = min(max(drawn, info.min), info.max)
    return replace(proof, arrays=arrays)
