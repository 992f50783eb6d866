"""Random states of a proof's paths, and all that they say of faulty networks.

A state holds bounds of every stored tensor; they must hold for every point and every fault that
the path allows.  So must whatever is bounded by substituting back with any slopes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from proofs.bounds import bound_rows, propagate, sweep
from proofs.check import ARITHMETICS
from proofs.domain import NO_NODE, Domains, Literal, Path, assume
from proofs.evaluate import Value, evaluate
from proofs.faulty import Shares, parted, whole_budget
from proofs.frame import Batch, Frame, Relaxations
from proofs.proof import Side
from specs.errors import EvidenceError, QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.models import ActivationFaults
from specs.faults.sites import activation_groups
from specs.faults.struck import WordFaults
from specs.network import Input, Network
from tests.proofs.faulty_nets import oracle, random_strikes

Point = tuple[Fraction, ...]
Values = dict[int, list[Value]]


@dataclass(frozen=True)
class Run:
    """What the tensors of a struck network are at a point, with a fault.

    Attributes:
        counts: how many faults strike each word.
        values: by tensor of the network with its errors.
    """

    counts: dict[int, int]
    point: Point
    values: Values


def counted(faults: WordFaults, listed: Sequence[WordFault]) -> dict[int, int]:
    """By the number of a word, how many faults strike it."""
    if not isinstance(faults.model, ActivationFaults):
        if faults.cells is None:
            return {}
        whole = faults.model.per_word  # type: ignore[union-attr]
        return {faults.first_words[f.tensor] + f.entry: 1 if whole else len(f.bits) for f in listed}
    found, first = {}, 0
    for tensor, groups in activation_groups(faults.placed, faults.model).items():
        name = faults.placed.network.nodes[tensor].name
        entries = {f.entry for f in listed if f.tensor == name}
        for number, group in enumerate(groups):
            if entries & set(group.tolist()):
                found[first + number] = 1
        first += len(groups)
    return found


def runs(
    faults: WordFaults,
    content: bytes,
    box: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
    count: int,
    points: int,
) -> list[Run]:
    """Faults and points at random; what is followed must agree with what a rewritten file says.

    Raises:
        AssertionError: it does not.
    """
    found = []
    for listed in random_strikes(faults, rng, count):
        try:
            network = faulted_network(faults, listed)
        except QuestionError:
            continue
        plain = oracle(content, faults, listed)
        assert plain is not None
        opened = replace(network, outputs=tuple(range(len(network.nodes))), aliases={})
        for _ in range(points):
            share = rng.choice([0.0, 0.25, 0.5, 1.0], box[0].size)
            point = tuple(map(Fraction, (box[0] + share * (box[1] - box[0])).tolist()))
            values = _split(network, evaluate(opened, point))
            (output,) = network.outputs
            for (a, r), (b, s) in zip(values[output], evaluate(plain, point), strict=True):
                assert abs(a - b) <= r + s, f"{a} where it is {b} in rewritten files: {listed}"
            found.append(Run(counted(faults, listed), point, _numbered(faults, network, values)))
    return found


def _split(network: Network, values: list[Value]) -> Values:
    found, start = {}, 0
    for number, size in enumerate(network.sizes):
        found[number] = values[start : start + size]
        start += size
    return found


def _numbered(faults: WordFaults, network: Network, values: Values) -> Values:
    """By the numbers of the network with errors; of what stands before an error nothing."""
    tensors = faults.network.tensors
    return {
        tensors[node.name]: values[number]
        for number, node in enumerate(network.nodes)
        if node.name in tensors and not node.name.endswith("/intact")
    }


def within(run: Run, shares: Shares) -> bool:
    """Whether a fault is one that shares allow."""
    for number, (first, most) in enumerate(shares):
        end = shares[number + 1][0] if number + 1 < len(shares) else np.inf
        if sum(c for word, c in run.counts.items() if first <= word < end) > most:
            return False
    return True


def escapes(
    faults: WordFaults,
    content: bytes,
    arithmetic: str,
    rng: np.random.Generator,
    depth: int = 4,
    strikes: int = 25,
) -> list[str]:
    """What some state of a random path does not hold, in words."""
    network = faults.network
    low = rng.integers(-3, 3, network.input_size) / 2.0
    width = rng.integers(0, 3, network.input_size) / 2.0
    at_once = bool(rng.integers(2))  # many faults at a point, or some at several
    box = low, low + width * (not at_once)
    alive = runs(faults, content, box, rng, *((3 * strikes, 1) if at_once else (strikes, 3)))
    frame = Frame(network, ARITHMETICS[arithmetic]())
    (output,) = network.outputs
    frame.stored |= {output}
    shares = whole_budget(network)
    batch = Batch(box[0][None], box[1][None], {}, np.zeros(1, dtype=bool))
    found: list[str] = []
    with np.errstate(all="ignore"):
        propagate(frame, batch, record=True)
        domains = Domains(np.array([NO_NODE]), [Path(0, (0,))], batch)
        for step in range(depth):
            try:
                alive, shares, domains = _moved(frame, rng, alive, shares, domains, step)
                found += _missed(frame, alive, domains)
                found += _rows_missed(frame, rng, alive, domains)
            except EvidenceError as error:
                if "unbounded" not in str(error) and "2**100" not in str(error):
                    raise
                return found
    return found


def _moved(
    frame: Frame,
    rng: np.random.Generator,
    alive: list[Run],
    shares: Shares,
    domains: Domains,
    step: int,
) -> tuple[list[Run], Shares, Domains]:
    """One step down a random path, and the runs that go along."""
    network = frame.network
    kind = rng.choice(["sweep", "faults", "input", "neuron"])
    if kind == "faults" and shares:
        words = 1 + max(int(network.nodes[t].error.words[-1]) for t in network.struck)  # type: ignore[union-attr]
        word = int(rng.integers(1, words + 1))
        if all(word != first for first, _ in shares):
            ways = parted(shares, word)
            kept = [[run for run in alive if within(run, way)] for way in ways]
            covered = {id(run) for part in kept for run in part}
            assert covered == {id(run) for run in alive}, "a split does not cover"
            number = int(rng.integers(len(ways)))
            batch = replace(domains.batch, shares=(ways[number],))
            return kept[number], ways[number], Domains(domains.nodes, domains.paths, batch)
    if kind in ("input", "neuron"):
        listed = network.inputs if kind == "input" else network.preactivations
        tensor = int(rng.choice(listed)) if len(listed) else network.inputs[0]
        entry, point = int(rng.integers(network.sizes[tensor])), float(rng.integers(-2, 3) / 2)
        side = Side(int(rng.integers(2)))
        literal = Literal((((tensor, entry), 1.0),), point, side)
        alive = [run for run in alive if _holds(run, tensor, entry, point, side)]
        domains = assume(frame, domains, [literal])
    elif step or rng.integers(2):
        sweep(frame, domains.batch, record=not step)
    propagate(frame, domains.batch)
    return alive, shares, domains


def _holds(run: Run, tensor: int, entry: int, point: float, side: Side) -> bool:
    if tensor not in run.values:
        return False
    centre, radius = run.values[tensor][entry]
    if side is Side.LOWER:
        return centre + radius <= point
    return centre - radius >= point


def _missed(frame: Frame, alive: list[Run], domains: Domains) -> list[str]:
    """Runs that leave the stored bounds of a state, or one that was taken to be empty."""
    batch, number = domains.batch, frame.arithmetic.fraction
    if batch.empty[0]:
        return ["a state is empty that a run is in"] if alive else []
    found = []
    for tensor, (low, high) in batch.bounds.items():
        name = frame.network.nodes[tensor].name
        least, most = ([number(v) for v in end[0]] for end in (low, high))
        for run in alive:
            for entry, (centre, radius) in enumerate(run.values.get(tensor, ())):
                if centre + radius < least[entry] or centre - radius > most[entry]:
                    found.append(f"{name}[{entry}] = {float(centre)} of {run.counts}")
    return found


def _rows_missed(
    frame: Frame, rng: np.random.Generator, alive: list[Run], domains: Domains
) -> list[str]:
    """Runs that leave what is bounded by substituting back with random slopes."""
    network, batch, found = frame.network, domains.batch, []
    if batch.empty[0]:
        return []
    hints = {
        (tensor, side): rng.integers(-1, 9, (1, network.sizes[tensor])) / 8
        for tensor in network.nonlinear
        for side in Side
        if rng.integers(2)
    }
    lines = Relaxations(frame, batch, hints)
    choices = [t for t, node in enumerate(network.nodes) if not isinstance(node, Input)]
    for tensor in {network.outputs[0], int(rng.choice(choices))}:
        entries = np.arange(network.sizes[tensor])
        ends = bound_rows(frame, lines, tensor, np.zeros_like(entries), entries)
        for run in alive:
            for entry, (centre, radius) in enumerate(run.values.get(tensor, ())):
                least, most = (frame.arithmetic.floats_down(ends[s])[entry] for s in Side)
                if centre + radius < _exact(least) or centre - radius > _exact(most, 1e-9):
                    name = network.nodes[tensor].name
                    found.append(f"row of {name}[{entry}] = {float(centre)} of {run.counts}")
    return found


def _exact(end: float, more: float = 0.0) -> Fraction:
    return Fraction(float(np.clip(end + more, -1e300, 1e300)))
