"""Looking for violations: sampling, then projected gradient descent with restarts.

The loss of a disjunct is the largest of its constraint values, which are at most 0 where
it holds; descent lowers it over many points at once, each aimed at one disjunct of one
case.  Steps are taken in units of the box's widths, by the sign of the gradient (Madry et
al., ICLR 2018) or by Adam; half of the restarts begin by moving the outputs in a random
direction (Tashiro et al., NeurIPS 2020).  Where the gradient vanishes, a point goes back to
the best one of its row and moves some of its entries to ends of the box, fewer as time goes
on (after Andriushchenko et al., *Square Attack*, ECCV 2020).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from specs.query import Query
from verifier.attack_forward import Evaluator, multiplications
from verifier.attack_targets import FloatArray, IndexArray, Targets, compile_targets
from verifier.overrides import Count

Found = TypeVar("Found")
Offer = Callable[[int, int, FloatArray], Found | None]
"""Takes case, disjunct and a point; returns what it made of them, or ``None``."""

_CHUNK_NUMBERS = 20_000_000
_DIVERSE_STEPS = 5
_PATIENCE = 12
_OFFERS = 4


@dataclass(frozen=True)
class Settings:
    """How hard to try.

    Attributes:
        samples: points per case of the first look.
        rows: points descended at once.
        steps: of one descent.
        rounds: descents per chunk of cases; the deadline ends them too.
        work: multiplications of one batch, which lowers ``rows`` on large networks.
        seed: of the random numbers; the same seed, the same points.
    """

    samples: int = 64
    rows: Count = 128
    steps: int = 60
    rounds: int = 4
    work: float = 4e9
    seed: int = 0


class Attack(Generic[Found]):
    """An attack on a query.

    Args:
        query: what to violate.
        evaluator: the network in floating point.
        offer: judges a point that violates in floating point; what it returns ends the
            attack, ``None`` makes it look further.
        deadline: in ``time.monotonic`` seconds.
        settings: how hard to try.
    """

    def __init__(
        self,
        query: Query,
        evaluator: Evaluator,
        offer: Offer[Found],
        *,
        deadline: float,
        settings: Settings | None = None,
    ) -> None:
        self._query = query
        self._evaluator = evaluator
        self._offer = offer
        self._deadline = deadline
        self._settings = settings or Settings()
        self._rng = np.random.default_rng(self._settings.seed)
        most = self._settings.work / multiplications(query.network)
        self._rows = int(min(max(most, 4), self._settings.rows))

    def sample(self) -> Found | None:
        """A first look: centres, corners and random points of every case."""
        for cases in self._chunks():
            targets = compile_targets(self._query, cases)
            found, _ = self._look(targets)
            if found is not None or self._late():
                return found
        return None

    def descend(self) -> Found | None:
        """Sampling and gradient descent on every case, until the deadline."""
        for cases in self._chunks():
            targets = compile_targets(self._query, cases)
            if not targets.case.size:
                continue
            found, starts = self._look(targets)
            for number in range(self._settings.rounds):
                if found is None and not self._late():
                    found = self._round(targets, starts, number)
            if found is not None or self._late():
                return found
        return None

    def _chunks(self) -> Iterator[list[int]]:
        prop = self._query.property
        total = len(prop.cases)
        if not total:
            return
        first = prop.cases[0]
        height = max([1, *(len(d) for d in first.unsafe)]) + len(first.constraints)
        numbers = 2 * prop.input_size + len(first.unsafe) * height * prop.output_size
        size = max(1, min(total, _CHUNK_NUMBERS // max(numbers, 1), 4096))
        order = range(total) if size == total else self._rng.permutation(total).tolist()
        for start in range(0, total, size):
            yield list(order[start : start + size])

    def _late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _look(self, targets: Targets) -> tuple[Found | None, _Starts]:
        """Sample every case; the best points of every target, and what was found."""
        starts = _Starts(targets)
        cases = len(targets.lower)
        per_case = max(4, min(self._settings.samples, 4096 * 16 // max(cases, 1)))
        at_once = max(1, self._rows * 4 // per_case)
        of_case = _positions(targets.case, cases)
        for first in range(0, cases, at_once):
            if self._late():
                break
            block = list(range(first, min(first + at_once, cases)))
            block = [c for c in block if len(of_case[c])]
            if not block:
                continue
            x = np.concatenate([self._draw(targets, c, per_case) for c in block])
            y, _ = self._evaluator.evaluate(x)
            for k, c in enumerate(block):
                part = slice(k * per_case, (k + 1) * per_case)
                for t in of_case[c]:
                    rows = np.full(per_case, t)
                    margin = targets.margins(rows, x[part], y[part]).max(axis=1)
                    starts.note(int(t), margin, x[part])
        return self._offer_best(targets, starts), starts

    def _draw(self, targets: Targets, case: int, count: int) -> FloatArray:
        low, high = targets.lower[case], targets.upper[case]
        weights = self._rng.random((count, low.size))
        corners = count // 3
        weights[:corners] = np.rint(weights[:corners])
        weights[corners] = 0.5
        weights[corners + 1] = 0.0
        weights[corners + 2] = 1.0
        return low + weights * (high - low)

    def _offer_best(self, targets: Targets, starts: _Starts) -> Found | None:
        order = np.argsort(starts.margin)
        for t in order[:_OFFERS]:
            if starts.margin[t] <= 0:
                found = self._give(targets, int(t), starts.point[t])
                if found is not None:
                    return found
        return None

    def _give(self, targets: Targets, target: int, x: FloatArray) -> Found | None:
        case = int(targets.cases[targets.case[target]])
        return self._offer(case, int(targets.disjunct[target]), x)

    def _round(self, targets: Targets, starts: _Starts, number: int) -> Found | None:
        """One descent: rows shared out among the targets, best ones first."""
        ranked = np.argsort(starts.margin, kind="stable")
        if number % 2 and ranked.size > self._rows // 8:
            ranked = ranked[: max(1, self._rows // 8)]
        batches = -(-ranked.size // self._rows)
        for b in range(batches):
            chosen = ranked[b * self._rows : (b + 1) * self._rows]
            rows = np.resize(chosen, max(self._rows, 1))
            found = self._descent(targets, starts, rows, number)
            if found is not None or self._late():
                return found
        return None

    def _descent(
        self, targets: Targets, starts: _Starts, rows: IndexArray, number: int
    ) -> Found | None:
        low = targets.lower[targets.case[rows]]
        width = targets.upper[targets.case[rows]] - low
        u = self._rng.random(low.shape)
        first_use = np.unique(rows, return_index=True)[1]
        if number == 0:
            # The best sampled point of every target, once; other rows start at random.
            safe = np.where(width > 0, width, 1.0)
            u[first_use] = (starts.point[rows[first_use]] - low[first_use]) / safe[first_use]
        diverse = self._rng.random(len(rows)) < 0.5
        diverse[first_use] = False
        directions = self._rng.uniform(-1, 1, (len(rows), targets.outputs.shape[2]))
        state = _Adam(u.shape) if number % 2 else None
        hinge = self._rng.random(len(rows)) < 0.5
        best = np.full(len(rows), np.inf)
        best_point, best_u = np.empty_like(u), u.copy()
        waited = 0
        steps = self._settings.steps
        for step in range(steps):
            if self._late():
                break
            x = low + u * width
            y, pull_back = self._evaluator.evaluate(x)
            values = targets.margins(rows, x, y)
            margin = values.max(axis=1)
            better = margin < best
            best[better] = margin[better]
            best_point[better], best_u[better] = x[better], u[better]
            if best.min() <= 0:
                waited += 1
                if waited >= _PATIENCE:
                    break
            weight = _constraint_weights(values, hinge)
            output = np.einsum("bk,bkm->bm", weight, targets.outputs[rows])
            moving = diverse & (step < _DIVERSE_STEPS)
            output[moving] = directions[moving]
            gradient = pull_back(output)
            if targets.inputs is not None:
                gradient = gradient + np.einsum("bk,bkn->bn", weight, targets.inputs[rows])
            gradient = gradient * width
            rate = 0.25 * 0.02 ** (step / steps)
            move = np.sign(gradient) if state is None else state.direction(gradient)
            u = np.clip(u - rate * move, 0.0, 1.0)
            flat = ~gradient.any(axis=1)
            if flat.any():
                u[flat] = self._jumped(best_u[flat], 1.0 - step / steps)
        for i in np.argsort(best):
            starts.note(int(rows[i]), best[i : i + 1], best_point[i : i + 1])
        return self._offer_rows(targets, rows, best, best_point)

    def _jumped(self, u: FloatArray, share: float) -> FloatArray:
        """Points with up to that share of their entries, at least one, at ends of the box."""
        part = share * self._rng.random((len(u), 1))
        moved = self._rng.random(u.shape) < part
        moved[np.arange(len(u)), self._rng.integers(0, u.shape[1], len(u))] = True
        return np.where(moved, self._rng.integers(0, 2, u.shape), u)

    def _offer_rows(
        self, targets: Targets, rows: IndexArray, margin: FloatArray, points: FloatArray
    ) -> Found | None:
        for i in np.argsort(margin)[:_OFFERS]:
            if margin[i] <= 0:
                found = self._give(targets, int(rows[i]), points[i])
                if found is not None:
                    return found
        return None


class _Starts:
    """The best point seen of every target."""

    def __init__(self, targets: Targets) -> None:
        self.margin: FloatArray = np.full(targets.case.size, np.inf)
        self.point: FloatArray = targets.lower[targets.case] / 2 + targets.upper[targets.case] / 2

    def note(self, target: int, margin: FloatArray, points: FloatArray) -> None:
        at = int(np.argmin(margin)) if margin.size else 0
        if margin.size and margin[at] < self.margin[target]:
            self.margin[target] = margin[at]
            self.point[target] = points[at]


class _Adam:
    """Adam's direction (Kingma and Ba, ICLR 2015), row by row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._mean = np.zeros(shape)
        self._square = np.zeros(shape)
        self._count = 0

    def direction(self, gradient: FloatArray) -> FloatArray:
        # Rows differ in scale by orders of magnitude; Adam's epsilon must not see that.
        scale = np.abs(gradient).max(axis=1, keepdims=True)
        unit = gradient / np.where(scale > 0, scale, 1.0)
        self._count += 1
        self._mean = 0.8 * self._mean + 0.2 * unit
        self._square = 0.98 * self._square + 0.02 * unit**2
        mean = self._mean / (1 - 0.8**self._count)
        square = self._square / (1 - 0.98**self._count)
        return np.clip(mean / (np.sqrt(square) + 1e-8), -1.0, 1.0)


def _constraint_weights(values: FloatArray, hinge: npt.NDArray[np.bool_]) -> FloatArray:
    """Weights of the constraints in each row's loss: the largest alone, or all positive ones."""
    weight = np.zeros_like(values)
    weight[np.arange(len(values)), values.argmax(axis=1)] = 1.0
    weight[hinge] = np.maximum(weight[hinge], values[hinge] > 0)
    return weight


def _positions(labels: IndexArray, count: int) -> Sequence[IndexArray]:
    """For each label below ``count``, where it stands in ``labels``, which is sorted."""
    ends = np.searchsorted(labels, np.arange(count + 1))
    return [np.arange(ends[c], ends[c + 1]) for c in range(count)]
