"""Proofs in memory, and the builder that searches write them with.

A proof holds hints only; ``FORMAT.md`` gives the meaning of every array.  Nothing here
needs to be trusted: whatever a builder writes, the kernel recomputes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.errors import EvidenceError
from specs.network import Product
from specs.query import Query

Array = npt.NDArray[Any]


class NodeKind(IntEnum):
    """What a node of a tree does; ``arg`` is the node's argument."""

    CLOSE = 0  # leaf; arg 0: no hints, otherwise substitution arg - 1
    HOLE = 1  # leaf left open: the proof is incomplete
    CITE = 2  # leaf closed by tree arg, an earlier tree of the same case
    SWEEP = 3  # one child; arg 0: bound all unstable neurons anew, 1: intervals only
    BOUND = 4  # one child; arg: number of the bound step
    SPLIT_INPUT = 5  # two children; arg: input entry, split at the middle of its bounds
    SPLIT_NEURON = 6  # two children; arg: neuron number, split at 0
    SPLIT_AT = 7  # two children; arg: row of the table of split forms
    SPLIT_DISJUNCT = 8  # arg children: one per disjunct that remains
    SPLIT_FAULTS = 9  # arg: row of the table of fault splits, which says how many children
    CLIP = 10  # one child; arg 0: no hints, otherwise substitution arg - 1


class Fact(IntEnum):
    """What a multiplier multiplies; ``index`` says which one."""

    SPLIT = 0  # the index-th split on the path from the root, disjunct splits not counted
    LOWER = 1  # the stored lower bound of neuron index
    UPPER = 2  # the stored upper bound of neuron index
    REGION = 3  # the index-th constraint of the case's region
    UNSAFE = 4  # the index-th constraint of the only disjunct that remains


class Side(IntEnum):
    """A side of a relaxation, a bound or a split."""

    LOWER = 0
    UPPER = 1


SIZES, NEURONS = "sizes", "neurons"
"""What manifests note of the network: see ``FORMAT.md``."""

NUMBERED = {Fact.LOWER, Fact.UPPER}
"""Facts that name neurons by number."""

AS_STORED = 4
"""In ``step_sides``: intervals are not propagated before the step."""


ARRAYS: Mapping[str, tuple[str, ...]] = {
    # name: dtypes allowed, the first one written
    "case_number": ("uint32",),
    "case_prelude_ptr": ("uint32",),
    "prelude_kind": ("uint8",),
    "prelude_arg": ("uint32",),
    "tree_case": ("uint32",),
    "tree_disjunct": ("int32",),
    "tree_ptr": ("uint32",),
    "tree_literal_ptr": ("uint32",),
    "literal_form": ("uint32",),
    "literal_side": ("uint8",),
    "node_kind": ("uint8",),
    "node_arg": ("uint32", "uint16", "uint8"),
    "form_ptr": ("uint32",),
    "form_point": ("float64",),
    "entry_tensor": ("uint32",),
    "entry_index": ("uint32",),
    "entry_weight": ("float64",),
    "set_ptr": ("uint32",),
    "set_index": ("uint32",),
    "block_tensor": ("uint32",),
    "block_side": ("uint8",),
    "block_set": ("int32",),
    "block_rows": ("uint32",),
    "block_exponent": ("int16",),
    "block_ptr": ("uint32",),
    "slope": ("uint8", "int8", "int16", "uint16", "float32", "float64"),
    "sub_block_ptr": ("uint32",),
    "sub_block": ("uint32",),
    "sub_multiplier_ptr": ("uint32",),
    "multiplier_kind": ("uint8",),
    "multiplier_index": ("uint32",),
    "multiplier_value": ("float32", "float64"),
    "sub_weight_ptr": ("uint32",),
    "weight_value": ("float32", "float64"),
    "sub_stop": ("int32",),
    "sub_keep": ("int32",),
    "step_target": ("uint32",),
    "step_set": ("int32",),
    "step_sides": ("uint8",),
    "step_sub": ("int32",),
    "step_scale_ptr": ("uint32",),
    "step_scale": ("int8",),
    "fault_word": ("uint32",),
    "fault_children": ("uint32",),
    "square_tensor": ("uint32",),
    "square_scale": ("float32",),
}


