"""A proof's arrays, checked against the question so that the kernel may index freely.

Everything that can be checked without arithmetic is checked here, once and for the whole
file: types, lengths, pointers, references, finiteness, and that each tree consumes
exactly its own nodes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.domain import Literal
from proofs.forms import Place
from proofs.frame import Stop
from proofs.proof import ARRAYS, AS_STORED, Fact, NodeKind, Proof, Side, neuron_tensors
from specs.errors import EvidenceError
from specs.network import Nonlinear
from specs.query import Query

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Block:
    """Slope hints for one side of a nonlinear tensor; ``slopes`` is ``(rows, n)``."""

    tensor: int
    side: Side
    entries: Array | None
    slopes: Array


@dataclass(frozen=True, eq=False)
class Substitution:
    """Hints for substituting back; see ``ProofBuilder.substitution``."""

    blocks: tuple[Block, ...]
    multipliers: tuple[tuple[Fact, int, float], ...]
    weights: tuple[float, ...]
    stop: Stop | None

    @property
    def plain(self) -> bool:
        """Whether it says where to stop, and nothing else."""
        return self.stop is not None and not (self.blocks or self.multipliers or self.weights)


@dataclass(frozen=True, eq=False)
class Step:
    """A bound step; see ``ProofBuilder.step``.

    Attributes:
        scales: ``(sides, rows)`` exponents, ``None`` where all are 0.
        propagates: whether intervals are propagated first.
    """

    target: int
    rows: Array | None
    sides: tuple[Side, ...]
    substitution: Substitution
    scales: Array | None
    propagates: bool


_FACTS = tuple(Fact)  # by number
_MULTIPLIERS = "multiplier_kind", "multiplier_index", "multiplier_value"

EMPTY = Substitution((), (), (), None)
LARGEST = float(np.finfo(np.float64).max)


class Tables:
    """Checked access to a proof's arrays.

    Raises:
        EvidenceError: the arrays are malformed or do not fit the question.
    """

    def __init__(self, query: Query, proof: Proof) -> None:
        self._query = query
        self._arrays = dict(proof.arrays)
        self._substitutions: dict[int, Substitution] = {}
        self._blocks: dict[int, Block] = {}
        self._stops: dict[tuple[int, int], Stop] = {}
        self._forms: dict[int, tuple[tuple[Place, float], ...]] = {}
        self._set_sizes: dict[int, tuple[int, int]] = {}
        _check_types(self._arrays)
        tensors = query.network.tensors
        unknown = [name for name in proof.tensors if name not in tensors]
        if unknown:
            raise EvidenceError(f"it names a tensor that the model lacks: {unknown[0]!r:.100}")
        self._tensors = np.array([tensors[name] for name in proof.tensors], dtype=np.int64)
        sizes = np.array(query.network.sizes, dtype=np.int64)
        self._sizes = sizes[self._tensors] if self._tensors.size else self._tensors
        self._neuron_tensors = neuron_tensors(query)
        counts = [query.network.sizes[t] for t in self._neuron_tensors]
        self._neuron_ends = np.cumsum(np.array([0, *counts], dtype=np.int64))
        self._check_references()
        self.widest_form = int(np.diff(self._arrays["form_ptr"]).max(initial=1))
        self.node_kind = self._arrays["node_kind"]
        self.node_arg = self._arrays["node_arg"].astype(np.int64)
        self._check_nodes()

    @property
    def cases(self) -> list[int]:
        """The cases that the proof speaks of."""
        return [int(c) for c in self._arrays["case_number"]]

    def prelude(self, position: int) -> list[tuple[NodeKind, int]]:
        """Operations that make the root state of the case at a position of ``cases``."""
        ptr = self._arrays["case_prelude_ptr"]
        chosen = range(int(ptr[position]), int(ptr[position + 1]))
        kinds, args = self._arrays["prelude_kind"], self._arrays["prelude_arg"]
        return [(NodeKind(int(kinds[i])), int(args[i])) for i in chosen]

    def trees_of(self, case: int) -> list[int]:
        """The trees of a case, in order."""
        return self._trees_of.get(case, [])

    @property
    def trees(self) -> int:
        """Number of trees."""
        return len(self._arrays["tree_case"])

    def tree_case(self, tree: int) -> int:
        """The case of a tree."""
        return int(self._arrays["tree_case"][tree])

    def tree_root(self, tree: int) -> int:
        """The first node of a tree."""
        return int(self._arrays["tree_ptr"][tree])

    def tree_disjunct(self, tree: int) -> int | None:
        """The one disjunct that a tree refutes, or ``None`` for all."""
        number = int(self._arrays["tree_disjunct"][tree])
        return None if number < 0 else number

    def tree_literals(self, tree: int) -> list[Literal]:
        """The splits that a tree assumes at its root."""
        ptr = self._arrays["tree_literal_ptr"]
        chosen = range(int(ptr[tree]), int(ptr[tree + 1]))
        forms, sides = self._arrays["literal_form"], self._arrays["literal_side"]
        return [self.literal(int(forms[i]), Side(int(sides[i]))) for i in chosen]

    def is_hole(self, node: int) -> bool:
        """Whether a node is a leaf that the proof leaves open."""
        return int(self.node_kind[node]) == NodeKind.HOLE

    def tree_of(self, node: int) -> int:
        """The tree that a node belongs to."""
        return int(np.searchsorted(self._arrays["tree_ptr"], node, side="right")) - 1

    def literal(self, form: int, side: Side) -> Literal:
        """One side of a split on a linear form."""
        if form not in self._forms:
            chosen = self._span("form_ptr", form)
            places = zip(
                self._tensors[self._arrays["entry_tensor"][chosen]],
                self._arrays["entry_index"][chosen],
                self._arrays["entry_weight"][chosen],
                strict=True,
            )
            self._forms[form] = tuple(((int(t), int(i)), float(w)) for t, i, w in places)
        return Literal(self._forms[form], float(self._arrays["form_point"][form]), side)

    def fault_split(self, number: int) -> tuple[int, int]:
        """Before which word faults are split, and the number of children."""
        names = ("fault_word", "fault_children")
        word, children = (int(self._arrays[name][number]) for name in names)
        return word, children

    def neuron(self, number: int) -> tuple[int, int]:
        """Tensor and index of a neuron."""
        position = int(np.searchsorted(self._neuron_ends, number, side="right")) - 1
        return self._neuron_tensors[position], number - int(self._neuron_ends[position])

    def substitution(self, number: int) -> Substitution:
        """Hints by their number."""
        if number not in self._substitutions:
            self._substitutions[number] = self._substitution(number)
        return self._substitutions[number]

    def step(self, number: int) -> Step:
        """A bound step by its number."""
        arrays = self._arrays
        target = int(self._tensors[arrays["step_target"][number]])
        chosen, hints = int(arrays["step_set"][number]), int(arrays["step_sub"][number])
        mask = int(arrays["step_sides"][number])
        sides = tuple(side for side in Side if mask >> int(side) & 1)
        scales = arrays["step_scale"][self._scales(number)].astype(np.int64)
        return Step(
            target,
            None if chosen < 0 else self._set(chosen),
            sides,
            EMPTY if hints < 0 else self.substitution(hints),
            scales.reshape(len(sides), -1) if scales.size else None,
            not mask & AS_STORED,
        )

    def _scales(self, step: int) -> slice:
        """The span of a step's scales; a proof without any need not say so for each step."""
        if len(self._arrays["step_scale_ptr"]) == 1:
            return slice(0, 0)
        return self._span("step_scale_ptr", step)

    def _substitution(self, number: int) -> Substitution:
        arrays = self._arrays
        blocks = arrays["sub_block"][self._span("sub_block_ptr", number)]
        facts = self._span("sub_multiplier_ptr", number)
        columns = (arrays[name][facts].tolist() for name in _MULTIPLIERS)
        added: dict[tuple[Fact, int], float] = {}
        for kind, index, value in zip(*columns, strict=True):
            if value > 0:  # clamped to the right sign; a fact that is named again, added up
                fact = _FACTS[kind], index
                added[fact] = min(added.get(fact, 0.0) + value, LARGEST)
        weights = arrays["weight_value"][self._span("sub_weight_ptr", number)]
        return Substitution(
            tuple(self._block(int(b)) for b in dict.fromkeys(blocks.tolist()[::-1]))[::-1],
            tuple((*fact, value) for fact, value in added.items()),
            tuple(weights.astype(np.float64).tolist()),
            self._stop(number),
        )

    def _stop(self, substitution: int) -> Stop | None:
        arrays = self._arrays
        end, kept = int(arrays["sub_stop"][substitution]), -1
        if end < 0:
            return None
        if arrays["sub_keep"].size:
            kept = int(arrays["sub_keep"][substitution])
        if (end, kept) not in self._stops:  # the same object: leaves are told apart by it
            entries = np.zeros(0, dtype=np.int64) if kept < 0 else self._set(kept)
            self._stops[end, kept] = Stop(int(self._tensors[end]), entries)
        return self._stops[end, kept]

    def _block(self, number: int) -> Block:
        if number not in self._blocks:  # substitutions share blocks, and so their memory
            self._blocks[number] = self._make_block(number)
        return self._blocks[number]

    def _make_block(self, number: int) -> Block:
        arrays = self._arrays
        chosen = int(arrays["block_set"][number])
        stored = arrays["slope"][self._span("block_ptr", number)].astype(np.float64)
        slopes = np.ldexp(stored, int(arrays["block_exponent"][number]))
        return Block(
            int(self._tensors[arrays["block_tensor"][number]]),
            Side(int(arrays["block_side"][number])),
            None if chosen < 0 else self._set(chosen),
            slopes.reshape(int(arrays["block_rows"][number]), -1),
        )

    def _set(self, number: int) -> Array:
        return self._arrays["set_index"][self._span("set_ptr", number)].astype(np.int64)

    def _span(self, pointer: str, number: int) -> slice:
        ptr = self._arrays[pointer]
        return slice(int(ptr[number]), int(ptr[number + 1]))

    def _check_references(self) -> None:
        arrays, query = self._arrays, self._query
        count = {name: len(array) for name, array in arrays.items()}
        for pointer, owner, target in (
            ("case_prelude_ptr", "case_number", "prelude_kind"),
            ("tree_ptr", "tree_case", "node_kind"),
            ("tree_literal_ptr", "tree_case", "literal_form"),
            ("form_ptr", "form_point", "entry_tensor"),
            ("set_ptr", None, "set_index"),
            ("block_ptr", "block_tensor", "slope"),
            ("sub_block_ptr", "sub_stop", "sub_block"),
            ("sub_multiplier_ptr", "sub_stop", "multiplier_kind"),
            ("sub_weight_ptr", "sub_stop", "weight_value"),
            ("step_scale_ptr", "step_target", "step_scale"),
        ):
            _check_pointer(pointer, arrays[pointer], count[target])
            if pointer == "step_scale_ptr" and count[pointer] == 1:
                continue
            if owner is not None and count[pointer] != count[owner] + 1:
                raise EvidenceError(f"array '{pointer}' does not fit '{owner}'")
        for first, *others in (
            ("prelude_kind", "prelude_arg"),
            ("tree_case", "tree_disjunct"),
            ("literal_form", "literal_side"),
            ("node_kind", "node_arg"),
            ("entry_tensor", "entry_index", "entry_weight"),
            ("block_tensor", "block_side", "block_set", "block_rows", "block_exponent"),
            ("multiplier_kind", "multiplier_index", "multiplier_value"),
            ("step_target", "step_set", "step_sides", "step_sub"),
            ("fault_word", "fault_children"),
        ):
            for other in others:
                if count[first] != count[other]:
                    raise EvidenceError(f"arrays '{first}' and '{other}' differ in length")
        if count["sub_keep"] not in (0, count["sub_stop"]):
            raise EvidenceError("arrays 'sub_stop' and 'sub_keep' differ in length")
        sets, forms, subs = count["set_ptr"] - 1, count["form_point"], count["sub_stop"]
        tensors, cases = len(self._tensors), len(query.property.cases)
        for name, low, high in (
            ("case_number", 0, cases),
            ("literal_form", 0, forms),
            ("literal_side", 0, 2),
            ("entry_tensor", 0, tensors),
            ("block_tensor", 0, tensors),
            ("block_side", 0, 2),
            ("block_set", -1, sets),
            ("sub_block", 0, count["block_tensor"]),
            ("multiplier_kind", 0, len(Fact)),
            ("sub_stop", -1, tensors),
            ("sub_keep", -1, sets),
            ("step_target", 0, tensors),
            ("step_set", -1, sets),
            ("step_sides", 1, 2 * AS_STORED),
            ("step_sub", -1, subs),
            ("block_exponent", -1022, 512),
            ("fault_children", 1, 1 << 32),
        ):
            _check_range(name, arrays[name], low, high)
        for name in ("form_point", "entry_weight", "multiplier_value", "weight_value", "slope"):
            if not np.all(np.isfinite(arrays[name])):
                raise EvidenceError(f"array '{name}' has an entry that is not finite")
        if np.any(np.diff(arrays["case_number"].astype(np.int64)) <= 0):
            raise EvidenceError("the proof's cases are not in ascending order")
        if not np.all(np.isin(arrays["tree_case"], arrays["case_number"])):
            raise EvidenceError("a tree belongs to a case that the proof does not list")
        entries = arrays["entry_index"]
        if np.any(entries >= self._sizes[arrays["entry_tensor"]]):
            raise EvidenceError("a split form names an entry outside its tensor")
        neurons = np.isin(arrays["multiplier_kind"], (Fact.LOWER, Fact.UPPER))
        if np.any(arrays["multiplier_index"][neurons] >= self._neuron_ends[-1]):
            raise EvidenceError("a multiplier names a neuron that does not exist")
        self._trees_of: dict[int, list[int]] = {}
        for tree in range(count["tree_case"]):
            self._trees_of.setdefault(self.tree_case(tree), []).append(tree)
            case = query.property.cases[self.tree_case(tree)]
            if not -1 <= int(arrays["tree_disjunct"][tree]) < len(case.unsafe):
                raise EvidenceError("a tree names a disjunct that its case lacks")
        self._check_hints()

    def _check_hints(self) -> None:
        arrays, nodes = self._arrays, self._query.network.nodes
        for number in range(len(arrays["block_tensor"])):
            place = int(arrays["block_tensor"][number])
            size, chosen = int(self._sizes[place]), int(arrays["block_set"][number])
            if not isinstance(nodes[self._tensors[place]], Nonlinear):
                raise EvidenceError("slopes are given for a tensor that is linear")
            width = size if chosen < 0 else self._check_set(chosen, size)
            span = self._span("block_ptr", number)
            if int(arrays["block_rows"][number]) * width != span.stop - span.start:
                raise EvidenceError("a block of slopes does not fit its tensor")
            if width == 0 or span.stop == span.start:
                raise EvidenceError("a block of slopes is empty")
        for stop, kept in set(
            zip(arrays["sub_stop"].tolist(), arrays["sub_keep"].tolist(), strict=False)
        ):
            if kept >= 0 and stop < 0:
                raise EvidenceError("a substitution keeps entries of no tensor")
            if kept >= 0:
                self._check_set(kept, int(self._sizes[stop]))
        if np.any(arrays["step_sides"] == AS_STORED):
            raise EvidenceError("a bound step has no side")
        per_row: dict[int, set[int]] = {}
        for number in range(len(arrays["step_target"])):
            place, chosen = int(arrays["step_target"][number]), int(arrays["step_set"][number])
            if int(self._tensors[place]) not in self._neuron_tensors:
                raise EvidenceError("a bound step's target is not a pre-activation")
            rows = None if chosen < 0 else self._check_set(chosen, int(self._sizes[place]))
            span = self._scales(number)
            sides = (int(arrays["step_sides"][number]) & ~AS_STORED).bit_count()
            if span.stop > span.start and span.stop - span.start != sides * (rows or 0):
                raise EvidenceError("scales do not fit the rows and sides of their bound step")
            hints = int(arrays["step_sub"][number])
            if hints >= 0 and hints not in per_row:
                per_row[hints] = self._rows(hints)
            if hints >= 0 and not per_row[hints] <= {1, rows}:
                raise EvidenceError("slopes per row do not fit the rows of their bound step")

    def _rows(self, substitution: int) -> set[int]:
        """How many rows of slopes the blocks of a substitution have."""
        blocks = self._arrays["sub_block"][self._span("sub_block_ptr", substitution)]
        return set(np.unique(self._arrays["block_rows"][blocks]).tolist())

    def _check_set(self, number: int, size: int) -> int:
        if number not in self._set_sizes:  # sets may be shared by many blocks
            values = self._set(number)
            if np.unique(values).size != values.size:
                raise EvidenceError("a set of entries repeats one")
            self._set_sizes[number] = int(values.size), int(values.max(initial=-1))
        width, largest = self._set_sizes[number]
        if largest >= size:
            raise EvidenceError("a set of entries points outside its tensor")
        return width

    def _check_nodes(self) -> None:
        kind, arg = self.node_kind, self.node_arg
        arrays, network = self._arrays, self._query.network
        limits = {
            NodeKind.CLOSE: len(arrays["sub_stop"]) + 1,
            NodeKind.HOLE: 1,
            NodeKind.CITE: self.trees,
            NodeKind.SWEEP: 2,
            NodeKind.BOUND: len(arrays["step_target"]),
            NodeKind.SPLIT_INPUT: network.input_size,
            NodeKind.SPLIT_NEURON: int(self._neuron_ends[-1]),
            NodeKind.SPLIT_AT: len(arrays["form_point"]),
            NodeKind.SPLIT_DISJUNCT: 1 << 32,
            NodeKind.SPLIT_FAULTS: len(arrays["fault_word"]),
            NodeKind.CLIP: len(arrays["sub_stop"]) + 1,
        }
        known = np.zeros(len(kind), dtype=bool)
        for each, limit in limits.items():
            of_kind = kind == each
            known |= of_kind
            if np.any(arg[of_kind] >= limit):
                raise EvidenceError(f"a {each.name} node's argument is out of range")
        if not known.all():
            raise EvidenceError("a node is of an unknown or reserved kind")
        preludes, args = arrays["prelude_kind"], arrays["prelude_arg"]
        if not np.all(np.isin(preludes, (NodeKind.SWEEP, NodeKind.BOUND))):
            raise EvidenceError("a prelude holds something other than SWEEP and BOUND")
        for each in (NodeKind.SWEEP, NodeKind.BOUND):
            if np.any(args[preludes == each] >= limits[each]):
                raise EvidenceError(f"a prelude's {each.name} argument is out of range")
        faults = kind == NodeKind.SPLIT_FAULTS
        shared = np.zeros(len(kind), dtype=np.int64)
        shared[faults] = arrays["fault_children"][arg[faults]]
        self.subtree = _subtrees(kind, arg, shared, arrays["tree_ptr"].astype(np.int64))


