"""Torch forms of the linear maps of ``specs.linear``.

A compiled map acts on the last axis of a batch, like the map it was made from, and has a
third method, ``magnitude``: the forward map with the coefficients' absolute values, which
carries radii of boxes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from specs import linear
from specs.convolution import Conv
from specs.enclosure import Enclosure
from specs.errors import ModelError

FEW = 16
"""Inputs of a dense map that count as few."""


class TorchMap(Protocol):
    """A linear map on the last axis: ``(batch, source) <-> (batch, target)``."""

    def forward(self, values: Tensor) -> Tensor: ...

    def magnitude(self, values: Tensor) -> Tensor: ...

    def adjoint(self, rows: Tensor) -> Tensor: ...

    def pick(self, index: Tensor) -> Tensor | None:
        """Rows ``index`` of the map's matrix, ``(k, source)``, where they are at hand."""
        ...

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        """Places and coefficients of rows ``index``, ``(k, f)`` each, where they are few.

        ``None`` where rows are dense; a coefficient of 0 fills a row up.
        """
        ...


@dataclass(frozen=True, eq=False)
class _Identity:
    def forward(self, values: Tensor) -> Tensor:
        return values

    def magnitude(self, values: Tensor) -> Tensor:
        return values

    def adjoint(self, rows: Tensor) -> Tensor:
        return rows

    def pick(self, index: Tensor) -> Tensor | None:
        return None

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        return index[:, None], torch.ones((), device=index.device)


@dataclass(frozen=True, eq=False)
class _Selection:
    """``y[i] = x[index[i]]`` and its adjoint, or the other way round.

    ``inverse`` is set where the selection repeats nothing; its adjoint is then a
    selection too, with entry ``size`` standing for zero.
    """

    index: Tensor
    size: int
    complete: bool
    inverse: Tensor | None
    transposed: bool

    def forward(self, values: Tensor) -> Tensor:
        return self._accumulate(values) if self.transposed else self._take(values)

    def magnitude(self, values: Tensor) -> Tensor:
        return self.forward(values)

    def adjoint(self, rows: Tensor) -> Tensor:
        return self._take(rows) if self.transposed else self._accumulate(rows)

    def pick(self, index: Tensor) -> Tensor | None:
        return None

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        table = self.inverse if self.transposed else self.index
        if table is None:
            return None
        source = table[index]
        missing = len(self.index) if self.transposed else self.size
        kept = source < missing
        return source.where(kept, 0)[:, None], kept[:, None].to(torch.get_default_dtype())

    def _take(self, values: Tensor) -> Tensor:
        if self.complete:
            return values.index_select(-1, self.index)
        return functional.pad(values, (0, 1)).index_select(-1, self.index)

    def _accumulate(self, values: Tensor) -> Tensor:
        if self.inverse is not None:
            return functional.pad(values, (0, 1)).index_select(-1, self.inverse)
        out = values.new_zeros(*values.shape[:-1], self.size + 1)
        return out.index_add(-1, self.index, values)[..., : self.size]


@dataclass(frozen=True, eq=False)
class _Scale:
    weight: Tensor
    absolute: Tensor

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight

    def magnitude(self, values: Tensor) -> Tensor:
        return values * self.absolute

    def adjoint(self, rows: Tensor) -> Tensor:
        return rows * self.weight

    def pick(self, index: Tensor) -> Tensor | None:
        return None

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        return index[:, None], self.weight[index][:, None]


@dataclass(frozen=True, eq=False)
class _MatMul:
    weight: Tensor
    absolute: Tensor
    transpose: Tensor
    rows: int

    def forward(self, values: Tensor) -> Tensor:
        return self._times(values, self.weight)

    def magnitude(self, values: Tensor) -> Tensor:
        return self._times(values, self.absolute)

    def adjoint(self, rows: Tensor) -> Tensor:
        return self._times(rows, self.transpose)

    def pick(self, index: Tensor) -> Tensor | None:
        return self.transpose.index_select(0, index) if self.rows == 1 else None

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.rows != 1 or self.weight.shape[0] > FEW:
            return None
        source = torch.arange(self.weight.shape[0], device=index.device)
        return source[None, :], self.transpose[index]

    def _times(self, values: Tensor, matrix: Tensor) -> Tensor:
        if self.rows == 1:
            return values @ matrix
        parts = values.reshape(*values.shape[:-1], self.rows, matrix.shape[0])
        return (parts @ matrix).reshape(*values.shape[:-1], self.rows * matrix.shape[1])