@dataclass(frozen=True, eq=False)
class Proof:
    """A proof: what it was made for, names of tensors, and arrays of hints.

    Attributes:
        question: digest of the query (``Query.digest``).
        tensors: ONNX names of the tensors that the arrays refer to by position.
        arrays: the arrays of :data:`ARRAYS`, all present.
        manifest: whatever else the file's manifest says; for display only.
    """

    question: str
    tensors: tuple[str, ...]
    arrays: Mapping[str, Array]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def leaves(self) -> int:
        """Number of leaves of all trees, cases without a tree not counted."""
        return int(np.count_nonzero(self.arrays["node_kind"] <= NodeKind.CITE))

    @property
    def splits(self) -> str:
        """What its nodes split: ``inputs``, ``neurons``, both, or the empty text."""
        kinds = self.arrays["node_kind"]
        named = ((NodeKind.SPLIT_INPUT, "inputs"), (NodeKind.SPLIT_NEURON, "neurons"))
        return " and ".join(name for kind, name in named if np.any(kinds == kind))

    @property
    def holes(self) -> int:
        """Number of leaves left open."""
        return int(np.count_nonzero(self.arrays["node_kind"] == NodeKind.HOLE))


@dataclass(frozen=True, eq=False)
class SlopeHint:
    """Slopes of one side of a univariate node's relaxation, or weights of a product's planes.

    Attributes:
        tensor: number of the tensor that the node defines.
        side: the line (planes) below (``LOWER``) or above (``UPPER``) the function.
        values: ``(n,)``, or ``(rows, n)`` with a row for each row of a bound step.
        indices: entries of the tensor that the ``n`` columns belong to; ``None`` = all.
        exponent: values count units of ``2 ** exponent``; ``None``: they are reals, to be
            rounded as the builder does.
    """

    tensor: int
    side: Side
    values: Array
    indices: Array | None = None
    exponent: int | None = None


