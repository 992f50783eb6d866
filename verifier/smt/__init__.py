"""Search by Boolean reasoning: Z3 decides phases of neurons under certified clauses.

A *clause* says that some phases cannot hold together at a violation, and carries the multipliers
that refute them: slopes, multiples of the phases, weights of the unsafe constraints.  In the
proof it is a lemma, and the tree that cites the lemmas is found from the clauses (after Ehlers,
*Formal verification of piece-wise linear feed-forward neural networks*, 2017, and Katz et al.,
*Reluplex*, 2017, whose conflicts stay inside the solver; here the kernel checks every one).
"""

from __future__ import annotations

from specs.network import Network, Univariate


def applies(network: Network) -> bool:
    """Whether all functions are Relus, so that phases decide everything."""
    nodes = (network.nodes[number] for number in network.nonlinear)
    return all(isinstance(node, Univariate) and node.function == "relu" for node in nodes)
