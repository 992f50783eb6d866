"""Exact values of the last layer at samples, and what a change of it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from proofs.arithmetic import Numbers
from proofs.evaluate import Value, evaluate
from proofs.watermarks.check import Tick
from proofs.watermarks.removal import Removal, Samples
from specs.errors import EvidenceError
from specs.watermarks.claims.removal import LastLayerRemoval
from specs.watermarks.last_layer import LastLayer

PRECISION = 96
"""Bits after the point that are kept of hidden activations; the rest is paid for."""

LONGEST = 1 << 16
"""Most bits of the common denominator of a change."""


@dataclass(frozen=True)
class Sample:
    """An input, the label that it is to have, and whether that is to be lost.

    Attributes:
        point: every entry, exactly.
        label: of a class.
        trigger: it belongs to the mark; otherwise it is one whose label is to be kept.
    """

    point: tuple[Fraction, ...]
    label: int
    trigger: bool = True


@dataclass(frozen=True, eq=False)
class Change:
    """What is added to a last layer.

    Attributes:
        weight: ``(C, m)`` rationals, by class and hidden entry.
        bias: ``(C,)`` rationals.
    """

    weight: tuple[tuple[Fraction, ...], ...]
    bias: tuple[Fraction, ...]

    @property
    def entries(self) -> list[Fraction]:
        """All of it."""
        return [v for row in self.weight for v in row] + list(self.bias)


def samples_of(claim: LastLayerRemoval) -> list[Sample]:
    """The triggers of a claim, then its other samples."""
    groups = [(claim.triggers, True)]
    if claim.others is not None:
        groups.append((claim.others, False))
    return [
        Sample(tuple(map(Fraction, point)), label, trigger)
        for group, trigger in groups
        for point, label in zip(group.points.tolist(), group.labels.tolist(), strict=True)
    ]


def stated(claim: LastLayerRemoval, tick: Tick = lambda: None) -> Removal:
    """A claim as the rule takes it.

    Raises:
        EvidenceError: the network is not defined at a sample.
    """
    samples = measured(claim.layer, samples_of(claim), claim.bias, tick)
    return Removal(samples, claim.norm, claim.radius, claim.removed, claim.keep)


def measured(
    layer: LastLayer, samples: Sequence[Sample], bias: bool, tick: Tick = lambda: None
) -> Samples:
    """What the last layer reads and says at samples, rounded outward to ``2**-PRECISION``.

    Args:
        layer: of the network.
        samples: as many as wanted.
        bias: whether the bias may move, too: hidden activations get an entry that is 1.
        tick: called for every sample.

    Raises:
        EvidenceError: the network is not defined at a sample.
    """
    one = 1 << PRECISION
    hidden, blur, low, high = [], [], [], []
    for sample in samples:
        tick()
        values = evaluate(layer.hidden, sample.point)
        logits = _logits(layer, values)
        ends = [_apart(logits, sample.label, c) for c in range(layer.classes)]
        low.append([math.floor((centre - radius) * one) for centre, radius in ends])
        high.append([math.ceil((centre + radius) * one) for centre, radius in ends])
        near = [round(centre * one) for centre, _ in values]
        off = [
            math.ceil(abs(centre * one - kept) + radius * one)
            for (centre, radius), kept in zip(values, near, strict=True)
        ]
        hidden.append(near + [one] * bias)
        blur.append(off + [0] * bias)
    return Samples(
        _table(hidden),
        _table(blur),
        _table(low),
        _table(high),
        tuple(sample.label for sample in samples),
        tuple(sample.trigger for sample in samples),
    )


def objection(claim: LastLayerRemoval, change: Change, tick: Tick = lambda: None) -> str | None:
    """Why a change does not refute a claim, or ``None`` if it does; decided exactly.

    A margin that enclosures of the network's constants leave open counts against the change.

    Raises:
        EvidenceError: the change does not fit the layer, or the network is not defined at a sample.
    """
    layer = claim.layer
    widths = {len(row) for row in change.weight}
    if len(change.weight) != layer.classes or widths != {layer.entries.shape[1]}:
        raise EvidenceError("the change does not fit the last layer")
    if len(change.bias) != layer.classes:
        raise EvidenceError("the change does not fit the bias of the last layer")
    common = math.lcm(*(v.denominator for v in change.entries))
    if common.bit_length() > LONGEST:
        raise EvidenceError(f"the change's common denominator has more than {LONGEST} bits")
    if any(change.bias) and not claim.bias:
        return "it changes the bias, which the question leaves as it is"
    far = beyond(change.entries, claim.norm, claim.radius)
    if far is not None:
        return far
    moved = [[int(v * common) for v in row] for row in change.weight]
    lost = kept = 0
    for sample in samples_of(claim):
        tick()
        values = evaluate(layer.hidden, sample.point)
        logits = _logits(layer, values)
        scale = math.lcm(common, *(v.denominator for value in values for v in value))
        whole = [(int(c * scale), int(r * scale)) for c, r in values]
        steps = [
            sum(v * centre for v, (centre, _) in zip(row, whole, strict=True)) for row in moved
        ]
        low, high = [], []
        for c in range(layer.classes):
            if c == sample.label:
                continue
            centre, radius = _apart(logits, sample.label, c)
            centre += Fraction(steps[sample.label] - steps[c], common * scale)
            centre += change.bias[sample.label] - change.bias[c]
            pairs = zip(moved[sample.label], moved[c], whole, strict=True)
            blur = sum(abs(a - b) * r for a, b, (_, r) in pairs)
            radius += Fraction(blur, common * scale)
            low.append(centre - radius)
            high.append(centre + radius)
        lost += sample.trigger and min(high) <= 0
        kept += not sample.trigger and min(low) > 0
    if lost < claim.removed:
        return f"it removes {lost} triggers, fewer than {claim.removed}"
    if kept < claim.keep:
        return f"it keeps the labels of {kept} other samples, fewer than {claim.keep}"
    return None


def beyond(entries: Sequence[Fraction], norm: str, radius: Fraction) -> str | None:
    """Why a change lies outside a ball, or ``None`` if it lies in it."""
    sizes = [abs(v) for v in entries]
    if norm == "l2":
        square = sum((v * v for v in sizes), Fraction(0))
        return None if square <= radius * radius else f"its l2 norm exceeds {float(radius):.6g}"
    size = max(sizes, default=Fraction(0)) if norm == "linf" else sum(sizes, Fraction(0))
    if size <= radius:
        return None
    return f"its {norm} norm, {float(size):.6g}, exceeds {float(radius):.6g}"


def _logits(layer: LastLayer, hidden: Sequence[Value]) -> list[tuple[Fraction, list[Fraction]]]:
    """By class: the logit at the centre of the hidden activations, and ``w_j * radius_j``."""
    common = math.lcm(*(v.denominator for value in hidden for v in value))
    centres = [int(c * common) for c, _ in hidden]
    blurred = any(r for _, r in hidden)
    found = []
    for row, offset in zip(layer.weights.tolist(), layer.offsets.tolist(), strict=True):
        exact = [Fraction(w) for w in row]
        down = math.lcm(*(w.denominator for w in exact))
        whole = [w.numerator * (down // w.denominator) for w in exact]
        dot = sum(w * c for w, c in zip(whole, centres, strict=True))
        parts = [w * r for w, (_, r) in zip(exact, hidden, strict=True)] if blurred else []
        found.append((Fraction(dot, down * common) + Fraction(offset), parts))
    return found


def _apart(logits: Sequence[tuple[Fraction, list[Fraction]]], label: int, c: int) -> Value:
    """A margin: its centre and its radius."""
    (own, first), (other, second) = logits[label], logits[c]
    radius = sum((abs(a - b) for a, b in zip(first, second, strict=True)), Fraction(0))
    return own - other, radius


def _table(rows: Sequence[Sequence[int]]) -> Numbers:
    found = np.empty((len(rows), len(rows[0])), dtype=object)
    for number, row in enumerate(rows):
        found[number] = row
    return found
