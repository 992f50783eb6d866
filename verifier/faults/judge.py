"""Whether a fault changes a prediction: by its size, in floats, and in rationals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from proofs.evaluate import evaluate
from proofs.outward import TINY, UNIT
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.faults.memory import Memory
from specs.faults.placed import image, weighted, with_nodes
from specs.faults.sites import Faults
from specs.linear import IndexArray
from specs.network import Linear, Network
from verifier.faults.floats import UP, Floats, Tensor, ends, joined, judged, relu
from verifier.faults.sensitivity import sensitivities
from verifier.faults.struck import Behind, BoolArray, Steps, Struck, shifts

if TYPE_CHECKING:
    from verifier.faults.device import Device

ENTRIES = 1 << 19
"""Tensor entries that are evaluated at a time."""

NUMPY = "numpy"

Outcome = tuple[IndexArray, bool | None]
"""Some faults, and that they are critical (``False``) or undecided (``None``)."""


@dataclass(eq=False)
class Tally:
    """How decisions over pairs of a fault and a point were come to.

    Attributes:
        small: the change is too small, or none.
        floats: in float64.
        exact: in rationals.
        undecided: left open: an enclosure holds a tie.
    """

    small: int = 0
    floats: int = 0
    exact: int = 0
    undecided: int = 0


@dataclass(frozen=True, eq=False)
class Target:
    """Faults of one parameter, and what they do where it stands.

    Attributes:
        faults: of one parameter.
        number: ``(n,)`` those whose word is a number that the network is defined with.
        struck: where the parameter stands; ``None``: at several places.
        steps: by how much its constants change, where it stands at one place.
    """

    faults: Faults
    number: BoolArray
    struck: Struck | None
    steps: Steps | None

    def part(self, chosen: IndexArray) -> tuple[IndexArray, Steps]:
        """Entries and steps of some faults."""
        if self.steps is None:
            raise InputError("a parameter that stands at several places has no steps")
        steps = Steps(self.steps.step[chosen], self.steps.error[chosen])
        return self.faults.entry[chosen], steps


@dataclass(eq=False)
class Judge:
    """The fault-free network at some points, and what faults change there.

    Attributes:
        memory: the stored parameters.
        points: ``(P, input_size)``, which count as exact.
        device: where batches are evaluated: ``"numpy"``, or one of ``verifier.faults.device``.

    Raises:
        InputError: the points do not fit the network, or it has no prediction.
    """

    memory: Memory
    points: FloatArray
    device: str = NUMPY
    tally: Tally = field(default_factory=Tally)
    _rows: dict[int, Mapping[int, FloatArray] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.network.input_size
        if self.points.ndim != 2 or self.points.shape[1] != size:
            raise InputError(f"points of shape {self.points.shape} for {size} inputs")
        if not np.all(np.isfinite(self.points)):
            raise InputError("a point is not finite")
        if self.network.output_size < 2:
            raise InputError("a prediction needs two outputs")

    @cached_property
    def network(self) -> Network:
        """The network with exactly the stored values."""
        return self.memory.network

    @cached_property
    def floats(self) -> Floats:
        """Its evaluator."""
        return Floats(self.network)

    @cached_property
    def tensors(self) -> list[Tensor]:
        """Its tensors at all points."""
        return self.floats.run(self.points, sharp=True)

    @cached_property
    def outputs(self) -> Tensor:
        """Its outputs at all points."""
        return joined([self.tensors[number] for number in self.network.outputs])

    @cached_property
    def ends(self) -> tuple[FloatArray, FloatArray]:
        """Bounds of its outputs at all points."""
        return ends(self.outputs)

    @cached_property
    def labels(self) -> IndexArray:
        """The fault-free predictions, ``(P,)``.

        Raises:
            InputError: at some point no output exceeds every other for certain.
        """
        labels: IndexArray = np.argmax(self.outputs.value, axis=1)
        sure, _ = judged(self.outputs, labels)
        for point in np.flatnonzero(~sure):
            outputs = exact_outputs(self.network, self.points[point])
            best = max(range(len(outputs)), key=lambda k: outputs[k][0])
            if exact_verdict(outputs, best) is not True:
                raise InputError(f"point {point}: no output exceeds every other for certain")
            labels[point] = best
        return labels

    def target(self, faults: Faults) -> Target:
        """Faults, and where they strike."""
        places = self.memory.placed.of[faults.tensor]
        values = self.memory.stored[faults.tensor].values
        number = faults.number.copy()
        for place in places:
            number &= image(place, np.where(number, faults.value, values[faults.entry]))[1]
        struck = Struck(self.floats, places[0], values) if len(places) == 1 else None
        if struck is None or not struck.simple:
            return Target(faults, number, None, None)
        value = np.where(number, faults.value, values[faults.entry])
        return Target(faults, number, struck, struck.steps(faults.entry, value))

    def bad(self, target: Target, point: int) -> Iterator[Outcome]:
        """The faults that are critical, or undecided, at a point."""
        if not self.memory.placed.of[target.faults.tensor]:
            return
        if target.struck is None or target.steps is None:
            yield from self._exactly(target, np.flatnonzero(target.number), point)
            return
        tensors, label = self.at(point), int(self.labels[point])
        left = np.flatnonzero(target.number & ~target.steps.none)
        limits = self._limits(target.struck, tensors, point)
        if limits is not None:
            entry, steps = target.part(left)
            left = left[~((np.abs(steps.step) + steps.error) * UP < limits[entry])]
        self.tally.small += int(target.number.sum()) - left.size
        run, size = self._run(target.struck)
        for start in range(0, left.size, size):
            part = left[start : start + size]
            outputs = run(tensors, *target.part(part))
            good, wrong = judged(outputs, np.full(part.size, label))
            self.tally.floats += int(good.sum() + wrong.sum())
            yield part[wrong], False
            yield from self._sharply(target, target.struck, part[~good & ~wrong], point)

    def at(self, point: int) -> dict[int, Tensor]:
        """Its tensors at one point."""
        rows = slice(point, point + 1)
        return {
            number: Tensor(t.value[rows], t.error[rows]) for number, t in enumerate(self.tensors)
        }

    def _limits(
        self, struck: Struck, tensors: Mapping[int, Tensor], point: int
    ) -> FloatArray | None:
        """``(size,)``: changes of less than this change no prediction; ``None``: not known."""
        label = int(self.labels[point])
        if label not in self._rows:
            self._rows[label] = sensitivities(self.network, label)
        by_tensor = self._rows[label]
        if by_tensor is None:
            return None
        lower, upper = (part[point] for part in self.ends)
        margins = np.delete(lower[label] - upper, label) * (1.0 - 2.0**-40)
        if not margins.min() > 0:
            return None
        rows = by_tensor[struck.place.node]
        if struck.source is not None and struck.place.term is not None:
            read = tensors[struck.source]
            size = np.repeat((np.abs(read.value) + read.error) * UP, len(rows), axis=0)
            term = weighted(struck.node.terms[struck.place.term])
            rows = term.gradient(rows, size, np.matmul).reshape(len(rows), -1)
        with np.errstate(all="ignore"):
            limits = margins[:, None] / (struck.summed(rows) * UP + TINY)
        return np.asarray(np.fmin.reduce(limits, axis=0))

    def _run(
        self, struck: Struck
    ) -> tuple[Callable[[Mapping[int, Tensor], IndexArray, Steps], Tensor], int]:
        """What evaluates faults, and how many at a time."""
        behind, number = struck.behind, struck.place.node
        if behind is not None:
            size = max(1, ENTRIES // self.network.sizes[behind.layer])
            return lambda *given: self._along_rows(struck, behind, *given), size
        after = (number, *self.floats.after[number])
        widest = max(self.network.sizes[i] for i in after)
        device = self._device
        if device is not None:
            return self._on_device(device, struck), max(1, device.entries // widest)

        def from_node(tensors: Mapping[int, Tensor], entry: IndexArray, steps: Steps) -> Tensor:
            moved = struck.moved(tensors, entry, steps)
            return self.floats.outputs({**tensors, number: moved}, number)

        return from_node, max(1, ENTRIES // widest)

    @cached_property
    def _device(self) -> Device | None:
        if self.device == NUMPY:
            return None
        from verifier.faults.device import Device

        return Device(self.floats, self.device)

    def _on_device(
        self, device: Device, struck: Struck
    ) -> Callable[[Mapping[int, Tensor], IndexArray, Steps], Tensor]:
        sent: list[dict[int, tuple[Any, Any]]] = []

        def run(tensors: Mapping[int, Tensor], entry: IndexArray, steps: Steps) -> Tensor:
            if not sent:
                sent.append(device.sent(tensors))
            return device.outputs(sent[0], struck, entry, steps)

        return run

    def _along_rows(
        self,
        struck: Struck,
        behind: Behind,
        tensors: Mapping[int, Tensor],
        entry: IndexArray,
        steps: Steps,
    ) -> Tensor:
        """The outputs where one entry of a tensor moves: the next layer moves along a row."""
        base, fired, layer = (tensors[i] for i in (struck.place.node, behind.relu, behind.layer))
        which, target, source = struck.products(entry)
        direction, loose = struck.directions(tensors, source)
        with np.errstate(all="ignore"):
            change, wide = shifts(steps, which, direction, loose)
            moved = base.value[0, target] + change
            error = (_errors(base, target) + wide + np.abs(moved) * UNIT) * UP + TINY
            new = relu(Tensor(moved[:, None], error[:, None]))
            step = new.value[:, 0] - fired.value[0, target]
            unsure = (new.error[:, 0] + _errors(fired, target) + np.abs(step) * UNIT) * UP
            rows = behind.map.weight.value[target]
            most = np.abs(rows).max(axis=1)
            size = np.abs(layer.value).max() + 2.0 * np.abs(step) * most
            spread = (layer.error.max() + unsure * most + size * (2.0 * UNIT)) * UP + TINY
            value = np.repeat(layer.value, entry.size, axis=0)
            value[which] += step[:, None] * rows
        errors = np.full((entry.size, 1), float(layer.error.max()))
        errors[which, 0] = spread
        moved_layer = Tensor(value, errors)
        return self.floats.outputs({**tensors, behind.layer: moved_layer}, behind.layer)

    def _sharply(
        self, target: Target, struck: Struck, left: IndexArray, point: int
    ) -> Iterator[Outcome]:
        """Faults in batches with a bound for every entry, and what is left one by one."""
        if not left.size:
            return
        tensors, number = self.at(point), struck.place.node
        widest = max(self.network.sizes[i] for i in (number, *self.floats.after[number]))
        size = max(1, ENTRIES // widest)
        for start in range(0, left.size, size):
            part = left[start : start + size]
            moved = struck.moved(tensors, *target.part(part))
            outputs = self.floats.outputs({**tensors, number: moved}, number, sharp=True)
            good, wrong = judged(outputs, np.full(part.size, self.labels[point]))
            self.tally.floats += int(good.sum() + wrong.sum())
            yield part[wrong], False
            yield from self._exactly(target, part[~good & ~wrong], point)

    def _exactly(self, target: Target, left: IndexArray, point: int) -> Iterator[Outcome]:
        """Faults one at a time, in floats with the best bounds and then in rationals."""
        tensors, label = self.at(point), int(self.labels[point])
        for index in left:
            outcome = self.verdict(tensors, self._struck(target.faults, int(index)), point, label)
            if outcome is not True:
                yield np.array([index]), outcome

    def verdict(
        self,
        tensors: Mapping[int, Tensor],
        nodes: Mapping[int, Linear],
        point: int,
        label: int,
    ) -> bool | None:
        """Whether an output exceeds every other where nodes have other constants.

        Args:
            tensors: those of the network without the change, at the point.
            nodes: the nodes as they are now, by number.
            point: its number.
            label: the output.

        Returns:
            ``None``: an enclosure leaves it open.
        """
        for sharp in (False, True):
            outputs = self.floats.outputs_with(tensors, nodes, sharp)
            good, wrong = judged(outputs, np.array([label]))
            if good[0] or wrong[0]:
                self.tally.floats += 1
                return bool(good[0])
        network = with_nodes(self.network, nodes)
        outcome = exact_verdict(exact_outputs(network, self.points[point]), label)
        if outcome is None:
            self.tally.undecided += 1
        else:
            self.tally.exact += 1
        return outcome

    def _struck(self, faults: Faults, index: int) -> dict[int, Linear]:
        """The nodes that one fault changes."""
        part = slice(index, index + 1)
        changed = {faults.tensor: (faults.entry[part], faults.value[part])}
        return self.memory.placed.struck(self.network, changed)


def exact_outputs(network: Network, point: FloatArray) -> list[tuple[Fraction, Fraction]]:
    """The outputs at a float64 point, each within a radius of a rational."""
    return evaluate(network, [Fraction(float(x)) for x in point])


def exact_verdict(outputs: list[tuple[Fraction, Fraction]], label: int) -> bool | None:
    """Whether ``label`` exceeds every other output; ``None``: the radii leave it open."""
    value, radius = outputs[label]
    others = [output for k, output in enumerate(outputs) if k != label]
    if all(value - radius > other + width for other, width in others):
        return True
    if any(other - width >= value + radius for other, width in others):
        return False
    return None


def _errors(tensor: Tensor, entries: IndexArray) -> FloatArray:
    return np.asarray(np.broadcast_to(tensor.error, tensor.value.shape)[0, entries])
