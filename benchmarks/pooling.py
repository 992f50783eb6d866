"""Networks cut at their pools, and bounds of them by the planes of ``benchmarks.maxima``.

Rows are substituted back through the part behind a pool, the planes, and the part before it,
in float64 and without account of rounding, as in a search.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor
from torch.nn import functional

from benchmarks.maxima import BEYOND, Ends, Planes, Rule, contested, first
from specs.errors import UnsupportedOperatorError
from specs.onnx_reader import read_model_bytes
from verifier.bounds import (
    Domains,
    LinearNode,
    NonlinearNode,
    Rows,
    TorchNetwork,
    both_sides,
    concretize,
    default_lines,
    interval,
    neuron_rows,
    substitute,
)
from verifier.bounds_compile import compile_network
from verifier.bounds_sweep import fresh
from verifier.relaxations import Lines

NUMBERS = 1 << 22
"""In the widest array of rows that are substituted back at once."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A network cut at its pools.

    Attributes:
        parts: one more than pools; each has one input and one output.
        windows: by pool the entries ``(W, k)`` of the part before it; their number stands
            for a further entry that is 0.
    """

    parts: tuple[TorchNetwork, ...]
    windows: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A network over a box ``(1, I)``.

    Attributes:
        lines: by part; ``states``: the bounds that they rest on.
        planes: by pool; ``ends``: the bounds ``(W, k)`` that they rest on.
        rows: how many were substituted back for these bounds.
    """

    cut: Cut
    low: Tensor
    high: Tensor
    lines: tuple[dict[int, Lines], ...] = ()
    states: tuple[Domains, ...] = ()
    planes: tuple[Planes, ...] = ()
    ends: tuple[Ends, ...] = ()
    rows: int = 0

    @property
    def open_(self) -> int:
        """Windows in which several entries may be the largest, and open neurons."""
        found = sum(int(contested(*ends).any(-1).sum()) for ends in self.ends)
        pairs = zip(self.cut.parts, self.states, strict=True)
        return found + sum(int(part.unstable(s.lower, s.upper).sum()) for part, s in pairs)

    def bound(self, place: int, rows: Rows) -> Tensor:
        """Lower bounds ``(R,)`` of rows over tensors of a part."""
        parts = self.cut.parts
        matrix, constant = substitute(parts[place], rows, self.lines[place].__getitem__)
        for number in range(place - 1, -1, -1):
            each, constant = self.planes[number].back(matrix, constant)
            whole = each.new_zeros(len(each), parts[number].sizes[parts[number].outputs[0]] + 1)
            whole = whole.index_add(-1, self.cut.windows[number].flatten(), each.flatten(1))
            rows = replace(over_entries(parts[number], whole), constant=constant)
            matrix, constant = substitute(parts[number], rows, self.lines[number].__getitem__)
        return concretize(matrix, constant, self.low, self.high)

    def between(self, place: int, index: Tensor, rows: Callable[[Tensor], Rows]) -> Ends:
        """Bounds of the rows over a part that belong to an index, some at once."""
        parts = self.cut.parts
        widest = max(*(part.width for part in parts), *(w.numel() for w in self.cut.windows))
        found = [index.new_zeros(2, 0).to(self.low)]
        for some in index.split(max(1, NUMBERS // widest)) if len(index) else ():
            found.append(self.bound(place, both_sides(rows(some))).reshape(2, -1))
        below, above = torch.cat(found, -1)
        return below, -above

    def outputs(self, rows: Tensor) -> Tensor:
        """Lower bounds of rows ``(R, outputs)`` of the network's outputs."""
        place = len(self.cut.parts) - 1
        (output,) = self.cut.parts[place].outputs
        return self.bound(place, Rows({output: rows}, rows.new_zeros(len(rows))))


def over_entries(part: TorchNetwork, weights: Tensor) -> Rows:
    """Rows ``(R, n + 1)`` over a part's result and a further entry, which is 0."""
    return Rows({part.outputs[0]: weights[:, :-1]}, weights.new_zeros(len(weights)))


def relax(cut: Cut, low: Tensor, high: Tensor, rule: Rule) -> Relaxed:
    """Bounds as a sweep finds them: intervals, and rows for what these leave open."""
    now, known = Relaxed(cut, low, high), (low, high)
    for place, part in enumerate(cut.parts):
        state, lines = fresh(part, *known), {}
        now = replace(now, lines=(*now.lines, lines), states=(*now.states, state))
        reached = {part.inputs[0]: known}
        windows = cut.windows[place] if place < len(cut.windows) else None
        for number in (*part.inputs, *part.needed):
            node = part.nodes[number]
            if isinstance(node, NonlinearNode):
                lines[number] = default_lines(part, number, state)
            if node is not None:
                reached[number] = interval(part, node, reached)
            ends = reached[number]
            open_ = torch.zeros_like(ends[0][0], dtype=torch.bool)
            if number in part.neurons:
                open_ = part.unstable(*ends, number)[0]
            elif number in part.outputs and windows is not None:
                rivals = windows[contested(*in_windows(ends, windows))]
                open_[rivals[rivals < len(open_)]] = True
            if place or not exact(part, node):
                index = open_.nonzero()[:, 0]
                found = now.between(place, index, partial(neuron_rows, part, number))
                now = replace(now, rows=now.rows + 2 * len(index))
                ends[0][0, index] = torch.fmax(ends[0][0, index], found[0])
                ends[1][0, index] = torch.fmin(ends[1][0, index], found[1])
            if number in part.neurons:
                state.lower[:, part.neurons[number]] = ends[0]
                state.upper[:, part.neurons[number]] = ends[1]
        if windows is not None:
            ends, differences = in_windows(reached[part.outputs[0]], windows), None
            if rule == "compared":
                ends, differences, count = compare(now, place, *ends)
                now = replace(now, rows=now.rows + 2 * count)
            planes = Planes.of(*ends, rule, differences)
            now = replace(now, planes=(*now.planes, planes), ends=(*now.ends, ends))
            known = ends[0].amax(-1)[None], ends[1].amax(-1)[None]
    return now


def exact(part: TorchNetwork, node: LinearNode | NonlinearNode | None) -> bool:
    """Whether intervals are, over a box of the part's inputs."""
    if not isinstance(node, LinearNode):
        return node is None
    return len(node.terms) == 1 and node.terms[0][0] in part.inputs


def in_windows(ends: Ends, windows: Tensor) -> Ends:
    """Bounds ``(1, n)`` of a part's result by window, ``(W, k)``."""
    low, high = (functional.pad(side[0], (0, 1))[windows] for side in ends)
    return low, high


def compare(relaxed: Relaxed, place: int, low: Tensor, high: Tensor) -> tuple[Ends, Ends, int]:
    """Bounds of entries ``(W, k)``, and of their differences from each window's leader.

    The leader is the entry with the greatest mean.  An entry that is below it counts as
    ``BEYOND`` from then on.  The last result is the number of differences bounded by rows.
    """
    part, windows = relaxed.cut.parts[place], relaxed.cut.windows[place]
    leader = first(low + high)
    own = leader.int().argmax(-1, keepdim=True)
    below, above = low - high.gather(-1, own), high - low.gather(-1, own)
    below, above = (side.masked_fill(leader, 0.0) for side in (below, above))
    asked = (contested(low, high) & ~leader).nonzero()

    def rows(some: Tensor) -> Rows:
        window, entry = asked[some].unbind(-1)
        whole = low.new_zeros(len(some), part.sizes[part.outputs[0]] + 1)
        number = torch.arange(len(some))
        whole[number, windows[window, entry]] = 1.0
        whole[number, windows[window, own[window, 0]]] = -1.0
        return over_entries(part, whole)

    found = relaxed.between(place, torch.arange(len(asked)), rows)
    at = tuple(asked.T)
    below[at] = torch.fmax(below[at], found[0])
    above[at] = torch.fmin(above[at], found[1])
    out = (above <= 0) & ~leader
    raised = low.masked_fill(~(out | leader), BEYOND).amax(-1, keepdim=True)
    low = torch.where(leader, raised, low).masked_fill(out, BEYOND)
    return (low, high.masked_fill(out, BEYOND)), (below, above), len(asked)


def optimised(relaxed: Relaxed, rows: Tensor, steps: int = 100) -> Tensor:
    """The best bounds of rows ``(R, outputs)`` that gradient steps find.

    Every row has its own lines and weights of planes; the bounds that they rest on stay.
    """

    def wide(start: Tensor) -> Tensor:
        return start.repeat(len(rows), *(1 for _ in start.shape[1:])).requires_grad_()

    free = [
        {n: part.function(n).relaxation.relaxed(*part.ends(n, at.lower, at.upper)) for n in own}
        for part, at, own in zip(relaxed.cut.parts, relaxed.states, relaxed.lines, strict=True)
    ]
    slopes = [{n: [wide(p) for p in one.start()] for n, one in part.items()} for part in free]
    planes = tuple(
        replace(p, below=wide(p.below[None]), above=wide(p.above[None])) for p in relaxed.planes
    )
    shares = [side for p in planes for side in (p.below, p.above)]
    slants = [p for part in slopes for own in part.values() for p in own]
    adam = torch.optim.Adam([*shares, *slants], lr=0.25, betas=(0.9, 0.99), maximize=True)
    best = rows.new_full((len(rows),), -torch.inf)
    for _ in range(steps):
        lines = tuple(
            {n: one.lines(*own[n]) for n, one in part.items()}
            for part, own in zip(free, slopes, strict=True)
        )
        found = replace(relaxed, lines=lines, planes=planes).outputs(rows)
        best = torch.maximum(best, found.detach())
        adam.zero_grad()
        found.sum().backward()
        for share in shares:  # what is better than the average of now gains
            share.grad -= (share.detach() * share.grad).sum(-1, keepdim=True)
        adam.step()
        adam.param_groups[0]["lr"] *= 0.95
        with torch.no_grad():
            for slant in slants:
                slant.clamp_(0.0, 1.0)
            for share in shares:
                share.clamp_(min=0.0).div_(share.sum(-1, keepdim=True).clamp(min=1e-6))
    return best


def cut_at_pools(content: bytes) -> Cut:
    """A model's parts and pools; a Relu in front of a pool is an entry 0 of all its windows.

    Raises:
        UnsupportedOperatorError: a pool with padding or dilation, or not of one image.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    made_by = {name: node for node in model.graph.node for name in node.output}
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.value_info)
    }
    known = {tensor.name for tensor in model.graph.initializer}
    (start,) = (v.name for v in model.graph.input if v.name not in known)
    extractor, parts, pools = Extractor(model), [], []

    def part(end: str) -> TorchNetwork:
        content = extractor.extract_model([start], [end]).SerializeToString()
        return compile_network(read_model_bytes(content, None, f"{start} to {end}"))

    for node in model.graph.node:
        if node.op_type != "MaxPool":
            continue
        stated = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        shape, kernel = shapes[node.input[0]], stated["kernel_shape"]
        plain = not any(stated.get("pads", ())) and max(stated.get("dilations", (1,))) == 1
        if not plain or stated.get("ceil_mode") or len(shape) != 4 or shape[0] != 1:
            raise UnsupportedOperatorError("a pool with padding or dilation, or not of one image")
        before = made_by.get(node.input[0])
        clipped = before is not None and before.op_type == "Relu"
        parts.append(part(before.input[0] if clipped else node.input[0]))
        size = math.prod(shape)
        entries = torch.arange(float(size), dtype=torch.double).reshape(shape[1], 1, *shape[2:])
        taps = functional.unfold(entries, kernel, stride=stated.get("strides", 1)).long()
        taps = taps.transpose(1, 2).flatten(0, 1)
        pools.append(functional.pad(taps, (0, 1), value=size) if clipped else taps)
        start = node.output[0]
    return Cut((*parts, part(model.graph.output[0].name)), tuple(pools))
