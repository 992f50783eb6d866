"""Walking the trees of a proof: the rules Split and Close, in batches of domains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from proofs.arithmetic import Arithmetic, Numbers
from proofs.bounds import (
    Batch,
    Frame,
    Hints,
    IndexArray,
    Relaxations,
    Rows,
    bound_neurons,
    propagate,
    substitute,
    sweep,
    unstable,
)
from proofs.domain import Domain, Literal, assume, literals, middle, stack, unstack
from proofs.forms import Form, combine, of_constraint
from proofs.proof import Fact, NodeKind, Side
from proofs.tables import EMPTY, Step, Substitution, Tables
from specs.enclosure import FloatArray
from specs.errors import EvidenceError, FarkasError
from specs.property import Case
from specs.query import Query


class DeadlineError(FarkasError):
    """The time limit of a check is over."""


@dataclass(frozen=True)
class Rejected:
    """A leaf that does not close.

    Attributes:
        case: of the property.
        node: position in the proof's node arrays; ``None`` for a case without a tree.
        shortfall: how far the best row of the worst disjunct stays below 0; ``None``
            where no row was there to try or a citation fails.
        reason: in words.
    """

    case: int
    node: int | None
    shortfall: float | None
    reason: str


@dataclass(frozen=True, eq=False)
class _Template:
    """Rows that refute the disjuncts of one case without hints."""

    constant: Numbers
    entries: dict[int, tuple[IndexArray, IndexArray, Numbers]]
    disjunct: IndexArray
    strict: npt.NDArray[np.bool_]


Task = tuple[int | None, Domain]
FORM_ENTRIES = 1 << 18  # rationals, some hundred bytes each


class Walker:
    """Checks trees whose cases share a frame.

    Args:
        query: the question.
        frame: magnitudes that hold for all cases walked.
        tables: the proof's arrays; ``None``: every case has the empty proof.
        deadline: ``time.monotonic()`` after which ``DeadlineError`` is raised.
        report: called with the number of leaves done so far.
    """

    def __init__(
        self,
        query: Query,
        frame: Frame,
        tables: Tables | None,
        deadline: float | None = None,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._query, self.frame, self._tables = query, frame, tables
        self._arithmetic: Arithmetic = frame.arithmetic
        self._deadline, self._report = deadline, report
        self._templates: dict[tuple[int, tuple[int, ...]], _Template] = {}
        self._forms: dict[tuple[int, int], list[Form]] = {}
        self._weighted: dict[tuple[int, int, tuple[float, ...]], list[Form]] = {}
        self.rejected: list[Rejected] = []
        self.leaves = 0
        self._places = max(1, sum(query.network.sizes))
        self._room = max(1, frame.arithmetic.entry_budget // self._places)
        self._width = min(1024, self._room)

    def root(self, case: int, *, record: bool = False) -> Domain:
        """The state of a case before its prelude: its box and the intervals it implies."""
        stated = self._query.property.cases[case]
        lower, upper = stated.box()
        domain = Domain(case, lower, upper, {}, tuple(range(len(stated.unsafe))))
        domain = replace(domain, empty=bool(np.any(lower > upper)))
        batch = stack([domain])
        propagate(self.frame, batch, record=record)
        return unstack([domain], batch)[0]

    def prelude(self, domain: Domain, operations: Iterable[tuple[NodeKind, int]]) -> Domain:
        """The root state of a case; magnitudes are taken from it."""
        for kind, arg in operations:
            self.tick()
            batch = stack([domain])
            if kind is NodeKind.SWEEP and arg == 0:
                sweep(self.frame, batch, record=True, tick=self.tick)
            elif kind is NodeKind.SWEEP:
                propagate(self.frame, batch, record=True)
            else:
                self._bound(self._step(arg), [domain], batch)
                propagate(self.frame, batch, record=True)
            domain = unstack([domain], batch)[0]
        return domain

    def walk(self, tasks: Iterable[Task]) -> None:
        """Check subtrees, given as first node (``None``: the empty proof) and domain."""
        source = iter(tasks)
        waiting: list[Task] = []
        while True:
            while len(waiting) < self._width:
                task = next(source, None)
                if task is None:
                    break
                waiting.append(task)
            if not waiting:
                return
            self.tick()
            # Small steps where many domains wait: deep trees must not fill the memory.
            width = max(1, self._width // (1 + len(waiting) // (2 * self._room)))
            batch, waiting = waiting[-width:], waiting[:-width]
            waiting += self._advance(batch)
            self._report(self.leaves)

    def tick(self) -> None:
        """Raise when the deadline is over."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise DeadlineError("the time limit is over")

    def _advance(self, tasks: Sequence[Task]) -> list[Task]:
        """One step of every task, those of a kind together; returns what they lead to."""
        following: list[Task] = []
        sweeps: list[Task] = []
        intervals: list[Task] = []
        bounds: dict[int, list[Task]] = {}
        closes: list[Task] = []
        for node, domain in tasks:
            if domain.empty:
                self.leaves += 1
            elif node is None:
                sweeps.append((node, domain))
            else:
                kind, arg = self._node(node)
                if kind is NodeKind.CLOSE:
                    closes.append((node, domain))
                elif kind is NodeKind.SWEEP:
                    (intervals if arg else sweeps).append((node, domain))
                elif kind is NodeKind.BOUND:
                    bounds.setdefault(arg, []).append((node, domain))
                else:
                    following += self._branch(node, kind, arg, domain)
        if intervals:
            domains = [domain for _, domain in intervals]
            batch = stack(domains)
            propagate(self.frame, batch)
            following += _below(intervals, unstack(domains, batch))
        for number, group in bounds.items():
            domains = [domain for _, domain in group]
            batch = stack(domains)
            self._bound(self._step(number), domains, batch)
            following += _below(group, unstack(domains, batch))
        if sweeps:
            following += self._sweep(sweeps)
        if closes:
            self._close(closes, stack([domain for _, domain in closes]))
        return following

    def _sweep(self, tasks: list[Task]) -> list[Task]:
        domains = [domain for _, domain in tasks]
        batch = stack(domains)
        sweep(self.frame, batch, tick=self.tick)
        closing = np.array([node is None or self._closes(node + 1) for node, _ in tasks])
        if closing.any():  # no need to take the batch apart
            chosen = np.flatnonzero(closing)
            leaves = [(None if n is None else n + 1, d) for n, d in (tasks[i] for i in chosen)]
            self._close(leaves, batch if closing.all() else batch.pick(chosen))
        if closing.all():
            return []
        swept = unstack(domains, batch)
        kept = [i for i in range(len(tasks)) if not closing[i]]
        return _below([tasks[i] for i in kept], [swept[i] for i in kept])

    def _node(self, node: int) -> tuple[NodeKind, int]:
        if self._tables is None:
            raise EvidenceError("the empty proof has no nodes")
        return NodeKind(int(self._tables.node_kind[node])), int(self._tables.node_arg[node])

    def _closes(self, node: int) -> bool:
        return self._node(node)[0] is NodeKind.CLOSE

    def _step(self, number: int) -> Step:
        if self._tables is None:
            raise EvidenceError("the empty proof has no bound steps")
        return self._tables.step(number)

    def _branch(self, node: int, kind: NodeKind, arg: int, domain: Domain) -> list[Task]:
        """Children of a split, or the verdict on a leaf that is no CLOSE."""
        if self._tables is None:
            raise EvidenceError("the empty proof has no splits")
        if kind is NodeKind.HOLE:
            self._done(node, domain, None, "the proof leaves it open")
            return []
        if kind is NodeKind.CITE:
            self._done(node, domain, None, self._citation(node, arg, domain))
            return []
        if kind is NodeKind.SPLIT_DISJUNCT:
            if arg != len(domain.disjuncts):
                self._done(node, domain, None, "a disjunct split does not list every disjunct")
                return []
            children: list[Task] = []
            place = node + 1
            for disjunct in domain.disjuncts:
                children.append((place, replace(domain, disjuncts=(disjunct,))))
                place += int(self._tables.subtree[place])
            return children
        below = self._literal(kind, arg, domain)
        above = replace(below, side=Side.UPPER)
        second = node + 1 + int(self._tables.subtree[node + 1])
        return [
            (node + 1, assume(self.frame, domain, below)),
            (second, assume(self.frame, domain, above)),
        ]

    def _literal(self, kind: NodeKind, arg: int, domain: Domain) -> Literal:
        """The lower side of a split; the kernel alone makes the other one from it."""
        if self._tables is None:
            raise EvidenceError("the empty proof has no splits")
        if kind is NodeKind.SPLIT_AT:
            return self._tables.literal(arg, Side.LOWER)
        if kind is NodeKind.SPLIT_NEURON:
            return Literal(((self._tables.neuron(arg), 1.0),), 0.0, Side.LOWER)
        for tensor in self.frame.network.inputs:
            columns = self.frame.box_columns(tensor)
            if columns.start <= arg < columns.stop:
                place = (tensor, arg - columns.start)
                return Literal(((place, 1.0),), middle(domain, arg), Side.LOWER)
        raise EvidenceError("a split of an input that does not exist")

    def _citation(self, node: int, tree: int, domain: Domain) -> str | None:
        """Why a leaf does not follow from the tree that it cites, or ``None``."""
        tables = self._tables
        if tables is None or tree >= tables.tree_of(node):
            return "it cites a tree that is not an earlier one"
        if tables.tree_case(tree) != domain.case:
            return "it cites a tree of another case"
        disjunct = tables.tree_disjunct(tree)
        if disjunct is not None and set(domain.disjuncts) - {disjunct}:
            return "it cites a tree that does not refute all its disjuncts"
        wanted, path = tables.tree_literals(tree), literals(domain.trail)
        closest: dict[tuple[object, Side], Literal] = {}
        for literal in path if wanted else ():
            key = literal.weights, literal.side
            if key not in closest or literal.entails(closest[key]):
                closest[key] = literal
        for needed in wanted:
            found = closest.get((needed.weights, needed.side))
            if found is None or not found.entails(needed):
                return "it cites a tree whose splits are not on its path"
        return None

    def _done(self, node: int | None, domain: Domain, value: float | None, why: str | None) -> None:
        self.leaves += 1
        if why is not None:
            self.rejected.append(Rejected(domain.case, node, value, why))

    def _bound(self, step: Step, domains: Sequence[Domain], batch: Batch) -> None:
        frame = self.frame
        propagate(frame, batch, last=step.target)
        if step.rows is None:
            mask = unstable(frame, step.target, batch.bounds[step.target])
            owner, entry = np.nonzero(mask & ~batch.empty[:, None])
        else:
            owner = np.repeat(np.arange(len(domains)), step.rows.size)
            entry = np.tile(step.rows, len(domains))
        hints = step.substitution
        per_row = any(len(block.slopes) > 1 for block in hints.blocks)
        size = max(1, frame.arithmetic.entry_budget // frame.work) if per_row else owner.size
        size = min(size, self._forms_at_once([hints]))
        for start in range(0, owner.size, max(1, size)):
            self.tick()
            rows = slice(start, start + size)
            if per_row and step.rows is not None:
                picked = np.arange(owner.size)[rows] % step.rows.size
                self._bound_rows(step, domains, batch, owner[rows], entry[rows], picked)
            else:
                self._bound_rows(step, domains, batch, owner[rows], entry[rows], None)

    def _bound_rows(
        self,
        step: Step,
        domains: Sequence[Domain],
        batch: Batch,
        owner: IndexArray,
        entry: IndexArray,
        picked: IndexArray | None,
    ) -> None:
        """Rows of a bound step; ``picked`` are their positions where hints are per row."""
        frame, hints = self.frame, step.substitution
        used, place = batch, owner
        if picked is not None:
            used, place = batch.pick(owner), np.arange(owner.size)
        slopes = self._slopes([hints] * len(used.lower), picked)
        relaxations = Relaxations(frame, used, slopes)
        if not hints.multipliers:
            bound_neurons(
                frame,
                used,
                relaxations,
                step.target,
                place,
                entry,
                step.sides,
                hints.stop,
                self.tick,
            )
        else:
            self._bound_with_facts(step, domains, used, relaxations, place, owner, entry)
        if picked is not None:
            lower, upper = (part.copy() for part in batch.bounds[step.target])
            lower[owner, entry] = used.bounds[step.target][0][place, entry]
            upper[owner, entry] = used.bounds[step.target][1][place, entry]
            batch.improve(step.target, lower, upper)

    def _bound_with_facts(
        self,
        step: Step,
        domains: Sequence[Domain],
        batch: Batch,
        relaxations: Relaxations,
        place: IndexArray,
        owner: IndexArray,
        entry: IndexArray,
    ) -> None:
        lower, upper = (part.copy() for part in batch.bounds[step.target])
        one, hints = Fraction(1), step.substitution
        added = {k: self._facts(domains[k], hints) for k in np.unique(owner).tolist()}
        for side in step.sides:
            sign = Fraction(1 if side is Side.LOWER else -1)
            forms = []
            for domain_number, index in zip(owner.tolist(), entry.tolist(), strict=True):
                own = Form({(step.target, index): sign}, Fraction(0))
                forms.append(combine([(one, own), (one, added[domain_number])]))
            rows = self._rows(forms, place)
            found = substitute(self.frame, batch, relaxations, rows, hints.stop, self.tick)
            if side is Side.LOWER:
                lower[place, entry] = found
            else:
                upper[place, entry] = -found
        batch.improve(step.target, lower, upper)

    def _close(self, tasks: Sequence[Task], batch: Batch) -> None:
        """Try to refute every remaining disjunct at leaves with the batch's bounds."""
        hinted: dict[int | None, list[int]] = {}
        plain: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        substitutions: list[Substitution] = []
        for place, (node, domain) in enumerate(tasks):
            arg = 0 if node is None else self._node(node)[1]
            hints = EMPTY
            if arg and self._tables is not None:
                hints = self._tables.substitution(arg - 1)
            substitutions.append(hints)
            if batch.empty[place]:
                self.leaves += 1
            elif arg:
                hinted.setdefault(hints.stop, []).append(place)
            else:
                plain.setdefault((domain.case, domain.disjuncts), []).append(place)
        for (case, disjuncts), places in plain.items():
            chosen = np.array(places, dtype=np.int64)
            template = self._template(case, disjuncts)
            count = template.disjunct.size
            rows = _repeated(template, len(places))
            sub = batch if len(places) == len(tasks) else batch.pick(chosen)
            found = substitute(
                self.frame, sub, Relaxations(self.frame, sub), rows, None, self.tick
            ).reshape(len(places), count)
            for k, place in enumerate(places):
                self._judge(tasks[place], found[k], template.disjunct, template.strict)
        for stop, places in hinted.items():
            size = self._forms_at_once([substitutions[p] for p in places])
            for start in range(0, len(places), size):
                run = places[start : start + size]
                sub = batch.pick(np.array(run, dtype=np.int64))
                self._close_hinted(
                    [tasks[p] for p in run], [substitutions[p] for p in run], sub, stop
                )

    def _forms_at_once(self, hints: Sequence[Substitution]) -> int:
        """How many forms with hinted facts are made at a time, so that they fit in memory."""
        facts = max((len(own.multipliers) for own in hints), default=0)
        widest = 1 if self._tables is None else self._tables.widest_form
        return max(1, FORM_ENTRIES // min(1 + facts * widest, self._places))

    def _close_hinted(
        self, tasks: Sequence[Task], hints: Sequence[Substitution], batch: Batch, stop: int | None
    ) -> None:
        slopes = self._slopes(hints, None)
        forms: list[Form] = []
        owner: list[int] = []
        disjunct: list[int] = []
        for place, ((_, domain), own) in enumerate(zip(tasks, hints, strict=True)):
            with_bounds = replace(
                domain, bounds={t: (low[place], up[place]) for t, (low, up) in batch.bounds.items()}
            )
            facts = self._facts(with_bounds, own)
            for number in domain.disjuncts:
                for form in self._combinations(domain.case, number, own.weights):
                    idle = not own.multipliers
                    both = [(Fraction(1), form), (Fraction(1), facts)]
                    forms.append(form if idle else combine(both))
                    owner.append(place)
                    disjunct.append(number)
        if not forms:
            rows_found: Numbers = self._arithmetic.zeros((0,))
        else:
            rows = self._rows(forms, np.array(owner, dtype=np.int64))
            relaxations = Relaxations(self.frame, batch, slopes)
            rows_found = substitute(self.frame, batch, relaxations, rows, stop, self.tick)
        owners, disjuncts = np.array(owner, dtype=np.int64), np.array(disjunct, dtype=np.int64)
        strict = np.array([form.strict for form in forms], dtype=bool)
        for place, task in enumerate(tasks):
            own_rows = owners == place
            self._judge(task, rows_found[own_rows], disjuncts[own_rows], strict[own_rows])

    def _judge(
        self, task: Task, found: Numbers, disjunct: IndexArray, strict: npt.NDArray[np.bool_]
    ) -> None:
        """A disjunct is refuted by a row above 0, or at 0 where a strict constraint is in it."""
        node, domain = task
        worst: float | None = None
        for number in domain.disjuncts:
            own = disjunct == number
            values = found[own]
            if np.any(values > 0) or np.any((values >= 0) & strict[own]):
                continue
            if not values.size:
                self._done(node, domain, None, "a disjunct has no constraint to refute it with")
                return
            best = float(self._arithmetic.floats_down(np.asarray([max(values.tolist())]))[0])
            worst = best if worst is None else min(worst, best)
        if worst is None:
            self._done(node, domain, None, None)
        else:
            self._done(node, domain, -worst, "its bound does not exclude the unsafe set")

    def _combinations(self, case: int, disjunct: int, weights: tuple[float, ...]) -> list[Form]:
        forms = self._constraints(case, disjunct)
        if not weights and forms:
            return forms
        key = (case, disjunct, weights)
        if key not in self._weighted:
            pairs = zip(weights, forms, strict=False)
            self._weighted[key] = [combine((Fraction(w), form) for w, form in pairs)]
        return self._weighted[key]

    def _constraints(self, case: int, disjunct: int) -> list[Form]:
        key = (case, disjunct)
        if key not in self._forms:
            listed = self._case(case).unsafe[disjunct]
            self._forms[key] = [of_constraint(self.frame.network, c) for c in listed]
        return self._forms[key]

    def _case(self, case: int) -> Case:
        return self._query.property.cases[case]

    def _facts(self, domain: Domain, hints: Substitution) -> Form:
        """The multiples of facts that hints ask for, added up."""
        return combine(self._listed_facts(domain, hints))

    def _listed_facts(self, domain: Domain, hints: Substitution) -> Iterator[tuple[Fraction, Form]]:
        """The facts that hints multiply, all of the same case and path as the domain."""
        if not hints.multipliers:
            return
        path = literals(domain.trail)
        region = self._case(domain.case).constraints
        for kind, index, value in hints.multipliers:
            self.tick()
            form: Form | None = None
            if kind is Fact.SPLIT and index < len(path):
                form = path[index].fact()
            elif kind is Fact.REGION and index < len(region):
                form = of_constraint(self.frame.network, region[index])
            elif kind is Fact.UNSAFE and len(domain.disjuncts) == 1:
                constraints = self._constraints(domain.case, domain.disjuncts[0])
                form = constraints[index] if index < len(constraints) else None
            elif kind in (Fact.LOWER, Fact.UPPER):
                form = self._stored_bound(domain, kind, index)
            if form is not None and value > 0:
                yield Fraction(value), form

    def _stored_bound(self, domain: Domain, kind: Fact, index: int) -> Form | None:
        if self._tables is None:
            return None
        tensor, entry = self._tables.neuron(index)
        bound = domain.bounds[tensor][0 if kind is Fact.LOWER else 1][entry]
        if not np.isfinite(self._arithmetic.floats_down(np.asarray([bound]))[0]):
            return None  # an infinite bound drops its side
        sign = Fraction(-1 if kind is Fact.LOWER else 1)
        return Form({(tensor, entry): sign}, -sign * self._arithmetic.fraction(bound))

    def _slopes(self, hints: Sequence[Substitution], picked: IndexArray | None) -> Hints:
        """Hinted slopes of a batch, NaN where there is none."""
        made: dict[tuple[int, Side], FloatArray] = {}
        shared = picked is None and all(own is hints[0] for own in hints)
        for place, own in enumerate(hints[:1] if shared else hints):
            for block in own.blocks:
                key = (block.tensor, block.side)
                if key not in made:
                    size = self.frame.network.sizes[block.tensor]
                    made[key] = np.full((1 if shared else len(hints), size), np.nan)
                row = picked[place] if picked is not None and len(block.slopes) > 1 else 0
                entries = slice(None) if block.entries is None else block.entries
                made[key][place, entries] = block.slopes[row]
        return made

    def _template(self, case: int, disjuncts: tuple[int, ...]) -> _Template:
        key = (case, disjuncts)
        if key not in self._templates:
            numbered = [(d, form) for d in disjuncts for form in self._constraints(case, d)]
            forms = [form for _, form in numbered]
            rows = self._rows(forms, np.zeros(len(forms), dtype=np.int64))
            self._templates[key] = _Template(
                rows.constant,
                dict(rows.entries),
                np.array([d for d, _ in numbered], dtype=np.int64),
                np.array([form.strict for form in forms], dtype=bool),
            )
        return self._templates[key]

    def _rows(self, forms: Sequence[Form], owner: IndexArray) -> Rows:
        """Forms as rows; coefficients that are no numbers are paid for by magnitude."""
        arithmetic = self._arithmetic
        constants = arithmetic.zeros((len(forms),))
        found: dict[int, tuple[list[int], list[int], list[object]]] = {}
        for row, form in enumerate(forms):
            constant = form.constant
            for (tensor, index), weight in form.weights.items():
                number = arithmetic.fraction_down(weight)
                error = abs(weight - arithmetic.fraction(number))
                if error:
                    magnitude = self.frame.magnitude(tensor)[index]
                    constant -= error * arithmetic.fraction(magnitude)
                columns = found.setdefault(tensor, ([], [], []))
                for column, value in zip(columns, (row, index, number), strict=True):
                    column.append(value)  # type: ignore[attr-defined]
            constants[row] = arithmetic.fraction_down(constant)
        entries = {
            tensor: (
                np.array(rows, dtype=np.int64),
                np.array(indices, dtype=np.int64),
                np.array(values, dtype=constants.dtype),
            )
            for tensor, (rows, indices, values) in found.items()
        }
        return Rows(owner, constants, entries)


def _repeated(template: _Template, times: int) -> Rows:
    """The template's rows for each of several domains."""
    count = template.disjunct.size
    entries = {}
    for tensor, (row, entry, value) in template.entries.items():
        shift = np.repeat(np.arange(times) * count, row.size)
        entries[tensor] = (
            np.tile(row, times) + shift,
            np.tile(entry, times),
            np.tile(value, times),
        )
    owner = np.repeat(np.arange(times), count)
    return Rows(owner, np.tile(template.constant, times), entries)


def _below(tasks: Sequence[Task], domains: Sequence[Domain]) -> list[Task]:
    pairs = zip(tasks, domains, strict=True)
    return [(None if node is None else node + 1, domain) for (node, _), domain in pairs]


def hull(query: Query) -> tuple[FloatArray, FloatArray]:
    """The smallest box around the boxes of all cases."""
    lowers, uppers = zip(*(case.box() for case in query.property.cases), strict=True)
    return np.min(np.stack(lowers), axis=0), np.max(np.stack(uppers), axis=0)
