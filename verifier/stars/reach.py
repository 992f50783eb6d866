"""The reachable output set of a question's regions, as a union of stars.

Floating point throughout: a set is exact, or contains the reachable one, up to the rounding
of its computation and the tolerances of a solver.  No kernel checks it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace

import numpy as np

from specs.network import Network
from specs.query import Query
from verifier.stars.corners import FloatArray
from verifier.stars.lp import Infeasible, SolverError
from verifier.stars.sets import Solver, Star, at_points, zonotope
from verifier.stars.walk import OUTPUT, Budget, Open, Walker, first_star, hull, refuse

SHARE = 24
"""Parcels of open stars per process."""
SPLITTING, CLOSING = 0.7, 0.9
"""Of the time given: until then stars are split, and until then what is left is relaxed."""


@dataclass(frozen=True, eq=False)
class Part:
    """One star of the union.

    Attributes:
        case: the number of the case whose region it comes from.
        star: the outputs, as tensor ``OUTPUT``.
    """

    case: int
    star: Star


@dataclass(eq=False)
class Reached:
    """The reachable set.

    Attributes:
        query: the question; only its regions count.
        parts: stars whose union contains the set.
        empty: cases whose region is empty.
        stopped: ``"timeout"`` or ``"interrupted"`` where not all was done as asked.
        boxes: how many parts are boxes of outputs that cover what was not done.
        troubled: how many parts are boxes since a linear program had no answer.
        splits, relaxed, programs: neurons split, neurons relaxed and linear programs solved.
        seconds: wall time.
    """

    query: Query
    parts: list[Part] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    stopped: str | None = None
    boxes: int = 0
    troubled: int = 0
    splits: int = 0
    relaxed: int = 0
    programs: int = 0
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the union is the set itself, not only a set that contains it."""
        return all(part.star.exact for part in self.parts)


def reach(
    query: Query,
    budget: Budget,
    *,
    deadline: float | None = None,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda finished, open_stars: None,
) -> Reached:
    """The reachable outputs of every case's region.

    Args:
        query: the question.
        budget: what is split and what is relaxed.
        deadline: by the monotonic clock.  When little time is left, what is open is relaxed
            without further splits; and when hardly any is left, or the user interrupts,
            covered by boxes of outputs.
        processes: that share the work.
        progress: told how many stars are finished and open.

    Raises:
        QuestionError: stars say nothing of such a network, or a region is unbounded.
    """
    refuse(query.network, budget)
    began = time.monotonic()
    found = Reached(query)
    split_until, close_until = (
        None if deadline is None else began + share * (deadline - began)
        for share in (SPLITTING, CLOSING)
    )
    for number, case in enumerate(query.property.cases):
        solver = Solver()
        start = first_star(query.network, case, solver)
        found.programs += solver.solves
        if start is None:
            found.empty.append(number)
            continue
        todo = [Open(start, 0)]
        if found.stopped is None:
            todo = _run(
                query.network, budget, todo, number, found, split_until, processes, progress
            )
        if found.stopped == "timeout":
            coarse = replace(budget, splits=0)
            todo = _run(query.network, coarse, todo, number, found, close_until, 1, progress)
        for item in todo:
            found.parts.append(Part(number, hull(query.network, item)))
        found.boxes += len(todo)
    found.seconds = time.monotonic() - began
    return found


def _run(
    network: Network,
    budget: Budget,
    todo: list[Open],
    case: int,
    found: Reached,
    deadline: float | None,
    processes: int,
    progress: Callable[[int, int], None],
) -> list[Open]:
    """Take a case's stars to the outputs; returns what is open at the end."""
    solver = Solver(deadline)
    walker = Walker(network, budget, solver)

    def keep(star: Star) -> None:
        found.parts.append(Part(case, replace(star, predicates=star.predicates.alone())))

    try:
        if processes > 1:
            todo = walker.run(todo, keep, deadline, SHARE * processes)
            todo = _shared(network, budget, todo, keep, found, deadline, processes, progress)
        else:
            count = len(found.parts)

            def keep_and_tell(star: Star) -> None:
                keep(star)
                progress(len(found.parts) - count, 0)

            todo = walker.run(todo, keep_and_tell, deadline)
        if todo:
            found.stopped = "timeout"
    except KeyboardInterrupt as stop:
        found.stopped = "interrupted"
        todo = list(stop.args[0]) if stop.args else todo
    found.troubled += walker.troubled
    found.splits += walker.splits
    found.relaxed += walker.relaxed
    found.programs += solver.solves
    return todo


