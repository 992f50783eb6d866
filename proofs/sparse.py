"""Passing rows back entry by entry while they have few coefficients.

The same rule and the same prices as for dense rows (``proofs/substitution.py``): each
coefficient may carry one rounding when its tensor is visited, and pays for it there.
"""

from __future__ import annotations

import numpy as np

from proofs.arithmetic import Numbers
from proofs.entries import Entries
from proofs.frame import Batch, Frame, Lines, Relaxations, Rows
from specs.network import Faulty, Input, Linear, Nonlinear, Perturbed

FILLED = 0.05
"""Share of a tensor's entries from which on rows are dense."""

LARGEST = 1 << 22
"""Coefficients made at once."""

ROWS = 1 << 12
"""Rows passed back at once."""


def pass_back(
    frame: Frame, batch: Batch, relaxations: Relaxations, rows: Rows, stop: int | None
) -> Rows:
    """Rows over earlier tensors that bound the given ones from below.

    Goes on until a tensor is reached that is an input, is ``stop``, or at which the rows
    would have many coefficients.
    """
    network, count = frame.network, rows.owner.size
    if not count:
        return rows
    work = {t: Entries(*given).combined(network.sizes[t]) for t, given in rows.entries.items()}
    constant = rows.constant
    while work:
        tensor = max(work)
        node, here = network.nodes[tensor], work[tensor]
        few = len(here.row) <= FILLED * count * network.sizes[tensor]
        if tensor == stop or not few or isinstance(node, Input):
            break
        found: tuple[list[tuple[int, Entries]], Numbers | None] | None
        if isinstance(node, Linear):
            found = _through_linear(frame, node, here, count)
        elif isinstance(node, Perturbed) and isinstance(node.error, Faulty):
            break  # what words are worth is found for dense rows
        elif isinstance(node, Perturbed):  # the error is part of the cost
            found = [(node.source, here)], None
        else:
            found = _through_lines(frame, relaxations.lines(tensor), node, here, rows)
        if found is None:
            break
        passed, gain = found
        del work[tensor]
        vector, flat = frame.cost(tensor)
        price = frame.arithmetic.add_up(frame.arithmetic.entries_cost(here, vector, count), flat)
        constant = frame.arithmetic.add_down(constant, -price)
        if gain is not None:
            constant = frame.arithmetic.add_down(constant, gain)
        for source, part in passed:
            if source not in work:
                work[source] = part
                continue
            for each in (work[source], part):  # the sum's own rounding is paid later
                constant = frame.arithmetic.add_down(constant, -_price(frame, source, each, count))
            work[source] = _united(work[source], part, network.sizes[source])
    return Rows(rows.owner, constant, work)


def _through_linear(
    frame: Frame, node: Linear, here: Entries, count: int
) -> tuple[list[tuple[int, Entries]], Numbers | None] | None:
    arithmetic = frame.arithmetic
    passed = []
    for term in node.terms:
        if len(here.row) * term.map.fan_in > LARGEST:
            return None
        part = arithmetic.entries_adjoint(term.map, here)
        if part is None:
            return None
        passed.append((term.source, part))
    offset = arithmetic.offset(node.offset)
    if offset is None:
        return passed, None
    return passed, arithmetic.entries_dot_down(here, offset[0][here.entry], count)


def _through_lines(
    frame: Frame, lines: Lines, node: Nonlinear, here: Entries, rows: Rows
) -> tuple[list[tuple[int, Entries]], Numbers | None]:
    arithmetic, (domains, width) = frame.arithmetic, lines.ceiling.shape
    place = here.entry if domains == 1 else rows.owner[here.row] * width + here.entry

    def own(numbers: Numbers) -> Numbers:
        return np.take(numbers.reshape(domains * width), place)  # no array has another shape

    slopes, intercept = lines.chosen(np.asarray(here.value > 0, dtype=bool), own)
    gain = arithmetic.entries_dot_down(here, intercept, rows.owner.size)
    return [
        (source, here._replace(value=arithmetic.scale(here.value, slope)))
        for source, slope in zip(node.sources, slopes, strict=True)
    ], gain


def _price(frame: Frame, tensor: int, entries: Entries, count: int) -> Numbers:
    """What one rounding of each coefficient of a tensor may cost."""
    arithmetic, magnitude = frame.arithmetic, frame.magnitude(tensor)
    cost = arithmetic.entries_cost(entries, arithmetic.rounding(magnitude), count)
    return arithmetic.add_up(cost, arithmetic.rounding_scalar(magnitude))


def _united(first: Entries, second: Entries, size: int) -> Entries:
    pairs = zip(first, second, strict=True)
    return Entries(*(np.concatenate(pair) for pair in pairs)).combined(size)
