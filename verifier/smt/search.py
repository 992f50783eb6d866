"""The search by Boolean reasoning for a query: its cases, its proof, and leaves taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from proofs.draft import CaseDraft, Draft, Node, draft_of, written
from proofs.forms import Place
from proofs.oracle import Oracle
from proofs.proof import NodeKind, Proof
from proofs.tree import DeadlineError
from specs.errors import UnsupportedOperatorError
from specs.query import Query
from verifier.bab import Progress, Status
from verifier.bab_leaves import Root
from verifier.bab_refine import refine
from verifier.bab_root import Nets
from verifier.bab_settings import Candidates, OnCandidate
from verifier.bab_tree import Tree
from verifier.bounds import Domains
from verifier.bounds_compile import compile_network
from verifier.bounds_errors import error_radii
from verifier.bounds_focus import focused
from verifier.bounds_spec import build_table, whole_goal
from verifier.bounds_sweep import OutOfTimeError, fresh, sweep, until
from verifier.memory import ran_out
from verifier.smt import applies
from verifier.smt.case import CaseSearch, Start
from verifier.smt.clauses import Clause
from verifier.smt.exact import Core, Violation, decided, fits
from verifier.smt.holes import Filling, Hole, holes
from verifier.smt.settings import Settings
from verifier.states import known

OnWitness = Callable[[int, int, tuple[Fraction, ...]], bool]
"""Takes case, disjunct and point of an exact violation; whether it is confirmed."""


class Search:
    """Boolean reasoning about one query, whose nonlinear nodes are Relus.

    Args:
        deadline: ``time.monotonic()`` at which to stop.
        on_candidate: gets points ``(k, input_size)`` that violate as far as floating-point
            numbers tell; returns whether one of them is a confirmed violation.
        on_witness: gets violations in rational numbers; likewise.
        on_round: called after every round; returns whether a violation was confirmed
            elsewhere, which ends the search.
        cases: numbers of the cases to search; all if ``None``.
        open_: a proof whose holes are to be filled, instead of whole cases.

    Raises:
        UnsupportedOperatorError: there is a function other than Relu.
    """

    name, remark = "Boolean reasoning", ""
    splits_inputs = False

    def __init__(
        self,
        query: Query,
        *,
        deadline: float,
        device: str = "cpu",
        settings: Settings | None = None,
        on_candidate: OnCandidate | None = None,
        on_witness: OnWitness | None = None,
        on_round: Callable[[Progress], bool] | None = None,
        cases: Sequence[int] | None = None,
        open_: Proof | None = None,
    ) -> None:
        self._query, self._deadline = query, deadline
        self._settings = settings or Settings()
        self._on_round, self._on_witness = on_round, on_witness
        radii = error_radii(query, until(deadline))
        if not applies(query.network):
            raise UnsupportedOperatorError("Boolean reasoning is about Relus only")
        net = compile_network(query.network, device, radii=radii)
        self._nets = Nets(net, compile_network(query.network, device, torch.float32, radii=radii))
        self._draft = None if open_ is None else draft_of(query, open_)
        if self._draft is not None:
            cases = [case.number for case in self._draft.cases]
        self._numbers = list(range(len(query.property.cases)) if cases is None else cases)
        chosen = [query.property.cases[number] for number in self._numbers]
        self._table = build_table(chosen, net, query.property.output_size)
        self._candidates = Candidates(net, self._table, on_candidate)
        self._searches: dict[int, CaseSearch] = {}
        self._holes: dict[int, list[Hole]] = {}
        self._places: dict[int, list[Place]] = {}
        self._nodes: list[Node] = []
        self._owners: dict[int, tuple[int, Clause]] = {}
        self._begun = time.monotonic()

    @property
    def evaluated(self) -> int:
        """Partial assignments bounded so far."""
        return sum(search.evaluated for search in self._searches.values())

    @property
    def clauses(self) -> list[Clause]:
        """All that were learnt and not taken back."""
        return [clause for search in self._searches.values() for clause in search.clauses]

    def run(self) -> Status:
        """Search until all is closed, a violation is confirmed, or time is up.

        ``exhausted``: something is left with all phases decided.
        """
        self._begun = time.monotonic()
        try:
            if self._draft is None:
                self._draft = self._fresh()
            return self._run(self._draft)
        except (OutOfTimeError, DeadlineError):
            return "timeout"
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            return "memory"

    def extend(self, deadline: float) -> None:
        """Set another deadline for the next ``run``."""
        self._deadline = deadline

    def proof(self, deadline: float = float("inf")) -> Proof:
        """The proof as far as it goes.

        Raises:
            OutOfTimeError: the deadline, in ``time.monotonic()`` seconds, came before its end.
        """
        if self._draft is None:
            raise OutOfTimeError("the search has not begun")
        self._owners, cases = {}, []
        for case in self._draft.cases:
            search = self._searches.get(case.number)
            main = case.refutation()
            lemmas = [tree for tree in case.trees if tree is not main]
            if search is not None:
                disjuncts = len(search.root.lengths)
                places, tick = self._places[case.number], until(deadline)
                filling = Filling(search.clauses, search.choice, places, disjuncts, tick)
                filling.fill(self._holes[case.number])
                lemmas += filling.lemmas.values()
                self._owners |= {k: (case.number, c) for k, c in filling.owners.items()}
            cases.append(CaseDraft(case.number, case.prelude, [*lemmas, main]))
        proof, self._nodes = written(Draft(self._draft.query, cases))
        return proof

    def reopen(self, node_numbers: Sequence[int]) -> None:
        """Take back the clauses of leaves, by their position in the last ``proof()``."""
        found = [self._owners.get(id(self._nodes[number])) for number in node_numbers]
        for case, clause in {id(pair[1]): pair for pair in found if pair is not None}.values():
            self._searches[case].forget(clause)

    def _run(self, draft: Draft) -> Status:
        state: Status = "closed"
        for case in draft.cases:
            if case.number not in self._searches and not self._begin(draft, case):
                return "violated"
            search = self._searches.get(case.number)
            if search is None:
                continue
            found = search.run(self._deadline, self._round_over)
            if found in ("violated", "timeout"):
                return "violated" if found == "violated" else "timeout"
            if found == "exhausted":
                state = "exhausted"
        return state

    def _fresh(self) -> Draft:
        """A proof that bounds the cases' roots and leaves them open."""
        net = self._nets.sure
        tree = Tree({tensor: where.start for tensor, where in net.neurons.items()})
        for position, number in enumerate(self._numbers):
            low, high = (
                torch.tensor(np.array(side), device=net.device, dtype=net.dtype)[None]
                for side in self._query.property.cases[number].box()
            )
            swept = sweep(net, fresh(net, low, high), until(self._deadline))
            node = tree.add_root(number)
            if bool(swept.contradictory(self._settings.margin)[0]):
                tree.close(node)
                continue
            left = (self._deadline - time.monotonic()) / (len(self._numbers) - position)
            share = time.monotonic() + self._settings.root_share * left
            _, steps = refine(self._nets, swept.domains, self._settings.refine_steps, share)
            tree.preludes[number] = steps
        return draft_of(self._query, tree.proof(self._query, until(self._deadline)))

    def _begin(self, draft: Draft, case: CaseDraft) -> bool:
        """Prepare a case that has holes; false on a confirmed violation."""
        main = case.refutation()
        if not any(node.kind is NodeKind.HOLE for node in main.root):
            return True
        oracle = Oracle(draft.query, deadline=None if np.isinf(self._deadline) else self._deadline)
        states = oracle.states(Draft(draft.query, [case]), [main.root])
        if not states:  # its bounds contradict each other: nothing is looked at below
            main.root.become(Node(NodeKind.CLOSE, None))
            return True
        root = self._root(self._numbers.index(case.number), known(states, self._nets.sure))
        places = self._placed(root)
        self._places[case.number] = places
        self._holes[case.number] = holes(case, {place: k for k, place in enumerate(places)})
        first: list[int] = []
        network = self._query.network
        limits = self._settings.exact_neurons, self._settings.exact_coefficients
        if fits(network, *limits):
            bounds = dict(
                zip(
                    places,
                    zip(root.state.lower[0].tolist(), root.state.upper[0].tolist(), strict=True),
                    strict=True,
                )
            )
            stated = self._query.property.cases[case.number]
            found = decided(network, stated, bounds, self._settings.exact_seconds)
            if isinstance(found, Violation) and self._confirmed(case.number, found):
                return False
            if isinstance(found, Core):
                first = [k for k, place in enumerate(places) if place in found.neurons]
        self._searches[case.number] = CaseSearch(
            root, self._starts(case.number, root), self._settings, self._offer(root), first
        )
        return True

    def _confirmed(self, number: int, found: Violation) -> bool:
        offer = self._on_witness
        return offer is not None and offer(number, found.disjunct, found.point)

    def _starts(self, number: int, root: Root) -> list[Start]:
        """What is to be refuted; of several holes alike one."""
        found: dict[tuple[int, frozenset[int]], None] = {}
        for hole in self._holes[number]:
            wanted = range(len(root.lengths)) if hole.disjunct is None else (hole.disjunct,)
            found |= {(disjunct, hole.phases): None for disjunct in wanted}
        return [(disjunct, tuple(sorted(phases))) for disjunct, phases in found]

    def _root(self, position: int, whole: Domains) -> Root:
        nets = focused(self._nets.sure, self._nets.fast, whole)
        goal = whole_goal(self._table, torch.tensor([position], device=whole.low.device))
        lengths = torch.bincount(goal.slot, minlength=len(goal.slot_owner)).tolist()
        forms, _, exponents = self._table.forms(nets.sure, goal.slot_disjunct)
        number = self._numbers[position]
        state = nets.domains(whole)
        return Root(position, number, nets, state, forms, exponents, lengths, self._table)

    def _placed(self, root: Root) -> list[Place]:
        """The places of the neurons that are unstable at a root."""
        net = self._nets.sure
        every = [
            (t, k) for t, where in net.neurons.items() for k in range(where.stop - where.start)
        ]
        return [every[column] for column in root.nets.columns.tolist()]

    def _offer(self, root: Root) -> Callable[[Tensor], bool]:
        def offer(points: Tensor) -> bool:
            case = torch.full((len(points),), root.case, device=points.device)
            return self._candidates.offer(points.to(self._nets.sure.dtype), case)

        return offer

    def _round_over(self) -> bool:
        if self._on_round is None:
            return False
        searches = self._searches.values()
        elapsed = time.monotonic() - self._begun
        worst = min((search.worst for search in searches), default=float("inf"))
        waiting = sum(search.open for search in searches)
        return self._on_round(Progress(elapsed, waiting, len(self.clauses), worst))
