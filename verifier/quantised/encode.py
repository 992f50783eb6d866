"""An integer program and an unsafe set as formulas for Z3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import z3

from specs.property import Conjunction, Constraint
from verifier.quantised.calls import Integers
from verifier.quantised.lines import chord, ramp
from verifier.quantised.program import Input, IntArray, Largest, Staircase, Steps, Sum
from verifier.quantised.reader import Compiled
from verifier.quantised.reals import Array, Reals
from verifier.quantised.settings import LimitError, Settings

_WIDEST_TABLE = 2**22


class Encoding:
    """The formulas of a compiled network, in linear arithmetic over integers and reals.

    An input that only one staircase looks at is left out: the staircase's value is chosen
    freely among those it takes, and :meth:`inputs` finds an input for it.

    Args:
        compiled: the network on a box.
        limits: how large tables may get.

    Attributes:
        formulas: what holds of every evaluation.
    """

    def __init__(self, compiled: Compiled, limits: Settings) -> None:
        self.compiled, self.limits = compiled, limits
        self.program = compiled.program
        self.formulas: list[Any] = []
        self._outputs: list[tuple[int, Reals | None]] = []
        for output in compiled.outputs:
            for place, key in enumerate(output.keys.flat):
                entry = None if isinstance(output, Integers) else _entry(output, place)
                self._outputs.append((int(key), entry))
        self._free = self._chosen_freely()
        self._terms: list[Any] = []
        for number in range(len(self.program.nodes)):
            self._terms.append(self._term(number))
        self._reals: dict[int, Any] = {}

    def _chosen_freely(self) -> dict[int, int]:
        """By input, the staircase that alone looks at it and takes all values of its range."""
        uses: Counter[int] = Counter(key for key, _ in self._outputs)
        by: dict[int, int] = {}
        for number, node in enumerate(self.program.nodes):
            if isinstance(node, Steps):
                uses[node.source] += 1
                by[node.source] = number
            elif not isinstance(node, Input):
                uses.update(node.sources)
        found = {}
        for source in self.program.inputs:
            node = self.program.nodes[by[source]] if source in by else None
            if uses[source] != 1 or not isinstance(node, Steps) or not node.exact:
                continue
            if np.all(np.diff(node.below.at) > 0):
                found[source] = by[source]
        return found

    def _term(self, number: int) -> Any:
        node = self.program.nodes[number]
        low, high = self.program.low[number], self.program.high[number]
        if low == high:
            return z3.IntVal(low)
        if isinstance(node, Sum):
            parts = [w * self._terms[s] for s, w in zip(node.sources, node.weights, strict=True)]
            return z3.Sum([*parts, z3.IntVal(node.constant)])
        term = z3.Int(f"n{number}")
        self.formulas += [term >= low, term <= high]
        if isinstance(node, Largest):
            sources = [self._terms[source] for source in node.sources]
            self.formulas += [term >= source for source in sources]
            self.formulas.append(z3.Or([term == source for source in sources]))
        elif isinstance(node, Steps) and node.source not in self._free:
            self._between(term, node)
        return term

    def _between(self, term: Any, node: Steps) -> None:
        key = node.sign * self._terms[node.source]
        ends = sorted(node.sign * end[node.source] for end in (self.program.low, self.program.high))
        self._at_most(term, key, node.above, ends[0], ends[1])
        self._at_least(term, key, node.below, ends[0], ends[1])

    def _at_most(self, term: Any, key: Any, stairs: Staircase, low: int, high: int) -> None:
        line, found = chord(stairs, low, high, above=True), ramp(stairs)
        self.formulas.append(line.divisor * term <= line.slope * key + line.offset)
        if found is None:
            for value, threshold in enumerate(stairs.at.tolist(), start=stairs.start):
                self.formulas.append(z3.Or(term <= value, key >= threshold))
            return
        under = found.divisor * term <= found.slope * key + found.offset
        if found.slope * low + found.offset >= found.divisor * stairs.start:
            self.formulas.append(under)
        else:
            self.formulas.append(z3.Or(term <= stairs.start, under))

    def _at_least(self, term: Any, key: Any, stairs: Staircase, low: int, high: int) -> None:
        line, found = chord(stairs, low, high, above=False), ramp(stairs)
        self.formulas.append(line.divisor * term >= line.slope * key + line.offset)
        if found is None:
            for value, threshold in enumerate(stairs.at.tolist(), start=stairs.start + 1):
                self.formulas.append(z3.Or(term >= value, key < threshold))
            return
        over = found.slope * key + found.offset < found.divisor * (term + 1)
        if found.slope * high + found.offset < found.divisor * (stairs.end + 1):
            self.formulas.append(over)
        else:
            self.formulas.append(z3.Or(term >= stairs.end, over))

    def output(self, index: int) -> Any:
        """The term of an output, in order over all output tensors."""
        key, entry = self._outputs[index]
        if entry is None:
            return self._terms[key]
        if index not in self._reals:
            self._reals[index] = self._real(f"y{index}", self._terms[key], key, entry)
        return self._reals[index]

    def _real(self, name: str, key: Any, number: int, entry: Reals) -> Any:
        """A real number between what the entry may be, at whatever the key is."""
        low, high = self.program.low[number], self.program.high[number]
        if high - low >= _WIDEST_TABLE:
            raise LimitError(f"an output depends on an integer of {high - low + 1} values")
        keys = np.arange(low, high + 1, dtype=np.int64)
        least, most = (np.float64(side[:, 0]) for side in entry.ends(keys[:, None]))
        term = z3.Real(name)
        slope = float(np.float32((most[-1] - least[0]) / max(high - low, 1)))
        line = slope * (keys - low)
        # What float64 loses here is far less than that.
        slack = 2.0**-40 * (np.abs(least).max() + np.abs(most).max() + abs(slope) * (high - low))
        along = _real(Fraction(slope)) * z3.ToReal(key - low)
        self.formulas.append(term >= along + _real(Fraction(float((least - line).min() - slack))))
        self.formulas.append(term <= along + _real(Fraction(float((most - line).max() + slack))))
        if high - low < self.limits.levels:
            self.formulas.append(term >= _table(key, keys, least))
            self.formulas.append(term <= _table(key, keys, most))
        return term

    def constraint(self, c: Constraint) -> Any:
        """That a constraint holds, or may hold where the outputs are only enclosed."""
        compared = self._compared(c)
        if compared is not None:
            return compared
        if len(c.outputs) == 1:
            return self._single(c)
        total = _real(c.constant)
        for index, weight in c.outputs:
            total = total + _real(weight) * self.output(index)
        return total < 0 if c.strict else total <= 0

    def _compared(self, c: Constraint) -> Any | None:
        """``y <= y'`` of two entries with one rising function, as a comparison of their keys."""
        if len(c.outputs) != 2 or c.constant or sum(weight for _, weight in c.outputs):
            return None
        (first, weight), (second, _) = c.outputs
        if weight < 0:
            first, second = second, first
        (key, entry), (other, same) = self._outputs[first], self._outputs[second]
        if (entry is None) != (same is None):
            return None
        if entry is not None and same is not None and not self._one_rising(entry, same):
            return None
        left, right = self._terms[key], self._terms[other]
        return left < right if c.strict else left <= right

    def _one_rising(self, entry: Reals, same: Reals) -> bool:
        if not entry.exact or not same.exact or len(entry.chain) != len(same.chain):
            return False
        low = min(self.program.low[int(k)] for k in (entry.keys[0], same.keys[0]))
        high = max(self.program.high[int(k)] for k in (entry.keys[0], same.keys[0]))
        if high - low >= _WIDEST_TABLE:
            return False
        keys = np.arange(low, high + 1, dtype=np.int64)[:, None]
        values = entry.ends(keys)[0]
        return bool(
            np.all(np.diff(values[:, 0]) > 0) and np.array_equal(values, same.ends(keys)[0])
        )

    def _single(self, c: Constraint) -> Any:
        """A constraint on one output, as a threshold of its key."""
        ((index, weight),) = c.outputs
        number, entry = self._outputs[index]
        low, high = self.program.low[number], self.program.high[number]
        sign = int(entry.sign[0]) if entry is not None else 1

        def holds(at: int) -> bool:
            value = Fraction(at)
            if entry is not None:
                side = entry.ends(np.array([at], dtype=np.int64))[0 if weight > 0 else 1]
                value = Fraction(float(side[0]))
            total = weight * value + c.constant
            return total < 0 if c.strict else total <= 0

        rising = (weight > 0) == (sign > 0)
        below, above = low - 1, high + 1  # the last that holds, if the left side rises
        while above - below > 1:
            middle = (below + above) // 2
            if holds(middle) == rising:
                below = middle
            else:
                above = middle
        return self._terms[number] <= below if rising else self._terms[number] >= above

    def violation(self, unsafe: Sequence[Conjunction]) -> list[Any]:
        """All formulas, and that some disjunct may hold."""
        disjuncts = [z3.And([self.constraint(c) for c in conjunction]) for conjunction in unsafe]
        return [*self.formulas, z3.Or(disjuncts)]

    def inputs(self, model: Any) -> IntArray:
        """The inputs of a model of Z3's."""
        found = []
        for source in self.program.inputs:
            number = self._free.get(source, source)
            value = model.eval(self._terms[number], model_completion=True).as_long()
            node = self.program.nodes[number]
            if isinstance(node, Steps):
                steps = value - node.below.start
                first = (self.program.low if node.sign > 0 else self.program.high)[source]
                value = node.sign * int(node.below.at[steps - 1]) if steps else first
            found.append(value)
        return np.array(found, dtype=np.int64)

    def differs(self, inputs: IntArray) -> Any:
        """That some staircase on the inputs, or some input, has another value."""
        values = self.program.evaluate(inputs[None, :])[0]
        watched = [self._free.get(source, source) for source in self.program.inputs]
        return z3.Or([self._terms[number] != int(values[number]) for number in watched])


def _entry(output: Reals, place: int) -> Reals:
    return output.arranged(lambda array: array.reshape(-1)[place : place + 1])


def _real(value: Fraction) -> Any:
    return z3.RealVal(f"{value.numerator}/{value.denominator}")


def _table(key: Any, keys: IntArray, values: Array) -> Any:
    """The value at a key, as a balanced tree of comparisons."""
    starts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist()]

    def tree(low: int, high: int) -> Any:
        if high - low == 1:
            return _real(Fraction(float(values[starts[low]])))
        middle = (low + high) // 2
        return z3.If(key >= int(keys[starts[middle]]), tree(middle, high), tree(low, middle))

    return tree(0, len(starts))
