"""Inputs and faults together that violate a property: by gradients, then exactly.

For a point, how much a word's move gains against an unsafe set is its step times a gradient; the
greatest gain is taken, the network changed accordingly, and so on as far as the budget goes; then
the point is moved.  Of faulty activations and of boxes of weights likewise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from proofs.check import Checked, check_witness
from proofs.witness import Witness
from specs.enclosure import FloatArray
from specs.errors import MissingExtraError, ModelError, QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.models import ActivationFaults, Pruning, ValueFaults, WeightBox
from specs.faults.placed import image
from specs.faults.sites import activation_groups
from specs.faults.struck import WordFaults
from specs.linear import IndexArray
from specs.network import Network, Perturbed, Struck
from specs.property import Conjunction
from specs.query import Query
from verifier.attack_forward import NumpyEvaluator
from verifier.attack_targets import rounded_to_float32
from verifier.faults.candidates import Candidates, candidates
from verifier.faults.region_attack import RegionAttack, inner_box
from verifier.replay import Replay, Replayed, ReplayError

TURNS, STEPS = 4, 8
"""How often faults are chosen anew, and steps of the point between."""


@dataclass(frozen=True)
class FaultyViolation:
    """A violation that was confirmed.

    Attributes:
        witness: the point and the faults.
        checked: what the kernel said.
        replay: of the rewritten model; ``None``: no model file has such faults.
    """

    witness: Witness
    checked: Checked
    replay: Replayed | None


class WordAttack:
    """Looks for a violation of a question of one case.

    Args:
        query: the question.
        faults: of it.
        seed: of random numbers.
    """

    def __init__(self, query: Query, faults: WordFaults, seed: int = 0) -> None:
        self._query, self._faults = query, faults
        self._case = query.property.cases[0]
        self._low, self._high = inner_box(self._case)
        self._rng = np.random.default_rng(seed)
        self._tables: dict[str, Candidates] = {}
        self._known: tuple[object, Network | None] = (None, None)  # faults, and what they make
        if faults.cells is not None:
            sizes = {n: np.ones(faults.placed.parameters[n].size) for n in faults.parameters}
            self._tables = candidates(faults, faults.cells, sizes)

    def run(self, deadline: float) -> FaultyViolation | None:
        """The first violation found, if any."""
        if np.any(self._low > self._high):
            return None
        found = self._single()
        if found is not None:
            return found
        for number in self._nearest_first():
            disjunct = self._case.unsafe[number]
            for x in self._starts():
                for turn in range(TURNS):
                    if time.monotonic() > deadline:
                        return None
                    faults = self._chosen(x, disjunct, turn)
                    network = self._network(faults)
                    if network is None:
                        break
                    x, worth = self._moved(network, x, disjunct)
                    found = self._confirmed(number, x, faults) if worth <= 0 else None
                    if found is not None:
                        return found
        return None

    def _single(self) -> FaultyViolation | None:
        """A single flip that changes the prediction at some point, by exact maps."""
        model = self._faults.model
        if isinstance(model, ValueFaults | ActivationFaults):
            return None
        attack = RegionAttack(self._faults, self._query.property, int(self._rng.integers(1 << 30)))
        for found in attack.critical(self._tables, attack.points(4)):
            flips = self._tables[found.tensor].faults
            cell, x = int(found.cells[0]), found.points[0]
            fault = WordFault(found.tensor, int(flips.entry[cell]), (int(flips.bit[cell]),))
            for number in range(len(self._case.unsafe)):
                confirmed = self._confirmed(number, x, [fault])
                if confirmed is not None:
                    return confirmed
        return None

    def _nearest_first(self) -> list[int]:
        """The disjuncts, in the order of how far they are from being reached without faults."""
        x = (self._low + self._high) / 2
        y, _ = NumpyEvaluator(self._faults.intact).evaluate(x[None])
        far = [_worth(disjunct, x, y[0])[0] for disjunct in self._case.unsafe]
        return sorted(range(len(far)), key=far.__getitem__)

    def _starts(self) -> Iterator[FloatArray]:
        yield (self._low + self._high) / 2
        if np.any(self._low < self._high):
            yield self._low + self._rng.random(self._low.size) * (self._high - self._low)

    def _network(self, faults: Sequence[WordFault]) -> Network | None:
        listed, network = self._known
        if faults is listed:
            return network
        try:
            return faulted_network(self._faults, faults)
        except QuestionError:
            return None

    def _moved(
        self, network: Network, x: FloatArray, disjunct: Conjunction
    ) -> tuple[FloatArray, float]:
        """A point at which the disjunct is nearer to being reached, and how far it is."""
        evaluator, best, least = NumpyEvaluator(network), x, np.inf
        step = (self._high - self._low) / 2
        for number in range(STEPS + 1 if np.any(step > 0) else 1):
            y, back = evaluator.evaluate(x[None])
            worth, slope, inputs = _worth(disjunct, x, y[0])
            if worth < least:
                best, least = x, worth
            gradient = back(slope[None])[0] + inputs
            share = 1.0 if number < 2 else 0.5
            x = np.clip(x - np.sign(gradient) * step * share, self._low, self._high)
        return best, least

    def _chosen(self, x: FloatArray, disjunct: Conjunction, turn: int) -> list[WordFault]:
        """Faults that bring the disjunct near at a point; the best but so many, of activations."""
        model = self._faults.model
        if isinstance(model, WeightBox):
            return self._boxed(x, disjunct, turn)
        if isinstance(model, Pruning):
            return self._pruned(x, disjunct, model)
        if isinstance(model, ActivationFaults):
            return self._replaced(x, disjunct, model, turn)
        bits: dict[tuple[str, int], list[int]] = {}
        for _ in range(model.k):
            now = [WordFault(n, e, tuple(sorted(own))) for (n, e), own in bits.items()]
            network = self._network(now)
            best, chosen = 0.0, None
            if network is None:
                break
            gains = self._gains(network, x, disjunct)
            for name, table in self._tables.items():
                flips = table.faults
                places = self._faults.placed.of[name]
                if not places or not len(flips):
                    continue
                old = self._faults.values(name)[flips.entry]
                new = np.where(table.number, flips.value, old)
                step = image(places[0], new)[0].value - image(places[0], old)[0].value
                worth = step * gains[name][flips.entry]
                worth[~table.number] = 0.0
                for (tensor, entry), own in bits.items():
                    if tensor == name:
                        worth[(flips.entry == entry) & np.isin(flips.bit, own)] = 0.0
                if model.per_word and bits:
                    (tensor, entry), *_ = bits
                    worth[(flips.entry != entry) | (tensor != name)] = 0.0
                place = int(np.argmin(worth))
                if worth[place] < best:
                    best, chosen = float(worth[place]), (name, flips.entry[place], flips.bit[place])
            if chosen is None:
                break
            bits.setdefault((chosen[0], int(chosen[1])), []).append(int(chosen[2]))
        return [WordFault(n, e, tuple(sorted(own))) for (n, e), own in bits.items()]

    def _gains(
        self, network: Network, x: FloatArray, disjunct: Conjunction
    ) -> dict[str, FloatArray]:
        """By parameter, what a unit step of ``f`` of each entry adds to the disjunct's worth."""
        values, gradients = _gradients(network, x, disjunct)
        numbers = {node.name: n for n, node in enumerate(network.nodes)}
        faulty = self._faults.network
        words = sum(self._faults.placed.parameters[n].size for n in self._faults.parameters)
        found = np.zeros(words)
        for tensor in faulty.struck:
            node = faulty.nodes[tensor]
            if not isinstance(node, Perturbed) or not isinstance(node.error, Struck):
                continue
            error, own = node.error, gradients.get(numbers[node.name])
            if own is None:
                continue
            before = network.nodes[numbers[node.name]]
            pairs = error.factors.offset.value.copy()
            for term in error.factors.terms:
                weight = None if term.map.weight is None else term.map.weight.value
                read = values[before.sources[term.source]]
                pairs = pairs + term.map.forward(read, weight, np.matmul)[0]
            np.add.at(found, error.words[error.word], own[0, error.target] * pairs)
        return {
            name: found[first : first + self._faults.placed.parameters[name].size]
            for name, first in self._faults.first_words.items()
        }

    def _boxed(self, x: FloatArray, disjunct: Conjunction, turn: int) -> list[WordFault]:
        """Every weight at the end that is worse, where gradients are taken at such ends before."""
        network: Network | None = self._faults.intact
        values: dict[str, FloatArray] = {}
        for _ in range(turn + 1):
            if network is None:
                break
            gains = self._gains(network, x, disjunct)
            values = {
                name: np.where(gains[name] < 0, high, np.where(gains[name] > 0, low, stored))
                for name, (low, stored, high) in self._inner.items()
            }
            try:
                network = self._faults.placed.with_values(values)
            except ModelError:
                network = None
        listed = [
            WordFault(name, entry, (), Fraction(float(own[entry])))
            for name, own in values.items()
            for entry in np.flatnonzero(own != self._faults.values(name)).tolist()
        ]
        self._known = (listed, network)
        return listed

    @cached_property
    def _inner(self) -> dict[str, tuple[FloatArray, FloatArray, FloatArray]]:
        """Of a box, the least and the greatest floats of all intervals, and what is stored."""
        found = {}
        for name, ends in self._faults.intervals.items():
            stored, box = self._faults.values(name), self._faults.box
            inner = [end.copy() for end in ends]
            for entry in np.flatnonzero(ends[0] < ends[1]).tolist():
                centre = Fraction(float(stored[entry]))
                radius = box.absolute + box.relative * abs(centre)
                for end in inner:  # they were rounded outward
                    if abs(Fraction(float(end[entry])) - centre) > radius:
                        end[entry] = np.nextafter(end[entry], stored[entry])
            found[name] = (inner[0], stored, inner[1])
        return found

    def _pruned(self, x: FloatArray, disjunct: Conjunction, model: Pruning) -> list[WordFault]:
        """The parameters whose loss gains most: half of those that are left, again and again."""
        listed: list[WordFault] = []
        while len(listed) < model.k:
            network = self._network(listed)
            if network is None:
                break
            gains = self._gains(network, x, disjunct)
            taken = {(fault.tensor, fault.entry) for fault in listed}
            ranked = []
            for name, own in gains.items():
                worth = np.where(self._faults.chosen(name), -self._faults.values(name) * own, 0.0)
                best = np.argsort(worth)[: 2 * model.k]
                ranked += [(float(worth[e]), name, int(e)) for e in best.tolist() if worth[e] < 0]
            left = sorted(found for found in ranked if found[1:] not in taken)
            if not left:
                break
            some = left[: max(1, (model.k - len(listed) + 1) // 2)]
            listed += [WordFault(name, e, (), Fraction(0)) for _, name, e in some]
        return listed

    def _replaced(
        self, x: FloatArray, disjunct: Conjunction, model: ActivationFaults, turn: int
    ) -> list[WordFault]:
        """The neurons, or channels, whose worst values gain most."""
        intact = self._faults.intact
        values, gradients = _gradients(intact, x, disjunct)
        ends = _inside(model)
        ranked: list[tuple[float, int, IndexArray]] = []
        for tensor, groups in activation_groups(self._faults.placed, model).items():
            own = gradients.get(tensor)
            if own is None:
                continue
            worst = np.minimum(*(own[0] * (end - values[tensor][0]) for end in ends))
            ranked += [(float(worst[group].sum()), tensor, group) for group in groups]
        ranked.sort(key=lambda entry: entry[0])
        listed = []
        for worth, tensor, group in ranked[turn : turn + model.k]:
            if worth >= 0:
                continue
            for entry in group.tolist():
                end = ends[int(gradients[tensor][0, entry] < 0)]
                listed.append(WordFault(intact.nodes[tensor].name, entry, (), Fraction(float(end))))
        return listed

    def _confirmed(
        self, number: int, x: FloatArray, faults: Sequence[WordFault]
    ) -> FaultyViolation | None:
        """The witness, if the kernel and the replay confirm it."""
        point = tuple(Fraction(float(v)) for v in x)
        witness = Witness(self._query.digest, 0, number, point, tuple(faults))
        checked = check_witness(self._query, witness)
        if checked.verdict != "valid sat":
            return None
        if isinstance(self._faults.model, ActivationFaults) and faults:
            return FaultyViolation(witness, checked, None)
        try:
            replay = Replay(self._query, faults=faults)
            replayed = replay.judge(self._case, rounded_to_float32(point))
        except (ReplayError, MissingExtraError):
            return None
        return FaultyViolation(witness, checked, replayed) if replayed.violated else None


def _inside(model: ActivationFaults) -> tuple[float, float]:
    """Floats in the range, near its ends."""
    low, high = float(model.lower), float(model.upper)
    low = low if low >= model.lower else float(np.nextafter(low, np.inf))
    return low, high if high <= model.upper else float(np.nextafter(high, -np.inf))


def _worth(
    disjunct: Conjunction, x: FloatArray, y: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """How far a disjunct is from being reached, and its slopes by outputs and by inputs."""
    best, slope, inputs = -np.inf, np.zeros(y.size), np.zeros(x.size)
    for row in disjunct:
        worth = float(row.constant)
        worth += sum(float(c) * x[i] for i, c in row.inputs)
        worth += sum(float(c) * y[j] for j, c in row.outputs)
        if worth > best:
            best, slope, inputs = worth, np.zeros(y.size), np.zeros(x.size)
            for j, c in row.outputs:
                slope[j] = float(c)
            for i, c in row.inputs:
                inputs[i] = float(c)
    return best, slope, inputs


def _gradients(
    network: Network, x: FloatArray, disjunct: Conjunction
) -> tuple[list[FloatArray], dict[int, FloatArray]]:
    """The values of all tensors at a point, and how the disjunct's worth depends on each."""
    evaluator = NumpyEvaluator(network)
    values = evaluator.values(x[None])
    outputs = np.concatenate([values[output] for output in network.outputs], axis=1)[0]
    _, slope, _ = _worth(disjunct, x, outputs)
    return values, evaluator.gradients(values, slope[None])
