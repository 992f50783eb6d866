"""Questions about faulty networks, and every fault that they allow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.bounds import bound_rows, propagate, sweep
from proofs.check import ARITHMETICS
from proofs.evaluate import evaluate
from proofs.faulty import Shares
from proofs.frame import Batch, Frame, Relaxations
from proofs.proof import Side
from specs.errors import ModelError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    FaultModel,
    Pruning,
    StuckAt,
    WeightBox,
    followed,
)
from specs.faults.placed import place_model
from specs.faults.sites import activation_groups
from specs.faults.struck import WordFaults
from specs.network import Network
from specs.property import Case, Property
from specs.query import Query
from tests.faulty_models import floats, graph_bytes, model_file, node


def tiny_dense(seed: int, sizes: tuple[int, ...] = (2, 2, 2)) -> bytes:
    """Gemm and Relu in turn, whose weights are small integers."""
    rng = np.random.default_rng(seed)
    nodes, stored, before = [], {}, "x"
    for number, (inner, outer) in enumerate(itertools.pairwise(sizes)):
        stored[f"w{number}"] = rng.integers(-3, 4, (outer, inner)).astype(np.float32)
        stored[f"b{number}"] = rng.integers(-3, 4, outer).astype(np.float32)
        last = number == len(sizes) - 2
        nodes.append(
            node(
                "Gemm",
                f"{before} w{number} b{number}",
                "y" if last else f"z{number}",
                transB=1,
                alpha=0.5 if number else 1.0,
            )
        )
        if not last:
            nodes.append(node("Relu", f"z{number}", f"h{number}"))
        before = f"h{number}"
    return graph_bytes(nodes, (1, sizes[0]), stored)


def tiny_conv(seed: int) -> bytes:
    """A convolution with padding, batch normalisation, a shortcut, and a weight used twice."""
    rng = np.random.default_rng(seed)
    stored = {
        "k0": rng.integers(-2, 3, (2, 1, 2, 2)).astype(np.float32),
        "gamma": floats(rng, 2),
        "beta": floats(rng, 2),
        "mean": floats(rng, 2),
        "var": np.abs(floats(rng, 2)) + np.float32(0.25),
        "s": rng.integers(1, 3, (1,)).astype(np.float32),
        "w": rng.integers(-2, 3, (8, 2)).astype(np.float32),
        "shape": np.array([1, 8], dtype=np.int64),
    }
    nodes = [
        node("Conv", "x k0", "a", pads=[1, 1, 0, 0], strides=[1, 1]),
        node("BatchNormalization", "a gamma beta mean var", "n"),
        node("Relu", "n", "h"),
        node("Mul", "h s", "e"),
        node("Add", "e a", "g"),
        node("Relu", "g", "r"),
        node("Reshape", "r shape", "f"),
        node("MatMul", "f w", "m"),
        node("Add", "m s", "y"),
    ]
    return graph_bytes(nodes, (1, 1, 2, 2), stored)


def taps(seed: int) -> bytes:
    """The sum of all that a convolution of positive numbers gives."""
    rng = np.random.default_rng(seed)
    stored = {
        "k": rng.integers(-2, 3, (1, 1, 2, 2)).astype(np.float32),
        "shape": np.array([1, 9], dtype=np.int64),
        "ones": np.ones((9, 1), dtype=np.float32),
    }
    nodes = [
        node("Conv", "x k", "a", pads=[1, 1, 1, 1]),
        node("Reshape", "a shape", "f"),
        node("MatMul", "f ones", "y"),
    ]
    return graph_bytes(nodes, (1, 1, 2, 2), stored)


def one_word(seed: int) -> bytes:
    """``x s + s``, in two nodes."""
    stored = {"s": np.array([1.0 + seed % 2], dtype=np.float32)}
    return graph_bytes([node("Mul", "x s", "e"), node("Add", "e s", "y")], (1, 1), stored)


def two_words(seed: int) -> bytes:
    """``x + s + t``, a word in each of two nodes."""
    stored = {name: np.array([1.0 + seed % 2], dtype=np.float32) for name in "st"}
    return graph_bytes([node("Add", "x s", "e"), node("Add", "e t", "y")], (1, 1), stored)


def faults_in(content: bytes, model: FaultModel) -> WordFaults:
    return WordFaults(place_model(model_file(content), *followed(model)), model)


def replaced(
    faults: WordFaults, rng: np.random.Generator, count: int
) -> Iterator[tuple[WordFault, ...]]:
    """Faults of activations, drawn at random; values are mostly ends of the range."""
    model = faults.model
    assert isinstance(model, ActivationFaults)
    sites = [
        (faults.intact.nodes[tensor].name, group)
        for tensor, groups in activation_groups(faults.placed, model).items()
        for group in groups
    ]
    for _ in range(count):
        chosen = rng.permutation(len(sites))[: rng.integers(model.k + 1)]
        yield tuple(
            WordFault(
                sites[place][0],
                int(entry),
                (),
                [model.lower, model.upper, (model.lower + model.upper) / 2][rng.integers(3)],
            )
            for place in chosen
            for entry in sites[place][1]
        )


def faulty_query(content: bytes, model: FaultModel, cases: Sequence[Case]) -> Query:
    faults = faults_in(content, model)
    network = faults.network
    stated = Property(network.input_size, network.output_size, tuple(cases))
    files = (faults.placed.model,)
    return Query(network, stated, files, stated.digest, (faults,), "faulty")


@dataclass(frozen=True)
class Strike:
    """A fault: which cells of which words, and what the words stand for now."""

    cells: tuple[tuple[str, int, int], ...]
    network: Network


def every_fault(faults: WordFaults) -> Iterator[Strike]:
    """All faults of cells, where all values are numbers and have an image, or of pruning."""
    if isinstance(faults.model, Pruning):
        yield from every_pruning(faults, faults.model.k)
        return
    assert isinstance(faults.model, BitFlips | StuckAt)
    assert faults.cells is not None
    own = faults.cells
    sites = [
        (name, entry, bit)
        for name in faults.parameters
        for entry, mask in enumerate(own.changeable(name).tolist())
        for bit in range(32)
        if mask >> bit & 1
    ]
    for count in range(faults.model.k + 1):
        for chosen in itertools.combinations(sites, count):
            if faults.model.per_word and len({site[:2] for site in chosen}) > 1:
                continue
            network = struck_network(faults, chosen)
            if network is not None:
                yield Strike(chosen, network)


def every_pruning(faults: WordFaults, most: int) -> Iterator[Strike]:
    """All ways to prune parameters that are not 0."""
    sites = [
        (name, entry, 0)
        for name in faults.parameters
        for entry in np.flatnonzero(faults.chosen(name) & (faults.values(name) != 0)).tolist()
    ]
    for count in range(most + 1):
        for chosen in itertools.combinations(sites, count):
            listed = [WordFault(name, entry, (), Fraction(0)) for name, entry, _ in chosen]
            yield Strike(chosen, faulted_network(faults, listed))


def struck_network(faults: WordFaults, chosen: Sequence[tuple[str, int, int]]) -> Network | None:
    assert faults.cells is not None
    memory, changed = faults.cells.memory, dict(faults.cells.memory.values)
    masks: dict[tuple[str, int], int] = {}
    for name, entry, bit in chosen:
        masks[name, entry] = masks.get((name, entry), 0) | 1 << bit
    for (name, entry), mask in masks.items():
        stored = memory.stored[name]
        word = stored.words[entry : entry + 1] ^ np.uint32(mask)
        value, number = stored.decode(np.array([entry]), word)
        if not number[0]:
            return None
        changed[name] = changed[name].copy()
        changed[name][entry] = value[0]
    try:
        return faults.placed.with_values(changed)
    except ModelError:
        return None


def boxed_networks(faults: WordFaults, rng: np.random.Generator, count: int) -> Iterator[Network]:
    """Networks whose weights lie in the box, mostly in its corners."""
    assert isinstance(faults.model, WeightBox)
    for _ in range(count):
        changed = {}
        for name, (low, high) in faults.intervals.items():
            share = rng.choice([0.0, 0.3, 1.0], low.size, p=[0.4, 0.2, 0.4])
            changed[name] = np.clip(low + share * (high - low), low, high)
        yield faults.placed.with_values(changed)


def outputs(network: Network, point: Sequence[Fraction]) -> list[tuple[Fraction, Fraction]]:
    """The ends of the outputs at a point."""
    return [(centre - r, centre + r) for centre, r in evaluate(network, point)]


@dataclass(frozen=True)
class Bounds:
    """What the kernel finds of the outputs: by intervals and by rows."""

    frame: Frame
    batch: Batch
    intervals: tuple[list[Fraction], list[Fraction]]
    rows: tuple[list[Fraction], list[Fraction]]

    @property
    def all(self) -> tuple[tuple[list[Fraction], list[Fraction]], ...]:
        return self.intervals, self.rows


def bounds(
    arithmetic: str,
    network: Network,
    low: np.ndarray,
    high: np.ndarray,
    shares: Shares = (),
) -> Bounds:
    frame = Frame(network, ARITHMETICS[arithmetic]())
    batch = Batch(low[None], high[None], {}, np.zeros(1, dtype=bool), (shares,) if shares else ())
    (output,) = network.outputs
    frame.stored |= {output}
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        sweep(frame, batch, record=True)
        entries = np.arange(network.sizes[output])
        lines = Relaxations(frame, batch)
        found = bound_rows(frame, lines, output, np.zeros_like(entries), entries)
    number = frame.arithmetic.fraction
    interval = tuple([number(v) for v in end[0]] for end in batch.bounds[output])
    rows = tuple([number(v) for v in found[side]] for side in Side)
    return Bounds(frame, batch, interval, rows)  # type: ignore[arg-type]


def holds(found: Bounds, network: Network, point: Sequence[Fraction]) -> bool:
    """Whether the outputs at a point lie within all bounds, allowing for enclosures."""
    values = outputs(network, point)
    return all(
        least <= high and low <= most
        for lower, upper in found.all
        for (low, high), least, most in zip(values, lower, upper, strict=True)
    )
