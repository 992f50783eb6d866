"""The same hints, said otherwise: a proof written for every case, or resting on less."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from proofs.proof import Array, NodeKind, Proof, ProofBuilder
from specs.query import Query


def explicit(query: Query, proof: Proof | None) -> Proof:
    """A proof in which every case has a tree; the empty proof of a case is written out."""
    if proof is None:
        proof = ProofBuilder(query).finish()
    arrays = dict(proof.arrays)
    known = arrays["case_number"].astype(np.int64)
    missing = np.setdiff1d(np.arange(len(query.property.cases)), known)
    if not missing.size:
        return proof
    count, trees = missing.size, len(arrays["tree_case"])
    numbers = np.concatenate([known, missing])
    order = np.argsort(numbers)
    spans = _spans(arrays["case_prelude_ptr"]) + [np.array([-1])] * count
    kinds = np.append(arrays["prelude_kind"], np.uint8(NodeKind.SWEEP))  # at -1
    args = np.append(arrays["prelude_arg"], np.uint32(0))
    chosen = np.concatenate([spans[place] for place in order])
    nodes = len(arrays["node_kind"])
    arrays |= {
        "case_number": numbers[order].astype(np.uint32),
        "case_prelude_ptr": _pointer([spans[place].size for place in order]),
        "prelude_kind": kinds[chosen],
        "prelude_arg": args[chosen],
        "tree_case": np.append(arrays["tree_case"], missing.astype(np.uint32)),
        "tree_disjunct": np.append(arrays["tree_disjunct"], np.full(count, -1, np.int32)),
        # without trees the pointer is [0] all the same
        "tree_ptr": np.append(
            arrays["tree_ptr"][: trees + 1],
            np.arange(nodes + 1, nodes + count + 1, dtype=np.uint32),
        ),
        "tree_literal_ptr": np.append(
            arrays["tree_literal_ptr"],
            np.full(count, len(arrays["literal_form"]), dtype=np.uint32),
        ),
        "node_kind": np.append(arrays["node_kind"], np.full(count, NodeKind.CLOSE, np.uint8)),
        "node_arg": np.append(arrays["node_arg"], np.zeros(count, arrays["node_arg"].dtype)),
    }
    return replace(proof, arrays=arrays)


def resting_on(proof: Proof, tensor: str, entries: Array) -> Proof:
    """A proof whose leaves use nothing but intervals of a tensor's other entries.

    All its CLOSE and CLIP nodes stop at the tensor and pass on ``entries`` alone
    (``sub_keep``); whether it still closes is for the kernel to say.

    Args:
        proof: has a tree for every case; see :func:`explicit`.
        tensor: name of a pre-activation, or of a tensor that a nonlinear node defines.
        entries: flat indices, each once.
    """
    arrays = dict(proof.arrays)
    names = proof.tensors if tensor in proof.tensors else (*proof.tensors, tensor)
    leaves = np.isin(arrays["node_kind"], (NodeKind.CLOSE, NodeKind.CLIP))
    args, which = np.unique(arrays["node_arg"][leaves].astype(np.int64), return_inverse=True)
    by_steps = np.unique(arrays["step_sub"][arrays["step_sub"] >= 0])
    # Steps keep theirs; leaves get copies, and those without hints get empty ones.
    sources = np.concatenate([by_steps, args - 1])
    for pointer, columns in _SPANS.items():
        spans = [*_spans(arrays[pointer]), np.zeros(0, dtype=np.int64)]  # the last at -1
        chosen = [spans[number] for number in sources]
        taken = np.concatenate([*chosen, spans[-1]])
        arrays |= {name: arrays[name][taken] for name in columns}
        arrays[pointer] = _pointer([span.size for span in chosen])
    keeps = arrays["sub_keep"] if arrays["sub_keep"].size else np.full_like(arrays["sub_stop"], -1)
    stop, kept = names.index(tensor), len(arrays["set_ptr"]) - 1
    listed = np.sort(np.asarray(entries, dtype=np.int64)).astype(np.uint32)
    arrays["set_index"] = np.append(arrays["set_index"], listed)
    arrays["set_ptr"] = np.append(arrays["set_ptr"], np.uint32(arrays["set_index"].size))
    for name, old, new in (("sub_stop", arrays["sub_stop"], stop), ("sub_keep", keeps, kept)):
        arrays[name] = np.append(old[by_steps], np.full(args.size, new)).astype(np.int32)
    steps = np.searchsorted(by_steps, arrays["step_sub"])
    arrays["step_sub"] = np.where(arrays["step_sub"] < 0, -1, steps).astype(np.int32)
    numbers = arrays["node_arg"].astype(np.uint32)
    numbers[leaves] = 1 + by_steps.size + which.reshape(-1)
    arrays["node_arg"] = numbers
    return replace(proof, tensors=names, arrays=arrays)


_SPANS = {
    "sub_block_ptr": ("sub_block",),
    "sub_multiplier_ptr": ("multiplier_kind", "multiplier_index", "multiplier_value"),
    "sub_weight_ptr": ("weight_value",),
}


def _spans(pointer: Array) -> list[Array]:
    ends = pointer.astype(np.int64).tolist()
    return [np.arange(*pair) for pair in pairwise(ends)]


def _pointer(sizes: list[int]) -> Array:
    return np.cumsum([0, *sizes]).astype(np.uint32)
