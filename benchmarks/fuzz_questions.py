"""Questions whose answer is known, with evidence of their neighbours, for the fuzzer.

Each has two thresholds: one that the network reaches, so that nothing may prove the question,
and one far enough away for some proofs to be valid.  What proves the latter is the best
material there is for claiming the former.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from proofs.check import check_proof
from proofs.proof import Proof, ProofBuilder, Side, SlopeHint, neuron_tensors
from proofs.witness import Witness, objection
from specs.network import Network, Product, Univariate
from specs.onnx_reader import read_model_bytes
from specs.perturbation import FORMATS
from specs.property import Case, Property
from specs.query import ModelFile, Query
from specs.squares import with_squares
from tests.networks import evaluate, serialised
from tests.proofs.helpers import Net, RandomProof, at_least, at_most, box_case, extremes, query
from tests.proofs.helpers import random_network as random_relu_network

F = Fraction
MARGINS = (F(1, 1000), F(1, 100), F(1, 10), F(1), F(10), F(1000), F(10**6))


@dataclass(frozen=True, eq=False)
class Known:
    """A violated question, a neighbour that holds, and evidence to start from.

    Attributes:
        kind: of the network, for the tally.
        violated: some input of some case reaches its unsafe set.
        holding: the same with thresholds that are not reached.
        proofs: made for either; each says that it is about ``violated``.
        valid: how many of them prove ``holding``.
        witness: a point that violates ``violated``, or only nearly does.
    """

    kind: str
    violated: Query
    holding: Query
    proofs: tuple[Proof, ...]
    valid: int
    witness: Witness


def known(number: int, seed: int) -> Known:
    """The question with a number, all kinds in turn."""
    rng = np.random.default_rng([seed, 1, number])
    kind = list(KINDS)[number % len(KINDS)]
    violated, case, point = KINDS[kind](rng)
    holding, proofs = violated, list[Proof]()
    for margin in MARGINS:
        holding = moved(violated, margin)
        made = [shaped(rng, _dressed(rng, holding)) for _ in range(3)]
        proofs = [p for p in made if check_proof(holding, p, processes=1).valid]
        if proofs:
            break
    valid = len(proofs)
    cases = sorted(rng.permutation(len(violated.property.cases))[:2].tolist())
    for _ in range(2):
        proofs.append(RandomProof(rng, _dressed(rng, violated)).proof(depth=3, cases=cases))
    claims = [
        Witness(violated.digest, case, disjunct, point)
        for disjunct in range(len(violated.property.cases[case].unsafe))
    ]
    found = [claim for claim in claims if objection(violated, claim) is None]
    return Known(
        kind,
        violated,
        holding,
        tuple(replace(p, question=violated.digest) for p in proofs),
        valid,
        [*found, claims[0]][0],
    )


def _dressed(rng: np.random.Generator, stated: Query) -> Query:
    """At times with squares beside products, for builders of proofs."""
    nodes = stated.network.nodes
    places = [k for k, node in enumerate(nodes) if isinstance(node, Product)]
    if not places or rng.random() < 0.5:
        return stated
    ones = {k: np.ones(stated.network.sizes[k]) for k in places}
    return replace(stated, network=with_squares(stated.network, ones))


def moved(stated: Query, margin: Fraction) -> Query:
    """Every constraint on outputs is harder to satisfy by a margin."""
    cases = []
    for case in stated.property.cases:
        unsafe = tuple(
            tuple(replace(c, constant=c.constant + margin) if c.outputs else c for c in d)
            for d in case.unsafe
        )
        cases.append(replace(case, unsafe=unsafe))
    found = Property(stated.property.input_size, stated.property.output_size, tuple(cases))
    return replace(stated, property=found, property_digest=found.digest)


def shaped(rng: np.random.Generator, stated: Query) -> Proof:
    """A proof with the kinds of nodes that searches write, most of it sensible."""
    made = ProofBuilder(stated, int(rng.integers(3, 9)))
    for case, listed in enumerate(stated.property.cases):
        if rng.random() < 0.2:
            continue
        made.begin_case(case)
        disjuncts = len(listed.unsafe)
        form = made.form([(stated.network.inputs[0], 0, 1.0)], float(rng.normal(scale=0.3)))
        lemmas = []
        if rng.random() < 0.5:
            lemmas = [made.begin_tree([(form, Side.LOWER)])]
            _grow(rng, made, stated, 2, disjuncts)
        made.begin_tree()
        if lemmas:
            made.split_form(form)
            made.cite(lemmas[0])
        _grow(rng, made, stated, 3, disjuncts)
    return made.finish()


def _grow(
    rng: np.random.Generator, made: ProofBuilder, stated: Query, depth: int, left: int
) -> None:
    network = stated.network
    kind = rng.choice(["input", "neuron", "clip", "disjunct", "close"])
    if depth == 0 or kind == "close":
        made.sweep()
        made.close(_slopes(rng, made, stated) if rng.random() < 0.3 else None)
    elif kind == "clip":
        made.clip()
        _grow(rng, made, stated, depth - 1, left)
    elif kind == "disjunct":
        made.split_disjunct(left)
        for _ in range(left):
            _grow(rng, made, stated, depth - 1, 1)
    else:
        if kind == "neuron" and network.nonlinear:
            tensor = int(rng.choice(neuron_tensors(stated)))
            made.split_neuron(tensor, int(rng.integers(network.sizes[tensor])))
        else:
            made.split_input(int(rng.integers(network.input_size)))
        for _ in range(2):
            _grow(rng, made, stated, depth - 1, left)


def _slopes(rng: np.random.Generator, made: ProofBuilder, stated: Query) -> int:
    sizes = stated.network.sizes
    hints = [
        SlopeHint(tensor, side, rng.random(sizes[tensor]))
        for tensor in stated.network.nonlinear
        for side in Side
        if rng.random() < 0.5
    ]
    return made.substitution(hints)


# ---------------------------------------------------------------- violated, and where

Violated = tuple[Query, int, tuple[Fraction, ...]]
"""The question, the case that is violated, and the point (at float precision) that does it."""


def _relu(rng: np.random.Generator) -> Violated:
    """Reached exactly at the maximum, which enumerating the activation patterns gives."""
    network = random_relu_network(rng, int(rng.integers(1, 3)))
    case = _box(network)
    low, high, at = extremes(network, case)
    unsafe = [(at_least(0, high),), (at_least(0, high + 1), at_least(0, high), at_most(0, low - 1))]
    chosen = unsafe[int(rng.integers(2))]
    return query(network, [replace(case, unsafe=chosen[::-1])]), 0, at


def _smooth(rng: np.random.Generator) -> Violated:
    net = Net(2)
    inner = _function(net, net.dense(0, rng.normal(size=(3, 2))), str(rng.choice(SMOOTH)))
    outer = _function(net, net.dense(inner, rng.normal(size=(2, 3))), str(rng.choice(SMOOTH)))
    net.dense(outer, rng.normal(size=(2, 2)))
    return _sampled(rng, net.done())


SMOOTH = ("sigmoid", "tanh", "sin", "erf", "silu", "relu", "sign", "floor")


def _function(net: Net, source: int, name: str) -> int:
    net.nodes.append(Univariate(f"n{len(net.nodes)}", (net.size(source),), source, name))
    return len(net.nodes) - 1


def _product(rng: np.random.Generator) -> Violated:
    net = Net(2)
    left = net.relu(net.dense(0, rng.normal(size=(3, 2)), rng.normal(size=3)))
    right = net.dense(0, rng.normal(size=(3, 2)), rng.normal(size=3))
    net.dense(net.product(left, right), rng.normal(size=(2, 3)))
    return _sampled(rng, net.done())


def _sampled(rng: np.random.Generator, network: Network) -> Violated:
    """A threshold a hair below the largest value found, more than floats can be off by."""
    x = rng.uniform(-1, 1, (2000, network.input_size))
    for scale in (0.3, 0.1, 0.01, 0.001):
        best = x[np.argmax(evaluate(network, x)[:, 0])]
        x = np.clip(best + scale * rng.normal(size=(300, network.input_size)), -1, 1)
        x[0] = best
    value = float(np.max(evaluate(network, x)[:, 0]))
    at = x[np.argmax(evaluate(network, x)[:, 0])]
    threshold = F(value) - F(1 + abs(value)) / 10**9
    stated = query(network, [replace(_box(network), unsafe=(at_least(0, threshold),))])
    return stated, 0, tuple(map(F, at.tolist()))


def _several(rng: np.random.Generator) -> Violated:
    """Cases of which a single one is violated, somewhere among them."""
    network = random_relu_network(rng, 1)
    box = _box(network)
    low, high, at = extremes(network, box)
    beside = [
        Case((F(k),), (F(k + 1),), (at_least(0, F(10) ** 9), at_most(0, -(F(10) ** 9))))
        for k in range(int(rng.integers(1, 4)))
    ]
    unsafe = (at_least(0, high), at_most(0, low - high - 10**6))
    place = int(rng.integers(len(beside) + 1))
    beside.insert(place, replace(box, unsafe=unsafe[:: int(rng.choice([1, -1]))]))
    return query(network, beside), place, at


def _float32(rng: np.random.Generator) -> Violated:
    """Reached by one float32 evaluation of the stored graph, operator by operator."""
    inputs, hidden = 2, 4
    w, b = rng.normal(size=(inputs, hidden)), rng.normal(size=hidden)
    v, c = rng.normal(size=(hidden, 2)), rng.normal(size=2)
    stored = {
        name: numpy_helper.from_array(array.astype(np.float32), name)
        for name, array in (("w", w), ("b", b), ("v", v), ("c", c))
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "c"], ["y"]),
    ]
    ends = [("x", [1, inputs]), ("y", [1, 2])]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in ends)
    content = serialised(helper.make_graph(nodes, "g", [x], [y], list(stored.values())))
    format = FORMATS["float32"]
    network = read_model_bytes(content, None, "m", format)
    points = rng.uniform(-1, 1, (2000, inputs)).astype(np.float32)
    arrays = {name: numpy_helper.to_array(tensor) for name, tensor in stored.items()}
    relu = np.maximum(points @ arrays["w"] + arrays["b"], np.float32(0))
    values = (relu @ arrays["v"] + arrays["c"])[:, 0]
    best = int(np.argmax(values))
    case = replace(_box(network), unsafe=(at_least(0, F(float(values[best]))),))
    stated = Property(inputs, 2, (case,))
    file = ModelFile(None, content, "0")
    asked = Query(network, stated, (file,), stated.digest, (format,))
    return asked, 0, tuple(F(float(v)) for v in points[best])


def _box(network: Network) -> Case:
    size: Sequence[int] = [1] * network.input_size
    return box_case([-s for s in size], size)


KINDS: dict[str, Callable[[np.random.Generator], Violated]] = {
    "relu": _relu,
    "smooth": _smooth,
    "product": _product,
    "several cases": _several,
    "float32": _float32,
}
