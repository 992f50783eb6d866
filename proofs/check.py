"""Is the evidence good?  The kernel's public face."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from proofs.arithmetic import Arithmetic
from proofs.bounds import propagate, sweep
from proofs.domain import Domains, assume
from proofs.exact import Exact
from proofs.format import read_evidence
from proofs.frame import Frame
from proofs.outward import Outward
from proofs.proof import NodeKind, Proof
from proofs.squares import with_squares_of
from proofs.tables import Tables
from proofs.tree import DeadlineError, Rejected, Walker, hull
from proofs.witness import Witness, objection
from proofs.workers import cpu_seconds
from specs.errors import EvidenceError, InputError
from specs.query import Query

ARITHMETICS: dict[str, Callable[[], Arithmetic]] = {"outward": Outward, "exact": Exact}

ANOTHER_KIND = "it is evidence about another kind of claim, made for another question"


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        verdict: ``valid unsat``, ``valid sat``, ``invalid``, ``incomplete`` (the proof has
            holes, or the time limit came first; never counts as valid) or ``unreadable``
            (not evidence, or made for another question).
        reason: in words, for a person.
        question: digest of the question that was checked against.
        arithmetic: which one decided.
        rejected: the leaves that do not close, holes included.
        leaves: how many leaves were looked at.
        vacuous: cases whose region is empty, so that nothing was to be shown.
        cpu_seconds: processor time of the check.
        ended: whether every leaf was looked at.
    """

    verdict: str
    reason: str
    question: str
    arithmetic: str
    rejected: tuple[Rejected, ...] = ()
    leaves: int = 0
    vacuous: tuple[int, ...] = ()
    cpu_seconds: float = 0.0
    ended: bool = False

    @property
    def valid(self) -> bool:
        """Whether the evidence establishes its claim."""
        return self.verdict in ("valid unsat", "valid sat")


@dataclass
class _Progress:
    """Counts leaves over all walkers of a check."""

    report: Callable[[int], None]
    processes: int
    before: int = 0
    vacuous: list[int] = field(default_factory=list)

    def within(self, leaves: int) -> None:
        self.report(self.before + leaves)


def check_file(
    query: Query,
    path: str | Path,
    *,
    arithmetic: str = "outward",
    deadline: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
    processes: int | None = None,
) -> Checked:
    """Check a proof or witness file against a question; see :func:`check_proof`."""
    return read_and_check(
        query,
        path,
        arithmetic=arithmetic,
        deadline=deadline,
        progress=progress,
        processes=processes,
    )[0]


def read_and_check(
    query: Query, path: str | Path, *, arithmetic: str = "outward", **how: Any
) -> tuple[Checked, Proof | Witness | None]:
    """As :func:`check_file`, with what was read; ``None`` where the file is no evidence."""
    try:
        evidence = read_evidence(path)
    except EvidenceError as error:
        return Checked("unreadable", str(error), query.digest, arithmetic), None
    if isinstance(evidence, Witness):
        return check_witness(query, evidence), evidence
    if not isinstance(evidence, Proof):
        return Checked("unreadable", ANOTHER_KIND, query.digest, arithmetic), None
    return check_proof(query, evidence, arithmetic=arithmetic, **how), evidence


def check_witness(query: Query, witness: Witness) -> Checked:
    """Evaluate a witness exactly; nothing is rounded."""
    started = cpu_seconds()
    why = objection(query, witness)
    seconds = cpu_seconds() - started
    if why is None:
        reason = f"the point violates case {witness.case}, disjunct {witness.disjunct}"
        return Checked("valid sat", reason, query.digest, "exact", cpu_seconds=seconds)
    verdict = "unreadable" if witness.question != query.digest else "invalid"
    return Checked(verdict, why, query.digest, "exact", cpu_seconds=seconds)


def check_proof(
    query: Query,
    proof: Proof | None,
    *,
    arithmetic: str = "outward",
    deadline: float | None = None,
    progress: Callable[[int], None] = lambda _: None,
    processes: int | None = None,
) -> Checked:
    """Check a proof that a query's property holds.

    Args:
        query: the question, stated by whoever checks.
        proof: ``None`` is the empty proof: default bounds, no splits.
        arithmetic: ``"outward"`` or ``"exact"``.
        deadline: a ``time.monotonic()`` value.
        progress: called with the number of leaves looked at.
        processes: how many to use, without any effect on what is found; ``None``: one for
            each processor that this process may use.

    Raises:
        InputError: the arithmetic is unknown, or the network has no rule in the kernel.
    """
    if arithmetic not in ARITHMETICS:
        raise InputError(f"unknown arithmetic '{arithmetic}': say outward or exact")
    started = cpu_seconds()
    state = _Progress(progress, usable_processors() if processes is None else processes)
    rejected: list[Rejected] = []
    try:
        if proof is not None and proof.question != query.digest:
            raise EvidenceError("the proof was made for another question")
        if proof is not None:
            query = with_squares_of(query, proof)
        tables = None if proof is None else Tables(query, proof)
    except EvidenceError as error:
        seconds = cpu_seconds() - started
        return Checked("unreadable", str(error), query.digest, arithmetic, cpu_seconds=seconds)
    trouble: tuple[str, str] | None = None
    try:
        numbers = ARITHMETICS[arithmetic]()
        with np.errstate(all="ignore"):  # overflow is looked for where it matters
            for walker in _walkers(query, tables, numbers, deadline, state):
                rejected += walker.rejected
                state.before += walker.leaves
    except DeadlineError:
        trouble = "incomplete", "the time limit came first"
    except EvidenceError as error:
        trouble = "invalid", str(error)
    if trouble is not None:
        verdict, reason = trouble
    elif rejected:
        holes = tables is not None and all(_is_hole(tables, r) for r in rejected)
        verdict, reason = "incomplete" if holes else "invalid", _words(rejected)
    else:
        verdict, reason = "valid unsat", f"all {state.before} leaves close"
    return Checked(
        verdict,
        reason,
        query.digest,
        arithmetic,
        tuple(rejected),
        state.before,
        tuple(state.vacuous),
        cpu_seconds() - started,
        trouble is None,
    )


