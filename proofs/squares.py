"""The squares that a proof puts beside products; see ``specs/squares.py``.

They are hints: with any ratio the network computes the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from proofs.proof import Proof
from specs.errors import EvidenceError, ModelError
from specs.query import Query
from specs.squares import with_squares


def with_squares_of(query: Query, proof: Proof) -> Query:
    """The query whose network has the squares that a proof asks for.

    Raises:
        EvidenceError: they are malformed, or not beside products.
    """
    places, stored = proof.arrays.get("square_tensor"), proof.arrays.get("square_scale")
    if places is None or stored is None or places.ndim != 1 or stored.ndim != 1:
        raise EvidenceError("the arrays of squares are missing or not one-dimensional")
    if not places.size and not stored.size:
        return query
    if places.dtype.kind != "u" or stored.dtype.kind != "f" or np.any(places >= len(proof.tensors)):
        raise EvidenceError("the arrays of squares hold something else, or point nowhere")
    network = query.network
    tensors = [network.tensors.get(proof.tensors[int(place)]) for place in places]
    named = [tensor for tensor in tensors if tensor is not None]
    if len(set(named)) != len(places):
        raise EvidenceError("squares beside a tensor that the model lacks, or twice beside one")
    ends = np.cumsum([0, *(network.sizes[tensor] for tensor in named)])
    if stored.size != ends[-1]:
        raise EvidenceError("the ratios of squares do not fit their tensors")
    scales = np.split(stored.astype(np.float64), ends[1:-1])
    try:
        return replace(query, network=with_squares(network, dict(zip(named, scales, strict=True))))
    except ModelError as error:
        raise EvidenceError(str(error)) from None
