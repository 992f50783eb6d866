"""Contracts of the kernel's rules, checked at points while a proof is executed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pytest

from proofs import bounds, check, clip, steps, substitution, tree, unsafe
from proofs.domain import Path, literals
from proofs.fields import Field
from proofs.frame import Batch, Frame, Rows
from specs.network import Univariate
from specs.query import Query
from tests.proofs.helpers import Point, outputs_at

Tensors = list[list[Fraction]]


class Watch:
    """Tensors of a network at points, against every bound that the kernel computes."""

    def __init__(self, stated: Query, points: Sequence[Point]) -> None:
        self.network, self.cases = stated.network, stated.property.cases
        self.samples = [outputs_at(stated.network, point) for point in points]
        self.checked = 0

    def inside(self, frame: Frame, batch: Batch, domain: int, sample: Tensors) -> bool:
        """Whether a point lies in a domain's box and within its stored bounds."""
        whole = frame._whole if isinstance(frame, Field) else frame
        for tensor in self.network.inputs:
            columns = whole.box_columns(tensor)
            low, high = batch.lower[domain, columns], batch.upper[domain, columns]
            for a, value, b in zip(low, sample[tensor], high, strict=True):
                if not float(a) <= value <= float(b):
                    return False
        return all(
            self.within(frame, bound, domain, _here(frame, sample, tensor))
            for tensor, bound in batch.bounds.items()
        )

    def within(self, frame: Frame, interval, domain: int, values: list[Fraction]) -> bool:
        number = _fraction(frame)
        return all(
            number(low) <= value <= number(high)
            for low, value, high in zip(
                interval[0][domain], values, interval[1][domain], strict=True
            )
        )

    def propagate(self, original):
        def watched(frame: Frame, batch: Batch, **options):
            before = self._members(frame, batch)
            original(frame, batch, **options)
            for domain, sample in before:
                self.checked += 1
                assert self.inside(frame, batch, domain, sample), "an interval excludes a point"
                assert not batch.empty[domain], "a domain with a point in it is said to be empty"

        return watched

    def substitute(self, original):
        def watched(frame: Frame, batch: Batch, relaxations, rows: Rows, *more, **options):
            members: dict[int, list[Tensors]] = {}
            for domain, sample in self._members(frame, batch):
                members.setdefault(domain, []).append(sample)
            found = original(frame, batch, relaxations, rows, *more, **options)
            number = _fraction(frame)
            for place, domain in enumerate(rows.owner.tolist()):
                for sample in members.get(domain, ()):
                    self.checked += 1
                    value = number(rows.constant[place])
                    for tensor, (row, entry, weight) in rows.entries.items():
                        for k in (row == place).nonzero()[0]:
                            value += number(weight[k]) * _here(frame, sample, tensor)[entry[k]]
                    assert number(found[place]) <= value, "a lower bound exceeds a value"
            self._relaxations(frame, batch, relaxations, members)
            return found

        return watched

    def clip(self, original):
        def watched(clipper, domains, hints, batch):
            frame = clipper._frame
            before = [
                (place, sample)
                for place, sample in self._members(frame, batch)
                if self.violates(domains[place], sample) and _on_path(domains[place], sample)
            ]
            original(clipper, domains, hints, batch)
            for place, sample in before:
                self.checked += 1
                assert self.inside(frame, batch, place, sample), "a violation is clipped away"
                assert not batch.empty[place], "a domain with a violation is said to be empty"

        return watched

    def violates(self, where: Path, sample: Tensors) -> bool:
        """Whether a point satisfies some remaining disjunct, closed."""
        unsafe = self.cases[where.case].unsafe
        x, y = (
            [value for tensor in tensors for value in sample[tensor]]
            for tensors in (self.network.inputs, self.network.outputs)
        )
        return any(
            all(
                sum((w * x[i] for i, w in c.inputs), c.constant)
                + sum((w * y[i] for i, w in c.outputs), Fraction(0))
                <= 0
                for c in unsafe[number]
            )
            for number in where.disjuncts
        )

    def _relaxations(self, frame, batch, relaxations, members) -> None:
        number = _fraction(frame)
        for tensor, lines in relaxations._made.items():
            node = self.network.nodes[tensor]
            assert isinstance(node, Univariate)
            for domain, samples in members.items():
                for sample in samples:
                    for i, (x, y) in enumerate(
                        zip(
                            _here(frame, sample, node.source),
                            _here(frame, sample, tensor),
                            strict=True,
                        )
                    ):
                        below = number(lines.below[0][domain][i]) * x + number(
                            lines.floor[domain][i]
                        )
                        above = number(lines.above[0][domain][i]) * x
                        above += number(lines.ceiling[domain][i])
                        assert below <= y <= above, "a line does not enclose its function"

    def _members(self, frame: Frame, batch: Batch) -> list[tuple[int, Tensors]]:
        return [
            (domain, sample)
            for domain in range(len(batch.lower))
            for sample in self.samples
            if self.inside(frame, batch, domain, sample)
        ]


def _on_path(where: Path, sample: Tensors) -> bool:
    """Whether a point is on a domain's side of every split, of linear forms as well."""
    for literal in literals(where.trail):
        fact = literal.fact
        value = sum((w * sample[t][i] for (t, i), w in fact.weights.items()), fact.constant)
        if value > 0:
            return False
    return True


def _here(frame: Frame, sample: Tensors, tensor: int) -> list[Fraction]:
    """A tensor's values where a frame cut to a field has them."""
    index = frame._index[tensor] if isinstance(frame, Field) else None
    return sample[tensor] if index is None else [sample[tensor][i] for i in index]


@contextmanager
def watched(stated: Query, points: Sequence[Point]) -> Iterator[Watch]:
    """While active, every substitution and propagation is checked at the points."""
    watch = Watch(stated, points)
    with pytest.MonkeyPatch.context() as patch:
        propagate = watch.propagate(bounds.propagate)
        substitute = watch.substitute(substitution.substitute)
        for module in (bounds, tree, check, steps):
            patch.setattr(module, "propagate", propagate)
        for module in (bounds, steps, unsafe):
            patch.setattr(module, "substitute", substitute)
        patch.setattr(clip.Clipper, "clip", watch.clip(clip.Clipper.clip))
        yield watch


def _fraction(frame: Frame):
    def number(value) -> Fraction | float:
        if isinstance(value, float) and not np.isfinite(value):
            return value
        try:
            return frame.arithmetic.fraction(value)
        except (OverflowError, ValueError):
            return float(value)

    return number
