"""Bounds of one network by every rule for its pools, with what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from torch import Tensor

from benchmarks.check_cost import median
from benchmarks.generated import Model
from benchmarks.pooling import cut_at_pools, optimised, relax
from verifier.alpha import Effort, Problem, initial, optimise
from verifier.bounds import Domains, Rows, TorchNetwork, concretize, substitute
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import Swept, fresh, sweep

Result = TypeVar("Result")
Box = tuple[Tensor, Tensor]

STEPS = 100
"""Gradient steps where lines or planes are optimised."""

RULES = ("tree", "constant", "plane", "compared")
OPTIMISED = ("tree", "plane", "compared")
NAMES = (*RULES, *(f"{rule}, optimised" for rule in OPTIMISED))


@dataclass(frozen=True, eq=False)
class Found:
    """Bounds ``(R,)`` of rows by one rule.

    Attributes:
        open_: Relus, or windows, whose case is open; ``rows``: substituted back for the
            bounds of what lies inside; ``seconds``: CPU time of all of it.
    """

    bounds: Tensor
    open_: int
    rows: int
    seconds: float


def timed(work: Callable[[], Result], runs: int) -> tuple[Result, float]:
    """What some work comes to, and its median CPU seconds."""
    results: list[Result] = []
    seconds = median(lambda: results.append(work()), runs)
    return results[-1], seconds


def by_tree(net: TorchNetwork, box: Box, rows: Tensor) -> tuple[Swept, Tensor]:
    """A sweep, and bounds of rows ``(R, outputs)`` by its lines."""
    swept = sweep(net, fresh(net, *box))
    forms = Rows({net.outputs[0]: rows}, rows.new_zeros(len(rows)))
    return swept, concretize(*substitute(net, forms, swept.lines.__getitem__), *box)


def tree_optimised(net: TorchNetwork, known: Domains, rows: Tensor) -> Tensor:
    """Bounds by slopes optimised for every row, as the search starts from."""
    forms = Rows({net.outputs[0]: rows[:, None]}, rows.new_zeros(len(rows), 1))
    problem = Problem(net, forms, known.low, known.high, known.lower, known.upper)
    return optimise(problem, initial(problem), Effort(STEPS))[0]


def measure(model: Model, box: Box, rows: Tensor, runs: int) -> dict[str, Found]:
    """Bounds of rows ``(R, outputs)`` over a box ``(1, I)`` by the rules.

    What is compiled, once for a network, takes no part in the seconds.
    """
    net, cut, found = compile_network(model[0]), cut_at_pools(model[1].content), {}
    for rule in RULES:
        if rule == "tree":
            (swept, bounds), seconds = timed(partial(by_tree, net, box, rows), runs)
            known, count = swept.domains, swept.rows
            open_ = int(net.unstable(known.lower, known.upper).sum())
            better = partial(tree_optimised, net, known, rows)
        else:
            relaxed, seconds = timed(partial(relax, cut, *box, rule), runs)
            bounds, more = timed(partial(relaxed.outputs, rows), runs)
            seconds, open_, count = seconds + more, relaxed.open_, relaxed.rows
            better = partial(optimised, relaxed, rows, STEPS)
        found[rule] = Found(bounds, open_, count, seconds)
        if rule in OPTIMISED:
            bounds, more = timed(better, 1)
            found[f"{rule}, optimised"] = Found(bounds, open_, count, seconds + more)
    return {name: found[name] for name in NAMES}
