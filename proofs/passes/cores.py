"""Splits that nothing below needs: one of their children takes their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proofs.draft import TWO_WAY, Node, place_without
from proofs.passes.edits import Work
from proofs.passes.thin import below, levels
from proofs.proof import Fact, NodeKind
from proofs.tables import Step, Substitution


def collapse(work: Work, tops: Sequence[Node]) -> None:
    """Replace splits below some nodes by the side that closes without them, the lowest first."""
    depth = splits_above(work, tops)
    level = levels(tops)
    for height in sorted({level[id(n)] for n in below(tops) if n.kind in TWO_WAY}):
        for side in (0, 1):
            chosen = [
                node
                for node in below(tops)
                if node.kind in TWO_WAY
                and level.get(id(node)) == height
                and not any(under.kind is NodeKind.HOLE for under in node)
            ]
            for node in chosen:
                work.replace(node, without(node.children[side].copy(), depth[id(node)]))
            work.settle(chosen)


def splits_above(work: Work, tops: Sequence[Node]) -> dict[int, int]:
    """How many splits there are on the path to each node, by identity: those of its tree, too."""
    assumed = {id(tree.root): len(tree.literals) for tree in work.draft.trees()}
    found: dict[int, int] = {}
    for node in below(tops):
        above = work.before(node)
        known = None if above is None else found.get(id(above))
        if known is None:
            *path, root = work.upwards(node)
            found[id(node)] = assumed[id(root)] + sum(
                each.kind in TWO_WAY for each in (*path, root) if each is not node
            )
        else:
            found[id(node)] = known + (above is not None and above.kind in TWO_WAY)
    return found


def without(root: Node, split: int) -> Node:
    """A subtree, changed so that what it says of one split on its path is left out."""
    made: dict[int, Substitution] = {}
    for node in root:
        if node.kind in (NodeKind.CLOSE, NodeKind.CLIP) and isinstance(node.arg, Substitution):
            node.arg = _renumbered(node.arg, split, made)
        elif isinstance(node.arg, Step):
            hints = _renumbered(node.arg.substitution, split, made)
            if hints is not node.arg.substitution:
                node.arg = replace(node.arg, substitution=hints)
    return root


def _renumbered(hints: Substitution, split: int, made: dict[int, Substitution]) -> Substitution:
    if all(kind is not Fact.SPLIT or index < split for kind, index, _ in hints.multipliers):
        return hints
    if id(hints) not in made:
        listed = []
        for kind, index, value in hints.multipliers:
            place = place_without(index, {split}) if kind is Fact.SPLIT else index
            if place is not None:
                listed.append((kind, place, value))
        made[id(hints)] = replace(hints, multipliers=tuple(listed))
    return made[id(hints)]
