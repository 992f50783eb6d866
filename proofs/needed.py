"""Slopes that a leaf does not need: those of stable neurons, and those that are the default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from proofs.arithmetic import Arithmetic
from proofs.domain import Domains
from proofs.frame import IndexArray
from proofs.functions import function
from proofs.proof import Side
from proofs.tables import Block, Substitution
from specs.network import Network, Univariate


def needed(
    network: Network, arithmetic: Arithmetic, hints: Substitution, domains: Domains
) -> Substitution:
    """Hints without slopes that make no difference in a single domain.

    Entries of a block keep their places: what is not needed becomes the default, and a block
    of defaults is left out.
    """
    blocks = (_block(network, arithmetic, block, domains) for block in hints.blocks)
    return replace(hints, blocks=tuple(block for block in blocks if block is not None))


def _block(
    network: Network, arithmetic: Arithmetic, block: Block, domains: Domains
) -> Block | None:
    node = network.nodes[block.tensor]
    if not isinstance(node, Univariate) or len(block.slopes) != 1:
        return block
    rule = function(node.function, node.parameters)
    entries: slice | IndexArray = slice(None) if block.entries is None else block.entries
    bounds = domains.batch.bounds[node.source]
    lower, upper = (end[0, entries] for end in bounds)
    unstable = np.asarray(rule.unstable(arithmetic, lower, upper), dtype=bool)
    floats = arithmetic.floats_down(lower), arithmetic.floats_up(upper)
    below, above = rule.default_slopes(*floats)
    default = below if block.side is Side.LOWER else above
    used = np.where(unstable, block.slopes[0], default)  # a stable neuron has a line of its own
    if np.array_equal(used, default):
        return None
    return replace(block, slopes=used[None])