def _walkers(
    query: Query,
    tables: Tables | None,
    arithmetic: Arithmetic,
    deadline: float | None,
    state: _Progress,
) -> Iterator[Walker]:
    """Walkers that have done their work: one for each case with a tree, one for the rest."""
    listed = [] if tables is None else tables.cases
    for position, case in enumerate(listed):
        frame = Frame(query.network, arithmetic)
        walker = Walker(query, frame, tables, deadline, state.within, state.processes)
        if tables is not None:
            _check_case(walker, tables, position, case, state)
        yield walker
    known = set(listed)
    rest = [case for case in range(len(query.property.cases)) if case not in known]
    if not rest:
        return
    frame = Frame(query.network, arithmetic)
    walker = Walker(query, frame, None, deadline, state.within, state.processes)
    if len(rest) == 1:
        root = walker.root(rest[0], record=True)
        if root.batch.empty[0]:
            state.vacuous.append(rest[0])
        _exclude_overflow(walker, root)
        walker.prelude(root, [(NodeKind.SWEEP, 0)])  # magnitudes as well
        walker.close(root)
    else:  # magnitudes over the hull of all regions hold for each of them
        around = Domains.root(-1, *hull(query.property.cases), 0).batch
        propagate(frame, around, record=True)
        sweep(frame, around, record=True, tick=walker.tick)
        _refuse_overflow(frame)
        walker.walk(_plain_roots(query, rest, state))
    yield walker


def _plain_roots(query: Query, cases: list[int], state: _Progress) -> Iterator[Domains]:
    for case in cases:
        stated = query.property.cases[case]
        root = Domains.root(case, *stated.box(), len(stated.unsafe))
        if root.batch.empty[0]:
            state.vacuous.append(case)
        yield root


def _check_case(walker: Walker, tables: Tables, position: int, case: int, state: _Progress) -> None:
    root, empty = case_root(walker, tables, position, case)
    if empty:
        state.vacuous.append(case)
    trees = tables.trees_of(case)
    if not any(tables.tree_disjunct(t) is None and not tables.tree_literals(t) for t in trees):
        walker.rejected.append(Rejected(case, None, None, "no tree refutes the whole case"))
    walker.walk(tree_roots(walker, tables, root, trees))


def case_root(walker: Walker, tables: Tables, position: int, case: int) -> tuple[Domains, bool]:
    """The root state of a case with its prelude, and whether its region is empty.

    Magnitudes are taken from it.

    Raises:
        EvidenceError: under float semantics overflow is not excluded.
    """
    root = walker.root(case, record=True)
    empty = bool(root.batch.empty[0])
    _exclude_overflow(walker, root)
    walker.prelude(root, tables.prelude(position))
    return root, empty


def _exclude_overflow(walker: Walker, root: Domains) -> None:
    """Sweep the root if intervals alone do not show that nothing overflows.

    Raises:
        EvidenceError: the sweep does not show it either.
    """
    if root.batch.empty[0] or walker.frame.overflow() is None:
        return
    sweep(walker.frame, root.batch, record=True, tick=walker.tick)
    _refuse_overflow(walker.frame)


def _refuse_overflow(frame: Frame) -> None:
    tensor = frame.overflow()
    if tensor is not None:
        raise EvidenceError(f"overflow is not excluded at tensor '{tensor}'")


def tree_roots(
    walker: Walker, tables: Tables, root: Domains, trees: Iterable[int]
) -> Iterator[Domains]:
    """Each tree starts from the root state of its case and its own literals."""
    (path,) = root.paths
    for tree in trees:
        walker.tick()
        disjunct = tables.tree_disjunct(tree)
        assumed = path if disjunct is None else replace(path, disjuncts=(disjunct,))
        first = Domains(np.array([tables.tree_root(tree)]), [assumed], root.batch)
        for literal in tables.tree_literals(tree):
            first = assume(walker.frame, first, [literal])
        yield first


def usable_processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _is_hole(tables: Tables, rejected: Rejected) -> bool:
    return rejected.node is not None and tables.is_hole(rejected.node)


def _words(rejected: list[Rejected]) -> str:
    first = rejected[0]
    place = f"case {first.case}" + ("" if first.node is None else f", node {first.node}")
    missing = "" if first.shortfall is None else f" (by {first.shortfall:.3g})"
    return f"{len(rejected)} leaves do not close; {place}: {first.reason}{missing}"