def _subtrees(kind: Array, arg: Array, shared: Array, starts: Array) -> Array:
    """Number of nodes of every subtree; refuses trees that are not exactly consumed.

    ``shared`` is the number of children of splits of faults, 0 elsewhere.
    """
    arity = shared.copy()
    arity[np.isin(kind, (NodeKind.SWEEP, NodeKind.BOUND, NodeKind.CLIP))] = 1
    arity[np.isin(kind, (NodeKind.SPLIT_INPUT, NodeKind.SPLIT_NEURON, NodeKind.SPLIT_AT))] = 2
    disjuncts = kind == NodeKind.SPLIT_DISJUNCT
    arity[disjuncts] = arg[disjuncts]
    sizes = np.ones(len(kind), dtype=np.int64)
    for first, end in itertools.pairwise(starts.tolist()):
        open_children = np.cumsum(arity[first:end] - 1)
        if end == first or open_children[-1] != -1 or np.any(open_children[:-1] < 0):
            raise EvidenceError("the nodes of a tree are not exactly one tree in pre-order")
    waiting: list[int] = []
    for node in range(len(kind) - 1, -1, -1):
        for _ in range(arity[node]):
            sizes[node] += waiting.pop()
        waiting.append(int(sizes[node]))
    return sizes


def _check_types(arrays: dict[str, Array]) -> None:
    for name, dtypes in ARRAYS.items():
        array = arrays.get(name)
        if array is None:
            raise EvidenceError(f"array '{name}' is missing")
        if array.ndim != 1 or array.dtype.name not in dtypes:
            raise EvidenceError(
                f"array '{name}' is {array.ndim}-dimensional {array.dtype}, "
                f"not one-dimensional {' or '.join(dtypes)}"
            )


def _check_pointer(name: str, pointer: Array, end: int) -> None:
    values = pointer.astype(np.int64)
    if not values.size or values[0] != 0 or values[-1] != end or np.any(np.diff(values) < 0):
        raise EvidenceError(f"array '{name}' is not an ascending list from 0 to {end}")


def _check_range(name: str, values: Array, low: int, high: int) -> None:
    checked = values.astype(np.int64)
    if checked.size and (checked.min() < low or checked.max() >= high):
        raise EvidenceError(f"array '{name}' has an entry outside {low} ... {high - 1}")