def is_dense(linear: TorchMap) -> bool:
    """Whether a map is a matrix that :func:`cut_dense` can cut."""
    return isinstance(linear, _MatMul) and linear.rows == 1


def cut_dense(linear: TorchMap, source: Tensor | None, target: Tensor | None) -> TorchMap:
    """A map between chosen entries of its source and target; ``None``: all of them."""
    if source is None and target is None:
        return linear
    if not isinstance(linear, _MatMul):
        raise ModelError(f"a {type(linear).__name__} cannot be cut")
    weight = linear.weight if source is None else linear.weight[source]
    weight = (weight if target is None else weight[:, target]).contiguous()
    return _MatMul(weight, weight.abs(), weight.T.contiguous(), 1)


@dataclass(frozen=True, eq=False)
class _Sparse:
    """Rows of ``matrix`` are targets; ``entries`` and ``values`` are its rows, padded."""

    matrix: Tensor
    absolute: Tensor
    transpose: Tensor
    entries: Tensor
    values: Tensor

    def forward(self, values: Tensor) -> Tensor:
        return self._times(self.matrix, values)

    def magnitude(self, values: Tensor) -> Tensor:
        return self._times(self.absolute, values)

    def adjoint(self, rows: Tensor) -> Tensor:
        return self._times(self.transpose, rows)

    def pick(self, index: Tensor) -> Tensor | None:
        out = self.values.new_zeros(len(index), self.matrix.shape[1])
        return out.scatter_add(1, self.entries[index], self.values[index])

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        return self.entries[index], self.values[index]

    def _times(self, matrix: Tensor, values: Tensor) -> Tensor:
        flat = values.reshape(-1, values.shape[-1])
        product = torch.sparse.mm(matrix, flat.T).T
        return product.reshape(*values.shape[:-1], matrix.shape[0])