@dataclass(frozen=True, eq=False)
class _Done:
    """What a process made of a parcel."""

    stars: list[Star]
    left: list[Open]
    troubled: int
    splits: int
    relaxed: int
    programs: int


_NETWORK: list[Network] = []
"""Of a process that helps: what :func:`_prepare` was given."""


def _prepare(network: Network) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks decides
    _NETWORK[:] = [network]


def _parcel(budget: Budget, item: Open, deadline: float | None) -> _Done:
    solver = Solver(deadline)
    walker = Walker(_NETWORK[0], budget, solver)
    stars: list[Star] = []
    left = walker.run([item], stars.append, deadline)
    alone = [replace(star, predicates=star.predicates.alone()) for star in stars]
    return _Done(alone, left, walker.troubled, walker.splits, walker.relaxed, solver.solves)


def _shared(
    network: Network,
    budget: Budget,
    todo: Sequence[Open],
    keep: Callable[[Star], None],
    found: Reached,
    deadline: float | None,
    processes: int,
    progress: Callable[[int, int], None],
) -> list[Open]:
    """The same in several processes.

    Raises:
        KeyboardInterrupt: with what is open as its argument.
    """
    left: list[Open] = []
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, _prepare, (network,))
    try:
        waiting = {}
        for item in todo:
            star = replace(item.star, predicates=item.star.predicates.alone())
            sent = replace(item, star=star)  # its history is of no use elsewhere
            if item.pending is not None:
                sent = replace(sent, pending=replace(item.pending, star=star))
            waiting[pool.submit(_parcel, budget, sent, deadline)] = item
        try:
            while waiting:
                ready, _ = wait(waiting, return_when="FIRST_COMPLETED")
                for future in ready:
                    done = future.result()
                    del waiting[future]
                    for star in done.stars:
                        keep(star)
                    left += done.left
                    found.troubled += done.troubled
                    found.splits += done.splits
                    found.relaxed += done.relaxed
                    found.programs += done.programs
                progress(len(found.parts), len(waiting))
        except KeyboardInterrupt:
            for process in (pool._processes or {}).values():
                process.kill()  # a parcel may take long, and the pool has no way to end one
            raise KeyboardInterrupt([*left, *waiting.values()]) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return left


def ranges(parts: Iterable[Part], size: int, deadline: float | None = None) -> FloatArray:
    """``(size, 2)`` the least and the greatest value of every output over a union.

    Each end is that of the star that goes furthest, found from its corners or by a linear
    program; a star whose zonotope does not go as far is passed over.  Where the solver has no
    answer, or from the deadline on, the end is the zonotope's.
    """
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    listed = list(parts)
    for part in listed:
        if part.star.predicates.cornered:
            values = at_points(part.star.images[OUTPUT], part.star.predicates.points)
            low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    solver = Solver(deadline)
    for part in listed:
        predicates = part.star.predicates
        if predicates.cornered:
            continue
        image = part.star.image(OUTPUT)
        least, most = zonotope(image, predicates)
        for k in range(size):
            for sign, ends, reach_of in ((1.0, low, least[k]), (-1.0, high, most[k])):
                if sign * reach_of >= sign * ends[k]:
                    continue
                end = reach_of
                try:
                    found = solver.minimise(predicates, sign * image[1:, k])
                    if isinstance(found, Infeasible):
                        continue
                    end = image[0, k] + sign * found.bound
                except SolverError:
                    pass
                ends[k] = sign * min(sign * ends[k], sign * end)
    return np.stack([low, high], axis=1)
