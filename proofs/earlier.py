"""What a proof itself says of the question that it was made for, which need not be at hand.

``ProofBuilder`` notes in the manifest how large tensors were, so that neurons have names.
That is enough to read a proof, and not to check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from proofs.proof import NEURONS, SIZES, Proof
from specs.errors import EvidenceError
from specs.network import Input, Network, Node, Univariate
from specs.property import Case, Property
from specs.query import Query

LARGEST = 1 << 32
"""What the entries of a tensor are counted up to in a proof."""

MOST = 1 << 20
"""Cases of a property, and disjuncts of a case, that are taken to have been there."""


@dataclass(frozen=True, eq=False)
class Remembered(Network):
    """A network of which names and sizes are known, and not what computes what.

    Attributes:
        layers: its pre-activations.
    """

    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """There is no graph to check."""

    @cached_property
    def preactivations(self) -> tuple[int, ...]:
        """As they were noted."""
        return self.layers


@dataclass(frozen=True, eq=False)
class Earlier(Query):
    """As much of an earlier question as reading its proof takes."""

    def __post_init__(self) -> None:
        """A remembered network and property need not fit each other."""


def earlier(query: Query, proof: Proof) -> Query:
    """The question of a proof, as far as the proof remembers it.

    What it does not remember of the network is taken to be as in ``query``.

    Raises:
        EvidenceError: what the manifest notes is malformed.
    """
    network = query.network
    if SIZES in proof.manifest or NEURONS in proof.manifest:
        network = _network(proof)
    most = (int(proof.arrays[name].max(initial=0)) for name in ("case_number", "tree_disjunct"))
    cases, disjuncts = (min(number + 1, MOST) for number in most)
    return Earlier(network, Property(0, 0, [Case((), (), ((),) * disjuncts)] * cases), (), "")


def _network(proof: Proof) -> Remembered:
    sizes = proof.manifest.get(SIZES)
    if not isinstance(sizes, list) or len(sizes) != len(proof.tensors):
        raise EvidenceError(f"the manifest's {SIZES} do not belong to its tensors")
    # Without a note no neuron has a number, and any tensor may be one that steps speak of.
    unnumbered = [list(pair) for pair in zip(proof.tensors, sizes, strict=True)]
    neurons = proof.manifest.get(NEURONS, unnumbered)
    if not isinstance(neurons, list):
        raise EvidenceError(f"the manifest's {NEURONS} are not a list")
    layers = [_pair(entry) for entry in neurons]
    known = {**dict(layers), **dict(zip(proof.tensors, sizes, strict=True))}
    if len(dict(layers)) != len(layers) or any(known[name] != size for name, size in layers):
        raise EvidenceError("the manifest gives a tensor two sizes")
    if not all(type(size) is int and 0 < size < LARGEST for size in known.values()):
        raise EvidenceError(f"the manifest's {SIZES} are not all whole numbers")
    places = proof.arrays["block_tensor"]
    curved = {
        proof.tensors[int(place)] for place in np.unique(places) if place < len(proof.tensors)
    }
    names = list(dict.fromkeys([*dict(layers), *proof.tensors]))
    nodes: list[Node] = [
        Univariate(name, (known[name],), 0, "relu")
        if name in curved
        else Input(name, (known[name],))
        for name in names
    ]
    nodes.append(Input("", (LARGEST,)))  # as many inputs as may be split
    return Remembered(tuple(nodes), (), layers=tuple(range(len(layers))))


def _pair(entry: Any) -> tuple[str, int]:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
        raise EvidenceError(f"the manifest's {NEURONS} are not pairs of a name and a size")
    return entry[0], entry[1]
