"""The trees of a proof as SVG: splits from left to right, leaves coloured by slack.

Written by hand, so that it needs no library.  Nodes that do not branch are left out.  Of a
large tree the largest subtrees are drawn and the others shown as triangles with the number
of their leaves.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

import numpy as np

from proofs.domain import Literal
from proofs.probe import Survey
from proofs.proof import NodeKind, Proof
from proofs.squares import with_squares_of
from proofs.tables import Tables
from specs.network import Input, Network
from specs.query import Query

DRAWN = 120
"""Leaves and triangles that are drawn at most."""

ROW, MARGIN, TOP, LEGEND = 18, 16, 58, 44
DECADES = 3
"""Of slacks, from the largest downwards, that colours tell apart."""

COLOURS = ("#00224e", "#2e4b7c", "#7b7b78", "#bcaf6f", "#fee838")  # dark to light: cividis
OTHER = {"no point is left": "#ffffff", "cites a lemma": "#56b4e9", "left open": "#d55e00"}
SPLITS = (NodeKind.SPLIT_INPUT, NodeKind.SPLIT_NEURON, NodeKind.SPLIT_AT)


@dataclass(eq=False)
class _Node:
    """A leaf or a branching node of a tree.

    Attributes:
        label: what is split, ``tip``: the same in full.
        slack: the least below; infinite where no leaf is closed by a bound.
        kind: of a leaf: ``"bound"`` or a key of ``OTHER``.
    """

    label: str
    tip: str
    kind: str = "bound"
    slack: float = math.inf
    leaves: int = 1
    children: list[_Node] = field(default_factory=list)
    sides: tuple[str, ...] = ()
    drawn: bool = False
    depth: int = 0
    row: float = 0.0


def tree_svg(query: Query, proof: Proof, seen: Survey) -> str:
    """The picture as a text.

    Args:
        query: the question.
        proof: a valid one, with a tree for every case.
        seen: see :func:`proofs.probe.survey`.
    """
    stated = with_squares_of(query, proof)
    tables = Tables(stated, proof)
    roots = [_tree(stated.network, tables, tree, seen) for tree in range(tables.trees)]
    if len(roots) > 1:
        names = tuple(_name(tables, tree) for tree in range(tables.trees))
        whole = _over("", f"{len(roots)} trees", roots, names)
    else:
        whole = roots[0] if roots else _Node("", "no tree", "no point is left")
    _choose(whole)
    return "\n".join(_svg(query, whole, seen)) + "\n"


def _name(tables: Tables, tree: int) -> str:
    kind = "lemma" if tables.tree_literals(tree) else "case"
    return f"{kind} {tree if kind == 'lemma' else tables.tree_case(tree)}"


def _tree(network: Network, tables: Tables, tree: int, seen: Survey) -> _Node:
    """A tree, built from its end without recursion."""
    first = tables.tree_root(tree)
    made: dict[int, _Node] = {}
    for node in range(first + int(tables.subtree[first]) - 1, first - 1, -1):
        kind = NodeKind(int(tables.node_kind[node]))
        if kind in (NodeKind.SWEEP, NodeKind.BOUND, NodeKind.CLIP):
            made[node] = made.pop(node + 1)
            continue
        if kind in (NodeKind.CLOSE, NodeKind.CITE, NodeKind.HOLE):
            made[node] = _leaf(tables, node, kind, seen)
            continue
        count = int(tables.node_arg[node]) if kind is NodeKind.SPLIT_DISJUNCT else 2
        if kind is NodeKind.SPLIT_FAULTS:
            count = tables.fault_split(int(tables.node_arg[node]))[1]
        children, child = [], node + 1
        for _ in range(count):
            children.append(made.pop(child))
            child += int(tables.subtree[child])
        label, tip = "disjuncts", "one child for each disjunct"
        sides = tuple(str(k) for k in range(count))
        if kind in SPLITS:
            sides = ("≤", "≥")
            label, tip = _split(network, seen.splits.get(node))
        made[node] = _over(label, tip, children, sides)
    return made[first]


def _leaf(tables: Tables, node: int, kind: NodeKind, seen: Survey) -> _Node:
    if kind is NodeKind.HOLE:
        return _Node("open", "the proof leaves it open", "left open")
    if kind is NodeKind.CITE:
        number = int(tables.node_arg[node])
        return _Node(f"tree {number}", f"closed by tree {number}", "cites a lemma")
    slack = seen.slacks.get(node)
    if slack is None:
        return _Node("", "no point is left on this path", "no point is left")
    return _Node(f"{slack:.3g}", f"slack {slack:.6g}", "bound", slack)


def _over(label: str, tip: str, children: list[_Node], sides: tuple[str, ...]) -> _Node:
    if len(children) == 1:
        return children[0]
    least = min(child.slack for child in children)
    leaves = sum(child.leaves for child in children)
    kinds = {child.kind for child in children}
    kind = next(iter(kinds)) if len(kinds) == 1 else "bound"
    return _Node(label, tip, kind, least, leaves, children, sides)


def _split(network: Network, literal: Literal | None) -> tuple[str, str]:
    if literal is None:
        return "", "no point is left to split"
    names = []
    for (tensor, index), weight in literal.weights:
        node = network.nodes[tensor]
        single = isinstance(node, Input) and len(network.inputs) == 1
        name = f"x{index}" if single else f"{node.name}[{index}]"
        names.append(name if weight == 1.0 else f"{weight:.3g} {name}")
    short = names[0] if len(names) == 1 else f"{len(names)} terms"
    where = f" at {literal.point:.3g}"
    return short + where, " + ".join(names) + f" at {literal.point!r}"


def _choose(root: _Node) -> None:
    """Branch the largest subtrees, as long as not too much is drawn."""
    waiting = [(-root.leaves, 0, root)]
    count, number = 1, 0
    while waiting:
        _, _, node = heapq.heappop(waiting)
        if not node.children or count + len(node.children) - 1 > DRAWN:
            continue
        node.drawn = True
        count += len(node.children) - 1
        for child in node.children:
            number += 1
            child.depth = node.depth + 1
            heapq.heappush(waiting, (-child.leaves, number, child))


def _shown(root: _Node) -> tuple[list[_Node], list[_Node]]:
    """What is drawn, children after their parents; and of it what ends a path, downwards."""
    order, ends, waiting = [], [], [root]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if node.drawn:
            waiting += node.children[::-1]
        else:
            ends.append(node)
    return order, ends


def _svg(query: Query, root: _Node, seen: Survey) -> Iterator[str]:
    order, ends = _shown(root)
    for row, node in enumerate(ends):
        node.row = row
    for node in reversed(order):
        if node.drawn:
            node.row = (node.children[0].row + node.children[-1].row) / 2
    depth = max(node.depth for node in order)
    column = int(min(132, max(92, 1500 / max(1, depth))))
    largest = max((s for s in seen.slacks.values() if math.isfinite(s)), default=0.0)
    width = max(660, 2 * MARGIN + column * (depth + 1) + 110)
    height = TOP + ROW * len(ends) + LEGEND + MARGIN

    def at(node: _Node) -> tuple[float, float]:
        return MARGIN + column * (node.depth + 1), TOP + ROW * (node.row + 0.5)

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10">'
    )
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="{MARGIN}" y="22" font-size="14">{escape(query.title)}</text>'
    hidden = sum(1 for node in ends if node.leaves > 1)
    more = f"; {hidden} subtrees as triangles, with their leaves and least slack" if hidden else ""
    leaves = f"{root.leaves} leaves" if root.leaves > 1 else "1 leaf"
    yield f'<text x="{MARGIN}" y="40" fill="#555555">{leaves}{more}</text>'
    yield '<g stroke="#888888" fill="none">'
    for node in order:
        x, y = at(node)
        if node is not root or node.drawn:
            yield f'<path d="M{x - column:.1f} {y:.1f}H{x:.1f}"/>'
        if node.drawn:
            ys = [at(child)[1] for child in (node.children[0], node.children[-1])]
            yield f'<path d="M{x:.1f} {ys[0]:.1f}V{ys[1]:.1f}"/>'
    yield "</g>"
    for node in order:
        x, y = at(node)
        yield f"<g><title>{escape(node.tip)}</title>"
        yield from _mark(node, x, y, largest) if not node.drawn else _fork(node, x, y, column)
        for child, side in zip(node.children if node.drawn else [], node.sides, strict=False):
            yield (
                f'<text x="{x + 4:.1f}" y="{at(child)[1] + 10:.1f}" '
                f'fill="#555555">{escape(side)}</text>'
            )
        yield "</g>"
    yield from _legend(ends, largest, height)
    yield "</svg>"


def _fork(node: _Node, x: float, y: float, column: int) -> Iterator[str]:
    room = max(4, int((column - 22) / 5.6))
    text = node.label if len(node.label) <= room else node.label[: room - 1] + "…"
    yield f'<text x="{x - 4:.1f}" y="{y - 4:.1f}" text-anchor="end">{escape(text)}</text>'


def _mark(node: _Node, x: float, y: float, largest: float) -> Iterator[str]:
    paint = f'fill="{_colour(node, largest)}" stroke="#333333" stroke-width="0.8"'
    if node.leaves > 1:
        yield f'<path d="M{x:.1f} {y:.1f}l12 -7v14z" {paint}/>'
        least = f", {node.slack:.3g}" if math.isfinite(node.slack) else ""
        text = f"{node.leaves} leaves{least}"
    else:
        yield f'<circle cx="{x + 5:.1f}" cy="{y:.1f}" r="5" {paint}/>'
        text = node.label
    yield f'<text x="{x + 16:.1f}" y="{y + 3.5:.1f}">{escape(text)}</text>'


def _colour(node: _Node, largest: float) -> str:
    if node.kind != "bound":
        return OTHER[node.kind]
    if not math.isfinite(node.slack):
        return OTHER["no point is left"]
    share = 0.0
    if node.slack > 0:
        share = min(1.0, max(0.0, 1.0 + math.log10(node.slack / largest) / DECADES))
    place = share * (len(COLOURS) - 1)
    low = min(int(place), len(COLOURS) - 2)
    ends = [[int(COLOURS[k][i : i + 2], 16) for i in (1, 3, 5)] for k in (low, low + 1)]
    mixed = np.rint(np.array(ends[0]) + (place - low) * np.subtract(ends[1], ends[0]))
    return "#" + "".join(f"{int(v):02x}" for v in mixed)


def _legend(ends: list[_Node], largest: float, height: int) -> Iterator[str]:
    y, x = height - LEGEND, MARGIN
    stops = "".join(
        f'<stop offset="{k / (len(COLOURS) - 1):.2f}" stop-color="{colour}"/>'
        for k, colour in enumerate(COLOURS)
    )
    yield f'<defs><linearGradient id="slack">{stops}</linearGradient></defs>'
    yield f'<rect x="{x}" y="{y}" width="140" height="10" fill="url(#slack)" stroke="#333333"/>'
    yield f'<text x="{x}" y="{y + 22}">≤ {largest / 10**DECADES:.2g}</text>'
    yield f'<text x="{x + 140}" y="{y + 22}" text-anchor="end">{largest:.3g}</text>'
    yield f'<text x="{x + 148}" y="{y + 9}">slack of a leaf (logarithmic)</text>'
    x += 310
    for kind in dict.fromkeys(node.kind for node in ends if node.kind != "bound"):
        yield (
            f'<circle cx="{x}" cy="{y + 5}" r="5" fill="{OTHER[kind]}" '
            'stroke="#333333" stroke-width="0.8"/>'
        )
        yield f'<text x="{x + 10}" y="{y + 9}">{kind}</text>'
        x += 110
