"""Making proofs small: a search for a smaller proof with the kernel as oracle.

A pass changes a draft so that everything still closes; passes are repeated until none makes
the proof smaller in the order that is asked for.  Nothing here needs to be trusted, and
whatever comes out is checked again by whoever uses it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from proofs.draft import TWO_WAY, Node, draft_of, written
from proofs.format import file_content
from proofs.oracle import Oracle
from proofs.passes import closing, cores, preludes, probes, regrow, rounding, sharing, thin
from proofs.passes.closing import Merger, Reoptimise
from proofs.passes.coarse import BITS
from proofs.passes.edits import Work
from proofs.passes.quick import Quick
from proofs.proof import NEURONS, SIZES, NodeKind, Proof
from proofs.tree import DeadlineError
from specs.errors import InputError
from specs.query import Query


@dataclass(frozen=True)
class Size:
    """How large a proof is.

    Attributes:
        bytes: of its file, packed.
        leaves, splits: of its trees.
        hints: slopes, multipliers and weights that it stores.
        steps: bound steps that it stores.
        work: what checking it costs, roughly: sweeps count 1, other operations 0.1, those of
            preludes as well.
    """

    bytes: int
    leaves: int
    splits: int
    hints: int
    steps: int
    work: float

    @staticmethod
    def of(proof: Proof, *, pack: bool = True) -> Size:
        """The size of a proof, in a packed file or a plain one."""
        kinds, arrays = proof.arrays["node_kind"], proof.arrays
        every = np.concatenate([kinds, arrays["prelude_kind"]])
        args = np.concatenate([arrays["node_arg"], arrays["prelude_arg"]])
        sweeps = int(np.count_nonzero((every == NodeKind.SWEEP) & (args == 0)))
        hints = ("slope", "multiplier_value", "weight_value")
        return Size(
            len(file_content(proof, pack=pack)),
            proof.leaves,
            int(np.count_nonzero(np.isin(kinds, (*TWO_WAY, NodeKind.SPLIT_DISJUNCT)))),
            sum(int(arrays[name].size) for name in hints),
            int(arrays["step_target"].size),
            1.0 + sweeps + 0.1 * (every.size - sweeps),
        )


ORDERS: dict[str, Callable[[Size], tuple[float, ...]]] = {
    "both": lambda size: (size.bytes * size.work,),
    "bytes": lambda size: (size.bytes, size.leaves, size.work),
    "time": lambda size: (size.work, size.bytes),
    "leaves": lambda size: (size.leaves, size.bytes, size.work),
}
"""What is minimised, by name: bytes times work by default."""

EFFORTS = ("none", "default", "high")


@dataclass(frozen=True)
class Taken:
    """What a pass did.

    Attributes:
        name: of the pass.
        before, after: the proof's size; equal where the pass was taken back.
        seconds: that it took.
    """

    name: str
    before: Size
    after: Size
    seconds: float


@dataclass(frozen=True, eq=False)
class Minimised:
    """A smaller proof.

    Attributes:
        proof: the smallest one found, to be checked like any other.
        taken: the passes, in order.
        finished: whether no pass makes it smaller; otherwise the time was over.
    """

    proof: Proof
    taken: tuple[Taken, ...]
    finished: bool


Pass = Callable[[Work, Sequence[Node]], object]
"""Changes what is below some nodes so that it still closes."""


def minimise(
    query: Query,
    proof: Proof,
    *,
    effort: str = "default",
    order: str = "both",
    deadline: float | None = None,
    reoptimise: Reoptimise | None = None,
    progress: Callable[[str, Size], None] = lambda name, size: None,
    interruptible: bool = False,
) -> Minimised:
    """A smaller proof of the same question.

    Deterministic, but for a deadline.  Leaves that do not close stay as they are.

    Args:
        query: the question that the proof was made for.
        proof: the proof.
        effort: ``"default"``: what is gained quickly; ``"high"``: all passes, again and again;
            ``"none"``: the same proof.
        order: what is minimised; see :data:`ORDERS`.
        deadline: ``time.monotonic()`` at which the best proof so far is returned.
        reoptimise: finds multipliers that close inner nodes; without, none are tried.
        progress: called with the name and outcome of every pass.
        interruptible: whether ``KeyboardInterrupt`` ends it as a deadline does.

    Raises:
        EvidenceError: the proof is malformed, or made for another question.
        InputError: an effort or order that there is not.
    """
    if effort not in EFFORTS:
        raise InputError(f"effort '{effort}': say {', '.join(EFFORTS)}")
    if order not in ORDERS:
        raise InputError(f"order '{order}': say one of {', '.join(ORDERS)}")
    run = _Run(query, proof, ORDERS[order], deadline, progress)
    finished = effort == "none"
    try:
        if effort == "default":
            if reoptimise is not None:
                run.take(*_anew(reoptimise))
            run.take("quick", Quick(deadline))
            finished = True
        idle: dict[str, Proof] = {}  # passes that gained nothing, and where
        while effort == "high" and not finished:
            before = run.proof
            for name, each in passes(reoptimise):
                if idle.get(name) is run.proof:
                    continue
                run.take(name, each)
                idle[name] = run.proof
            finished = run.proof is before
    except DeadlineError:
        finished = False
    except KeyboardInterrupt:
        if not interruptible:
            raise
        finished = False
    return Minimised(run.proof, tuple(run.taken), finished)


class _Run:
    """The best draft so far, and what was done."""

    def __init__(
        self,
        query: Query,
        proof: Proof,
        key: Callable[[Size], tuple[float, ...]],
        deadline: float | None,
        progress: Callable[[str, Size], None],
    ) -> None:
        self.key, self._progress = key, progress
        self._draft = draft_of(query, proof)
        kept = proof.manifest.keys() - {"signatures", SIZES, NEURONS}
        self._manifest = {key: proof.manifest[key] for key in sorted(kept)}
        self._oracle = Oracle(self._draft.query, deadline=deadline)
        self.proof, self.size = proof, Size.of(proof)
        self.taken: list[Taken] = []

    def take(self, name: str, each: Pass) -> None:
        """Take a pass; keep what came of it if the proof is smaller.

        Raises:
            DeadlineError: the time is over; what was done in time is kept.
        """
        started, before = time.monotonic(), self.size
        draft = self._draft.copy()
        work = Work(draft, self._oracle)
        over: DeadlineError | None = None
        try:
            each(work, [tree.root for tree in draft.trees()])
        except DeadlineError as error:
            work.give_up()
            over = error
        thin.remove_skipped(draft)
        made, _ = written(draft)
        made = replace(made, manifest={**self._manifest, **made.manifest})
        size = Size.of(made)
        if self.key(size) < self.key(before):
            self._draft, self.proof, self.size = draft, made, size
        self.taken.append(Taken(name, before, self.size, time.monotonic() - started))
        self._progress(name, self.size)
        if over is not None:
            raise over


PART = 256
"""Leaves of a part that a pass works on at a time: what is done is kept if time runs out."""


def _anew(reoptimise: Reoptimise) -> tuple[str, Pass]:
    return "close inner nodes anew", _merged(reoptimise)


def _merged(reoptimise: Reoptimise) -> Pass:
    """Close inner nodes with what is found for them."""
    return _settled(lambda work, tops: Merger(work, reoptimise).merge(tops))


def passes(reoptimise: Reoptimise | None) -> Iterator[tuple[str, Pass]]:
    """All passes, one after the other."""
    if reoptimise is not None:
        yield _anew(reoptimise)
    yield "close inner nodes without hints", _merged(closing.with_defaults)
    yield "close inner nodes with hints below", _merged(closing.with_hints_below)
    yield "grow trees anew", lambda work, _: regrow.regrow(work, math.inf)
    yield "leave out splits quickly", _quickly
    yield "leave out splits", _by_parts(cores.collapse)
    yield "leave out sweeps", _settled(thin.sweeps)
    yield "leave out clips", _settled(thin.clips)
    yield "leave out bound steps", _settled(thin.steps)
    yield "leave out hints", _settled(closing.without_hints)
    yield "share hints", _by_parts(lambda work, tops: work.settle(tops, sharing.share(work, tops)))
    yield "round preludes", lambda work, _: preludes.rounded(work)
    yield "thin preludes", lambda work, _: preludes.thinned(work)
    yield "leave out preludes' sweeps", lambda work, _: preludes.unswept(work)
    for rung, (bits, *_) in enumerate(BITS):
        yield f"round to {bits} bits", _settled(partial(rounding.hints, rung=rung))


def _quickly(work: Work, tops: Sequence[Node]) -> None:
    probes.collapse(work, tops, math.inf)


def _settled(change: Pass) -> Pass:
    """A change part by part, each taken back where leaves no longer close."""

    def run(work: Work, tops: Sequence[Node]) -> None:
        change(work, tops)
        work.settle(tops)

    return _by_parts(run)


def _by_parts(change: Pass) -> Pass:
    def run(work: Work, _: Sequence[Node]) -> None:
        for part in list(work.parts(PART)):
            change(work, part)

    return run
