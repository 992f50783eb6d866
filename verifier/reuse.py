"""An old proof's trees in the search's own record, so that a search mends what fails.

What the search has no form for (splits on forms, bound steps, clips with hints, lemmas) is kept
as it is and written back; below such nodes it goes on from the bounds that the kernel knows.
"""

from __future__ import annotations

from proofs.draft import CaseDraft, Draft, Node
from proofs.oracle import State
from proofs.proof import NodeKind
from proofs.tables import Substitution
from verifier.bab_tree import Kind, Open, Tree
from verifier.bounds import TorchNetwork
from verifier.states import known

OPERATIONS = (NodeKind.SWEEP, NodeKind.BOUND, NodeKind.CLIP)


def splits_inputs(draft: Draft) -> bool | None:
    """Whether a draft splits inputs, and no neurons; ``None``: it splits neither."""
    kinds = {node.kind for node in draft.nodes()}
    if NodeKind.SPLIT_NEURON in kinds:
        return False
    return True if NodeKind.SPLIT_INPUT in kinds else None


def planted(tree: Tree, net: TorchNetwork, draft: Draft) -> dict[int, int]:
    """Put a draft's trees into a search's tree; returns its nodes by the draft's, by identity.

    All leaves count as closed, holes included, until they are opened; holes that are not stay
    holes where the tree is written.
    """
    places: dict[int, int] = {}
    for case in draft.cases:
        main = case.refutation()
        lemmas = [lemma for lemma in case.trees if lemma is not main]
        tree.old_cases[case.number] = CaseDraft(case.number, case.prelude, lemmas)
        stack = [(main.root, tree.add_root(case.number))]
        while stack:
            node, place = stack.pop()
            while node.kind in OPERATIONS:
                places[id(node)] = place
                _do(tree, place, node)
                (node,) = node.children
            places[id(node)] = place
            first = _end(tree, net, place, node)
            stack += [(child, first + k) for k, child in enumerate(node.children)]
    return places


def _do(tree: Tree, place: int, node: Node) -> None:
    if node.kind is NodeKind.SWEEP and not node.arg:
        tree.sweep(place)
    elif node.kind is NodeKind.CLIP and node.arg is None:
        tree.clip(place, None)
    else:
        tree.tightened.setdefault(place, []).append(node)


def _end(tree: Tree, net: TorchNetwork, place: int, node: Node) -> int:
    """Make a node a leaf or a split; returns its first child."""
    arg, count = node.arg, len(node.children)
    if node.leaf:
        tree.close(place)
        tree.old[place] = node
        return 0
    if node.kind is NodeKind.SPLIT_DISJUNCT:
        return tree.split(place, Kind.DISJUNCT, count, count)
    if node.kind is NodeKind.SPLIT_INPUT and isinstance(arg, int):
        return tree.split(place, Kind.INPUT, arg)
    if node.kind is NodeKind.SPLIT_NEURON and isinstance(arg, tuple) and arg[0] in net.neurons:
        return tree.split(place, Kind.NEURON, net.neurons[arg[0]].start + arg[1])
    tree.old[place] = node
    return tree.split(place, Kind.OTHER, 0)


def opened(tree: Tree, net: TorchNetwork, place: int, state: State) -> Open:
    """Open a leaf again."""
    hints = state.node.arg if isinstance(state.node.arg, Substitution) else None
    tree.open(place)
    return Open(place, known([state], net), hints)