Operator = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class _Conv:
    """A convolution by torch's own operators.

    Attributes:
        strided: the weight, for steps of more than one laid out with channels last, with
            which the transpose to a large image takes half the time.
        before, missing: zeros on both sides of each axis, and how many fewer are read at its
            end than that; where ``pads`` is not empty, it says what is added instead, in
            the order of ``torch.nn.functional.pad``, negative for what is cut off.
    """

    shape: Conv
    weight: Tensor
    absolute: Tensor
    strided: Tensor
    correlation: Operator
    transpose: Operator
    before: tuple[int, ...]
    missing: tuple[int, ...]
    pads: tuple[int, ...]

    def forward(self, values: Tensor) -> Tensor:
        return self._apply(values, self.weight, self.shape.transposed)

    def magnitude(self, values: Tensor) -> Tensor:
        return self._apply(values, self.absolute, self.shape.transposed)

    def adjoint(self, rows: Tensor) -> Tensor:
        weight = self.weight if self.shape.transposed else self.strided
        return self._apply(rows, weight, not self.shape.transposed)

    def pick(self, index: Tensor) -> Tensor | None:
        return None

    def spread(self, index: Tensor) -> tuple[Tensor, Tensor] | None:
        return None

    def _apply(self, values: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        shape = self.shape
        source = shape.out_shape if transposed else shape.in_shape
        image = values.reshape(-1, *source[1:])
        before, missing, steps = self.before, self.missing, shape.strides
        if transposed:
            out = self.transpose(
                image, weight, None, steps, before, missing, shape.groups, shape.dilations
            )
            out = functional.pad(out, [-pad for pad in self.pads]) if self.pads else out
        else:
            image = functional.pad(image, self.pads) if self.pads else image
            out = self.correlation(
                image, weight, None, steps, before, shape.dilations, shape.groups
            )
        return out.reshape(*values.shape[:-1], -1)


class Weights:
    """Coefficients on a device, each moved there once, with their absolute values."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._known: dict[int, tuple[Enclosure, Tensor, Tensor]] = {}

    def moved(self, values: npt.NDArray[np.float64]) -> Tensor:
        """A new tensor."""
        return torch.tensor(values, device=self.device, dtype=self.dtype)

    def of(self, source: Enclosure) -> tuple[Tensor, Tensor]:
        """Coefficients and their absolute values."""
        if id(source) not in self._known:  # it is kept too, so that its id stays its own
            weight = self.moved(source.value)
            self._known[id(source)] = (source, weight, weight.abs())
        return self._known[id(source)][1:]


def compile_map(source: linear.LinearMap, weights: Weights) -> TorchMap:
    """The torch form of a map.

    Raises:
        ModelError: the map has no torch form.
    """
    if isinstance(source, linear.Identity):
        return _Identity()
    device = weights.device
    if isinstance(source, linear.Gather):
        return _selection(source.index, source.source_size, False, device)
    if isinstance(source, linear.Scatter):
        return _selection(source.index, source.target_size, True, device)
    if isinstance(source, linear.Scale | linear.MatMul | Conv):
        weight, absolute = weights.of(source.weight)
        if isinstance(source, linear.Scale):
            return _Scale(weight, absolute)
        if isinstance(source, linear.MatMul):
            return _MatMul(weight, absolute, weight.T.contiguous(), source.rows)
        return _conv(source, weight, absolute)
    if isinstance(source, linear.Sparse):
        return _sparse(source, device, weights.dtype)
    raise ModelError(f"the search has no form of the linear map {type(source).__name__}")


def _sparse(source: linear.Sparse, device: str, dtype: torch.dtype) -> _Sparse:
    weight = torch.tensor(source.weight.value, device=device, dtype=dtype)
    shape = (source.target_size, source.source_size)

    def matrix(values: Tensor) -> Tensor:
        places = torch.tensor(np.stack([source.target, source.source]), device=device)
        return torch.sparse_coo_tensor(places, values, shape, check_invariants=True).coalesce()

    order = np.argsort(source.target, kind="stable")
    target = source.target[order]
    column = np.arange(len(target)) - np.searchsorted(target, target)
    entries = np.zeros((shape[0], source.fan_in), dtype=np.int64)
    values = np.zeros(entries.shape)
    entries[target, column] = source.source[order]
    values[target, column] = source.weight.value[order]
    plain = matrix(weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse")  # the layout is called a beta feature
        rows = [m.to_sparse_csr() for m in (plain, matrix(weight.abs()), plain.T.coalesce())]
    return _Sparse(
        *rows,
        torch.tensor(entries, device=device),
        torch.tensor(values, device=device, dtype=dtype),
    )


def _selection(index: np.ndarray, size: int, transposed: bool, device: str) -> _Selection:
    kept = index[index >= 0]
    inverse = None
    if kept.size == np.unique(kept).size:
        where = np.full(size, index.size, dtype=np.int64)
        where[kept] = np.flatnonzero(index >= 0)
        inverse = torch.tensor(where, device=device)
    return _Selection(
        torch.tensor(np.where(index < 0, size, index), device=device),
        size,
        bool(kept.size == index.size),
        inverse,
        transposed,
    )


def _conv(source: Conv, weight: Tensor, absolute: Tensor) -> _Conv:
    spatial = len(source.strides)
    if spatial > 3:
        raise ModelError(f"the search has no convolution over {spatial} axes")
    correlation = (functional.conv1d, functional.conv2d, functional.conv3d)[spatial - 1]
    transpose = (
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    )[spatial - 1]
    ends = []
    for axis in range(spatial):
        size, before = source.in_shape[2 + axis], source.pads[axis]
        reach = (source.weight.shape[2 + axis] - 1) * source.dilations[axis] + 1
        covered = (source.out_shape[2 + axis] - 1) * source.strides[axis] + reach
        ends.append((before, covered - size - before))
    pads: tuple[int, ...] = ()
    if not all(0 <= a - b < s <= s + b for (a, b), s in zip(ends, source.strides, strict=True)):
        pads = tuple(end for pair in reversed(ends) for end in pair)
        ends = [(0, 0)] * spatial
    before, missing = (tuple(side) for side in zip(*((a, a - b) for a, b in ends), strict=True))
    strided = weight
    if spatial == 2 and max(source.strides) > 1:
        strided = weight.contiguous(memory_format=torch.channels_last)
    return _Conv(source, weight, absolute, strided, correlation, transpose, before, missing, pads)