class ProofBuilder:
    """Writes a proof piece by piece; equal pieces are stored once.

    Call ``begin_case`` for each case that needs more than the empty proof, then
    ``begin_tree`` and the nodes of its tree in pre-order (a split's child on the lower
    side first).  A tree with literals is a lemma; the tree without literals, last, is
    the case's refutation and may cite the lemmas.

    Slopes are rounded to multiples of ``2 ** -slope_bits``.  Squares beside products
    (``specs/squares.py``) that the query's network has are written, too.
    """

    def __init__(self, query: Query, slope_bits: int = 7) -> None:
        self._network = query.network
        self._question = query.digest
        self._slope_bits = slope_bits
        self._tensor_numbers: dict[int, int] = {}
        self._columns: dict[str, list[Any]] = {name: [] for name in ARRAYS}
        self._slopes: list[Array] = []
        self._sets: list[Array] = []
        self._slope_count = 0
        self._seen: dict[Any, int] = {}
        pointers = ("case_prelude", "tree", "tree_literal", "form", "set", "block")
        for name in (*pointers, "sub_block", "sub_multiplier", "sub_weight", "step_scale"):
            self._columns[f"{name}_ptr"].append(0)
        sizes = [query.network.sizes[i] for i in neuron_tensors(query)]
        self._neuron_offset = dict(zip(neuron_tensors(query), _starts(sizes), strict=True))

    def neuron(self, tensor: int, index: int) -> int:
        """Number of entry ``index`` of pre-activation ``tensor`` among all neurons."""
        return self._neuron_offset[tensor] + index

    def substitution(
        self,
        slopes: Iterable[SlopeHint] = (),
        multipliers: Iterable[tuple[Fact, int, float]] = (),
        weights: Sequence[float] = (),
        stop: int | None = None,
        keep: Array | None = None,
    ) -> int:
        """Hints for substituting back; returns their number.

        Args:
            slopes: slopes that replace the default ones.
            multipliers: ``(kind, index, value)`` of facts to add; values are >= 0.
            weights: of the unsafe disjunct's constraints, >= 0; none: each alone.
            stop: tensor at which substitution ends, the input if ``None``.
            keep: entries of ``stop`` that are passed on all the same.

        Raises:
            EvidenceError: entries are to be kept, but no tensor to stop at is given.
        """
        if keep is not None and stop is None:
            raise EvidenceError("a substitution keeps entries of no tensor")
        blocks = [self._block(hint) for hint in slopes]
        facts = [(int(kind), int(index), float(value)) for kind, index, value in multipliers]
        stored = [float(w) for w in weights]
        halt = -1 if stop is None else self._tensor(stop)
        kept = -1 if keep is None else self._set(keep)
        key = ("sub", tuple(blocks), tuple(facts), tuple(stored), halt, kept)
        if key in self._seen:
            return self._seen[key]
        columns = self._columns
        columns["sub_block"] += blocks
        for kind, index, value in facts:
            columns["multiplier_kind"].append(kind)
            columns["multiplier_index"].append(index)
            columns["multiplier_value"].append(value)
        columns["weight_value"] += stored
        columns["sub_block_ptr"].append(len(columns["sub_block"]))
        columns["sub_multiplier_ptr"].append(len(columns["multiplier_kind"]))
        columns["sub_weight_ptr"].append(len(columns["weight_value"]))
        columns["sub_stop"].append(halt)
        columns["sub_keep"].append(kept)
        return self._remember(key, len(columns["sub_stop"]) - 1)

    def step(
        self,
        target: int,
        rows: Array | None = None,
        sides: Iterable[Side] = (Side.LOWER, Side.UPPER),
        substitution: int | None = None,
        scales: Array | None = None,
        as_stored: bool = False,
    ) -> int:
        """A bound step: improve bounds of pre-activation ``target``; returns its number.

        Args:
            target: a tensor that a nonlinear node reads.
            rows: its entries to bound; ``None``: those unstable when the step is taken.
            sides: which bounds.
            substitution: hints; ``None``: default slopes.
            scales: ``(sides, rows)``: the multiples of facts count ``2 ** scale`` times.
            as_stored: do not propagate intervals first.
        """
        columns = self._columns
        columns["step_target"].append(self._tensor(target))
        columns["step_set"].append(-1 if rows is None else self._set(rows))
        mask = sum(1 << int(side) for side in set(sides))
        columns["step_sides"].append(mask | (AS_STORED if as_stored else 0))
        if scales is not None:
            columns["step_scale"] += np.asarray(scales).reshape(-1).tolist()
        columns["step_scale_ptr"].append(len(columns["step_scale"]))
        columns["step_sub"].append(-1 if substitution is None else substitution)
        return len(columns["step_target"]) - 1

    def form(self, entries: Iterable[tuple[int, int, float]], point: float) -> int:
        """The split ``sum(w * tensor[i]) <= point`` or ``>= point``; returns its number.

        Args:
            entries: ``(tensor, index, w)``.
            point: a finite float.
        """
        listed = tuple((self._tensor(t), int(i), float(w)) for t, i, w in entries)
        key = ("form", listed, float(point))
        if key in self._seen:
            return self._seen[key]
        columns = self._columns
        for tensor, index, weight in listed:
            columns["entry_tensor"].append(tensor)
            columns["entry_index"].append(index)
            columns["entry_weight"].append(weight)
        columns["form_ptr"].append(len(columns["entry_tensor"]))
        columns["form_point"].append(float(point))
        return self._remember(key, len(columns["form_point"]) - 1)

    def begin_case(
        self, number: int, prelude: Iterable[tuple[NodeKind, int]] = ((NodeKind.SWEEP, 0),)
    ) -> None:
        """Start case ``number`` of the property (ascending).

        Args:
            number: of the case.
            prelude: SWEEP and BOUND operations that make the case's root state.
        """
        columns = self._columns
        columns["case_number"].append(number)
        for kind, arg in prelude:
            columns["prelude_kind"].append(int(kind))
            columns["prelude_arg"].append(arg)
        columns["case_prelude_ptr"].append(len(columns["prelude_kind"]))

    def begin_tree(
        self, literals: Iterable[tuple[int, Side]] = (), disjunct: int | None = None
    ) -> int:
        """Start a tree of the current case; returns its number.

        Args:
            literals: ``(form, side)`` assumed at its root; none for the case's own tree.
            disjunct: the one disjunct that a lemma refutes; ``None``: all of the case's.
        """
        columns = self._columns
        if columns["tree_case"]:
            columns["tree_ptr"].append(len(columns["node_kind"]))
        for number, side in literals:
            columns["literal_form"].append(number)
            columns["literal_side"].append(int(side))
        columns["tree_case"].append(columns["case_number"][-1])
        columns["tree_disjunct"].append(-1 if disjunct is None else disjunct)
        columns["tree_literal_ptr"].append(len(columns["literal_form"]))
        return len(columns["tree_case"]) - 1

    def close(self, substitution: int | None = None) -> None:
        """A leaf that closes, with hints or without."""
        self._node(NodeKind.CLOSE, 0 if substitution is None else substitution + 1)

    def hole(self) -> None:
        """A leaf left open."""
        self._node(NodeKind.HOLE, 0)

    def cite(self, tree: int) -> None:
        """A leaf closed by an earlier tree of the case."""
        self._node(NodeKind.CITE, tree)

    def sweep(self, intervals_only: bool = False) -> None:
        """Bound all unstable neurons anew for the subtree that follows."""
        self._node(NodeKind.SWEEP, int(intervals_only))

    def bound(self, step: int) -> None:
        """Take a bound step for the subtree that follows."""
        self._node(NodeKind.BOUND, step)

    def clip(self, substitution: int | None = None) -> None:
        """Clip the region by the unsafe constraints for the subtree that follows."""
        self._node(NodeKind.CLIP, 0 if substitution is None else substitution + 1)

    def split_input(self, entry: int, point: float | None = None) -> None:
        """Split input ``entry`` (counted through all inputs) at the middle or a point."""
        if point is None:
            self._node(NodeKind.SPLIT_INPUT, entry)
            return
        for tensor in self._network.inputs:
            if entry < self._network.sizes[tensor]:
                self._node(NodeKind.SPLIT_AT, self.form([(tensor, entry, 1.0)], point))
                return
            entry -= self._network.sizes[tensor]
        raise EvidenceError("a split of an input that does not exist")

    def split_neuron(self, tensor: int, index: int, point: float = 0.0) -> None:
        """Split entry ``index`` of pre-activation ``tensor``."""
        if point == 0.0:
            self._node(NodeKind.SPLIT_NEURON, self.neuron(tensor, index))
        else:
            self._node(NodeKind.SPLIT_AT, self.form([(tensor, index, 1.0)], point))

    def split_form(self, form: int) -> None:
        """Split on a linear form."""
        self._node(NodeKind.SPLIT_AT, form)

    def split_disjunct(self, children: int) -> None:
        """One child per disjunct that remains on the path, in the property's order."""
        self._node(NodeKind.SPLIT_DISJUNCT, children)

    def split_faults(self, word: int, children: int) -> None:
        """Split the range of words that holds ``word`` before it.

        One child for each number of faults, from 0 to as many as may strike in the range, that
        strike before the word; all others strike behind.
        """
        key = ("faults", word, children)
        if key not in self._seen:
            self._columns["fault_word"].append(word)
            self._columns["fault_children"].append(children)
            self._remember(key, len(self._columns["fault_word"]) - 1)
        self._node(NodeKind.SPLIT_FAULTS, self._seen[key])

    def finish(self, manifest: Mapping[str, Any] | None = None) -> Proof:
        """The proof written so far.

        Its manifest notes sizes of tensors, so that it can be read beside another model.
        """
        columns = dict(self._columns)
        for number, node in enumerate(self._network.nodes):
            if isinstance(node, Product) and node.squares is not None:
                columns["square_tensor"].append(self._tensor(number))
                columns["square_scale"] += node.squares.scale.tolist()
        if columns["tree_case"]:
            columns["tree_ptr"] = [*columns["tree_ptr"], len(columns["node_kind"])]
        if all(kept < 0 for kept in columns["sub_keep"]):
            columns["sub_keep"] = []
        arrays = {
            name: np.asarray(columns[name], dtype=dtypes[0])
            for name, dtypes in ARRAYS.items()
            if name not in ("slope", "set_index", "multiplier_value", "weight_value")
        }
        for name in ("multiplier_value", "weight_value"):
            arrays[name] = _shortest(columns[name])
        arrays["slope"] = _narrowed(_joined(self._slopes, np.int32))
        arrays["set_index"] = _joined(self._sets, np.uint32)
        nodes, sizes = self._network.nodes, self._network.sizes
        names = tuple(nodes[t].name for t in self._tensor_numbers)
        noted: dict[str, Any] = {}
        if columns["node_kind"]:
            noted[SIZES] = [sizes[t] for t in self._tensor_numbers]
        if NodeKind.SPLIT_NEURON in columns["node_kind"] or not NUMBERED.isdisjoint(
            columns["multiplier_kind"]
        ):
            noted[NEURONS] = [[nodes[t].name, sizes[t]] for t in self._neuron_offset]
        return Proof(self._question, names, arrays, noted | dict(manifest or {}))

    def _node(self, kind: NodeKind, arg: int) -> None:
        self._columns["node_kind"].append(int(kind))
        self._columns["node_arg"].append(int(arg))

    def _tensor(self, number: int) -> int:
        return self._tensor_numbers.setdefault(number, len(self._tensor_numbers))

    def _remember(self, key: Any, number: int) -> int:
        self._seen[key] = number
        return number

    def _set(self, indices: Array) -> int:
        stored = np.asarray(indices, dtype=np.uint32).reshape(-1)
        key = ("set", stored.tobytes())
        if key in self._seen:
            return self._seen[key]
        self._sets.append(stored)
        self._columns["set_ptr"].append(self._columns["set_ptr"][-1] + stored.size)
        return self._remember(key, len(self._sets) - 1)

    def _block(self, hint: SlopeHint) -> int:
        values = np.atleast_2d(np.asarray(hint.values, dtype=np.float64))
        exponent = -self._slope_bits if hint.exponent is None else hint.exponent
        whole = np.rint(values * 2.0**-exponent if hint.exponent is None else values)
        if not np.all(np.abs(whole) < 2**31):
            raise EvidenceError("a slope is too large or not finite")
        coded = whole.astype(np.int32)
        tensor = self._tensor(hint.tensor)
        chosen = -1 if hint.indices is None else self._set(hint.indices)
        key = ("block", tensor, int(hint.side), chosen, exponent, coded.shape[0], coded.tobytes())
        if key in self._seen:
            return self._seen[key]
        self._slopes.append(coded.reshape(-1))
        self._slope_count += coded.size
        columns = self._columns
        columns["block_tensor"].append(tensor)
        columns["block_side"].append(int(hint.side))
        columns["block_set"].append(chosen)
        columns["block_rows"].append(coded.shape[0])
        columns["block_exponent"].append(exponent)
        columns["block_ptr"].append(self._slope_count)
        return self._remember(key, len(columns["block_tensor"]) - 1)


def neuron_tensors(query: Query) -> tuple[int, ...]:
    """The pre-activation tensors in order; neurons are numbered through them."""
    return query.network.preactivations


def _starts(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]


def _joined(parts: Sequence[Array], dtype: Any) -> Array:
    return np.concatenate([*parts, np.zeros(0, dtype=dtype)]).astype(dtype)


def _shortest(values: Sequence[float]) -> Array:
    """Floats of 32 bits, if they hold all values exactly, otherwise of 64."""
    full = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        short = full.astype(np.float32)
    return short if np.array_equal(short.astype(np.float64), full) else full


def _narrowed(values: Array) -> Array:
    for name in ("uint8", "int16"):
        info = np.iinfo(name)
        if not values.size or (values.min() >= info.min and values.max() <= info.max):
            return values.astype(name)
    whole = not values.size or np.abs(values).max() <= 1 << 24
    return values.astype(np.float32 if whole else np.float64)
