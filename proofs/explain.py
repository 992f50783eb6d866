"""What a proof rests on: subset-minimal sets of neurons or of inputs.

After Banerjee, Singh and Singh, *Interpreting robustness proofs of deep neural networks*
(ICLR 2024), with two differences.  What is dropped is not set to zero, which would change
the network, but replaced by its interval, so that an explanation *is* a proof.  And as the
bound is not monotone in what is dropped, features are dropped by halves (Junker's
QuickXplain, AAAI 2004), then one by one until none can go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

import numpy as np

from proofs.check import Checked, check_proof
from proofs.domain import Domains
from proofs.features import Feature, Frees
from proofs.frame import Stop
from proofs.probe import Look, OpenLeafError, Probe, probes, reach, sensitivity, slacks
from proofs.proof import Proof
from proofs.restate import explicit, resting_on
from proofs.squares import with_squares_of
from proofs.tables import Substitution
from proofs.tree import DeadlineError
from proofs.unsafe import Group
from specs.enclosure import FloatArray
from specs.errors import EvidenceError, FarkasError, InputError
from specs.network import Network, Nonlinear
from specs.query import Query

T = TypeVar("T")

HELD = 1 << 30
"""Bytes of leaf states that are kept, rather than computed anew for every question."""

PARCEL = 128
"""Leaves that are asked about at once."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """A set of features that a proof rests on.

    Attributes:
        kind: ``"neurons"`` or ``"inputs"``.
        layer: name of the tensor whose entries the features are, for neurons.
        features: all that were asked about.
        kept: positions, among them, of those that the proof rests on.
        minimal: whether dropping any one more has been seen to fail.
        proof: the explanation as a proof, valid for ``query``.
        query: the question, for inputs a wider one.
        text: for inputs, ``query``'s property in VNN-LIB, where it has such a text.
        slack: the slack of its worst leaf (see :func:`proofs.probe.slacks`).
        falls: by how much that falls when each of ``kept`` alone is dropped as well;
            NaN where the time did not suffice.
        sensitivity: for neurons, the size of each input's coefficient in the linear bounds
            that the leaves end in, on average, ``(input_size,)``; ``None`` where the time did
            not suffice.
        asked: how often the kernel was asked.
        seconds: wall time of the search; ``check_seconds``: of checking the proof given.
    """

    kind: str
    layer: str | None
    features: tuple[Feature, ...]
    kept: tuple[int, ...]
    minimal: bool
    proof: Proof
    query: Query
    text: str | None
    slack: float
    falls: tuple[float, ...]
    sensitivity: FloatArray | None
    asked: int
    seconds: float
    check_seconds: float


def explain_neurons(
    query: Query,
    proof: Proof | None,
    layer: str | int | None = None,
    *,
    deadline: float | None = None,
    progress: Callable[[int, int], None] = lambda asked, left: None,
) -> Explanation:
    """The neurons of a layer that a proof's leaves rest on.

    Bounds that the proof computes of *later* layers, if there are any, are taken as they
    are: only what CLOSE and CLIP substitute back stops at the dropped neurons' intervals.

    Args:
        query: the question.
        proof: a valid one; ``None`` is the empty proof.
        layer: a pre-activation or the tensor that a nonlinear node defines, by name, or by
            number among the latter, from 1 on or from -1 backwards; ``None``: the last that
            is not an output.
        deadline: a ``time.monotonic()`` value; then the best explanation so far is given.
        progress: called with the number of times asked, and of features left.

    Raises:
        InputError: there is no such layer, or the proof is not valid for the question.
        DeadlineError: the proof could not even be checked in time.
    """
    first = _checked(query, proof, deadline)
    started = time.monotonic()
    written = explicit(query, proof)
    network = with_squares_of(query, written).network
    tensor = _layer(network, layer)
    name = network.nodes[tensor].name
    with np.errstate(all="ignore"):
        oracle = _Neurons(query, written, tensor, deadline)
        order = np.argsort(oracle.importance, kind="stable").tolist()
        if not oracle.holds(order):  # restated, rows are rounded otherwise
            raise InputError("the proof closes by so little that it cannot be said otherwise")
        search = _Search(order, oracle.holds, progress)
        minimal = search.run()
        kept = tuple(sorted(search.kept))
        found = resting_on(written, name, np.array(kept, dtype=np.int64))
        seen = _within(lambda: oracle.sensitivity(kept))
        slack, falls = _falls(search.kept, oracle.slack)
    features = tuple(Feature(f"{name}[{i}]", (i,)) for i in range(network.sizes[tensor]))
    return Explanation(
        "neurons",
        name,
        features,
        kept,
        minimal,
        _valid(query, found),
        query,
        None,
        slack,
        falls,
        seen,
        search.asked,
        time.monotonic() - started,
        first,
    )


def explain_inputs(
    query: Query,
    proof: Proof | None,
    features: Sequence[Feature],
    domain: tuple[Fraction, Fraction] | None = None,
    *,
    deadline: float | None = None,
    progress: Callable[[int, int], None] = lambda asked, left: None,
) -> Explanation:
    """The inputs, or groups of them, that a proof rests on.

    A dropped input may take any value of the domain, and the proof's hints must still do.
    So the explanation is a proof of a wider question.

    Args:
        query: the question.
        proof: a valid one; ``None`` is the empty proof.
        features: groups of inputs that are dropped together.
        domain: least and greatest value of a dropped input; ``None``: for each what the
            smallest box around all cases says.
        deadline, progress: as for :func:`explain_neurons`.

    Raises:
        InputError: the domain frees nothing, or the proof is not valid for the question.
        DeadlineError: the proof could not even be checked in time.
    """
    frees = Frees(query, features, domain)
    first = _checked(query, proof, deadline)
    started = time.monotonic()
    written = explicit(query, proof)

    def holds(kept: Sequence[int]) -> bool:
        try:
            for probe in probes(frees.query(kept), written, deadline):
                probe.hasty = True
                probe.walk(probe.roots)
                if probe.rejected:
                    return False
        except (OpenLeafError, EvidenceError):  # a wider question may have no finite bounds
            return False
        return True

    def slack(kept: Sequence[int]) -> float:
        try:
            found = probes(frees.query(kept), written, deadline)
            return min((_least(probe, probe.roots) for probe in found), default=np.inf)
        except EvidenceError:
            return -np.inf

    with np.errstate(all="ignore"):
        size = query.network.input_size
        given = ((probe, probe.roots) for probe in probes(query, written, deadline))
        search = _Search(frees.order(_mean_sensitivity(given, size)), holds, progress)
        minimal = search.run()
        kept = tuple(sorted(search.kept))
        least, falls = _falls(search.kept, slack)
    wider, text = frees.stated(kept)
    return Explanation(
        "inputs",
        None,
        tuple(features),
        kept,
        minimal,
        _valid(wider, replace(written, question=wider.digest)),
        wider,
        text,
        least,
        falls,
        None,
        search.asked,
        time.monotonic() - started,
        first,
    )


class _Search:
    """Drops features as long as an oracle agrees.

    Args:
        order: the features, the least important ones first.
        holds: whether what is kept suffices; may raise ``DeadlineError``.
    """

    def __init__(
        self,
        order: Sequence[int],
        holds: Callable[[Sequence[int]], bool],
        progress: Callable[[int, int], None],
    ) -> None:
        self.kept, self.asked = list(order), 0
        self._holds, self._progress = holds, progress
        self._refused: dict[int, int] = {}  # how many were left when this one could not go

    def run(self) -> bool:
        """Search; whether what is kept is minimal."""
        try:
            self._halve()
            while todo := [f for f in self.kept if self._refused.get(f) != len(self.kept)]:
                for feature in todo:
                    self._drop([feature])
        except DeadlineError:
            return False
        return True

    def _halve(self) -> None:
        waiting = [list(self.kept)] if self.kept else []
        while waiting:
            part = waiting.pop()
            if not self._drop(part) and len(part) > 1:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]

    def _drop(self, part: list[int]) -> bool:
        rest = [f for f in self.kept if f not in set(part)]
        self.asked += 1
        self._progress(self.asked, len(self.kept))
        if self._holds(rest):
            self.kept = rest
            return True
        if len(part) == 1:
            self._refused[part[0]] = len(self.kept)
        return False


class _Neurons:
    """Asks the kernel which entries of a tensor suffice.

    Nodes before the first CLOSE or CLIP of a path do not depend on them: their states are
    computed once, if there is room.
    """

    def __init__(self, query: Query, proof: Proof, tensor: int, deadline: float | None) -> None:
        self._tensor, self._inputs = tensor, query.network.input_size
        self._parcels: list[tuple[Probe, list[Domains]]] = []
        network = with_squares_of(query, proof).network
        stored = network.input_size + sum(network.sizes[t] for t in network.preactivations)
        state = 64 * stored  # bounds, and the lines made of them
        roomy = state * proof.leaves <= HELD
        self.importance = np.zeros(network.sizes[tensor])
        for probe in probes(query, proof, deadline):
            roots = probe.roots
            if roomy:
                probe.waits = True
                probe.walk(roots)
                probe.waits = False
                held = [domains for batch in probe.held for domains in _cut(batch)]
            else:
                held = list(roots)
            for domains in held:
                self._parcels.append((probe, [domains]))
                if roomy:
                    probe.remember(domains)
            probe.held = []

            def weigh(group: Group, *_: object, probe: Probe = probe) -> None:
                found = reach(probe, group, tensor)
                self.importance = np.maximum(self.importance, found)

            _look(probe, held, weigh)

    def holds(self, kept: Sequence[int]) -> bool:
        stop = self._stop(kept)
        for place, (probe, parcel) in enumerate(self._parcels):
            probe.stop, probe.hasty = stop, True
            try:
                probe.finish(parcel)
            except OpenLeafError:  # likely to be the first to fail again
                self._parcels.insert(0, self._parcels.pop(place))
                return False
            finally:
                probe.hasty = False
        return True

    def slack(self, kept: Sequence[int]) -> float:
        stop, least = self._stop(kept), np.inf
        for probe, parcel in self._parcels:
            probe.stop = stop
            least = min(least, _least(probe, parcel))
        return least

    def sensitivity(self, kept: Sequence[int]) -> FloatArray:
        stop = self._stop(kept)
        for probe, _ in self._parcels:
            probe.stop = stop
        return _mean_sensitivity(self._parcels, self._inputs)

    def _stop(self, kept: Sequence[int]) -> Stop:
        return Stop(self._tensor, np.array(sorted(kept), dtype=np.int64))


def _look(probe: Probe, parcel: list[Domains], look: Look) -> None:
    """Look at the leaves below domains."""
    probe.look = look
    try:
        probe.finish(parcel)
    finally:
        probe.look = None


def _least(probe: Probe, parcel: list[Domains]) -> float:
    """The slack of the worst leaf below domains."""
    least = np.inf

    def note(group: Group, _: object, hints: Sequence[Substitution | None]) -> None:
        nonlocal least
        least = min(least, float(slacks(probe, group, hints).min(initial=np.inf)))

    _look(probe, parcel, note)
    return least


def _mean_sensitivity(parcels: Iterable[tuple[Probe, list[Domains]]], inputs: int) -> FloatArray:
    """Over all rows that leaves are closed with; see :func:`proofs.probe.sensitivity`."""
    total, count = np.zeros(inputs), 0
    for probe, parcel in parcels:

        def add(group: Group, *_: object, probe: Probe = probe) -> None:
            nonlocal total, count
            if probe.frame.passes(group.rows.entries):
                rows = sensitivity(probe, group)
                total += rows.sum(axis=0)
                count += len(rows)

        _look(probe, parcel, add)
    return total / max(1, count)


def _cut(domains: Domains) -> Iterator[Domains]:
    for start in range(0, len(domains), PARCEL):
        yield domains.pick(np.arange(start, min(len(domains), start + PARCEL)))


def _falls(
    kept: Sequence[int], slack: Callable[[Sequence[int]], float]
) -> tuple[float, tuple[float, ...]]:
    """The worst leaf's slack, and its fall when one more is dropped, by ascending feature.

    The most important ones, which come last, are asked about first, while there is time.
    """
    whole, falls = np.nan, dict.fromkeys(kept, np.nan)
    try:
        whole = slack(kept)
        for feature in reversed(kept):
            falls[feature] = whole - slack([k for k in kept if k != feature])
    except DeadlineError:
        pass
    return whole, tuple(falls[feature] for feature in sorted(kept))


def _within(compute: Callable[[], T]) -> T | None:
    """A result, or ``None`` where the time does not suffice."""
    try:
        return compute()
    except DeadlineError:
        return None


def _layer(network: Network, layer: str | int | None) -> int:
    """The tensor that is meant."""
    listed = ", ".join(network.nodes[t].name for t in network.nonlinear)
    if layer is None:
        inner = [t for t in network.nonlinear if t not in network.outputs]
        if not inner:
            raise InputError("the network has no layer of neurons before its outputs")
        return inner[-1]
    if isinstance(layer, int):
        count = len(network.nonlinear)
        if not 1 <= abs(layer) <= count:
            raise InputError(f"there is no layer {layer}: 1 to {count}, or -1 to -{count}, are")
        return network.nonlinear[layer - 1 if layer > 0 else layer]
    tensor = network.tensors.get(layer)
    if tensor is None:
        raise InputError(f"the network has no tensor '{layer}'; layers of neurons: {listed}")
    known = tensor in network.preactivations or isinstance(network.nodes[tensor], Nonlinear)
    if not known:
        raise InputError(f"no bounds are kept of tensor '{layer}'; layers of neurons: {listed}")
    return tensor


def _checked(query: Query, proof: Proof | None, deadline: float | None) -> float:
    """Seconds that a check of the proof takes; it must be valid."""
    started = time.monotonic()
    found: Checked = check_proof(query, proof, deadline=deadline, processes=1)
    if found.reason == "the time limit came first":
        raise DeadlineError("the time is over before the proof is checked")
    if found.verdict != "valid unsat":
        raise InputError(
            f"only a valid proof can be explained; this one is {found.verdict}: {found.reason}"
        )
    return time.monotonic() - started


def _valid(query: Query, proof: Proof) -> Proof:
    """The proof, if the kernel says that it is one."""
    found = check_proof(query, proof)
    if not found.valid:
        raise FarkasError(f"the explanation is not a proof ({found.reason}); please report")
    return proof
