"""Convolutions as linear maps: a matrix product over the windows of an image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from specs.enclosure import Enclosure
from specs.errors import ModelError
from specs.linear import Array, Coefficients, IndexArray, MatrixProduct, Uses, given


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution (cross-correlation) with zero padding, or its transpose.

    Attributes:
        weight: ``(out_channels, in_channels / groups, *kernel)``.
        in_shape: ``(batch, in_channels, *spatial)`` of the convolution.
        out_shape: ``(batch, out_channels, *spatial)`` of the convolution.
        strides, dilations: one per spatial axis.
        pads: zeros before the first entry of each spatial axis; how many follow the last
            one is fixed by ``out_shape`` (positions outside the image read as 0).
        transposed: the map is the transpose, from ``out_shape`` to ``in_shape``.
    """

    weight: Enclosure
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    transposed: bool = False

    def __post_init__(self) -> None:
        spatial = len(self.in_shape) - 2
        shape = self.weight.shape
        lengths = {len(self.out_shape) - 2, len(shape) - 2}
        lengths |= {len(self.strides), len(self.pads), len(self.dilations)}
        if spatial < 1 or lengths != {spatial}:
            raise ModelError("a convolution's shapes and attributes differ in their rank")
        channels = (self.in_shape[1], self.out_shape[1])
        if self.groups < 1 or any(c % self.groups for c in channels):
            raise ModelError("a convolution's channels are not divisible by its groups")
        if shape[:2] != (channels[1], channels[0] // self.groups):
            raise ModelError(f"convolution weight {shape} does not fit channels {channels}")
        if self.in_shape[0] != self.out_shape[0] or min(self.strides + self.dilations) < 1:
            raise ModelError("a convolution's batch, strides or dilations are invalid")
        if not np.moveaxis(self.weight.value, 1, -1).flags.c_contiguous:
            object.__setattr__(self, "weight", _laid(self.weight))

    @property
    def source_size(self) -> int:
        return math.prod(self.out_shape if self.transposed else self.in_shape)

    @property
    def target_size(self) -> int:
        return math.prod(self.in_shape if self.transposed else self.out_shape)

    @property
    def fan_in(self) -> int:
        return self._fan_out if self.transposed else self._fan_in

    @property
    def fan_out(self) -> int:
        return self._fan_in if self.transposed else self._fan_out

    @property
    def _fan_in(self) -> int:
        return math.prod(self.weight.shape[1:])

    @property
    def _fan_out(self) -> int:
        per_group = self.weight.shape[0] // self.groups
        return per_group * math.prod(self.weight.shape[2:])

    def forward(self, values: Array, weight: Array | None, product: MatrixProduct) -> Array:
        apply = self._correlate_adjoint if self.transposed else self._correlate
        return apply(values, given(weight), product)

    def adjoint(self, rows: Array, weight: Array | None, product: MatrixProduct) -> Array:
        apply = self._correlate if self.transposed else self._correlate_adjoint
        return apply(rows, given(weight), product)

    def entries(self, targets: IndexArray) -> Coefficients | None:
        return None

    def gradient(self, rows: Array, values: Array, product: MatrixProduct) -> Array:
        image, result = (rows, values) if self.transposed else (values, rows)
        batch, planes = len(values), self.in_shape[0]
        image = image.reshape(batch, planes, *self.in_shape[1:])
        result = result.reshape(batch, planes, *self.out_shape[1:])
        per_in, per_out = (shape[1] // self.groups for shape in (self.in_shape, self.out_shape))
        flat = np.zeros((batch, *self.weight.shape[:2], self._taps), dtype=rows.dtype)
        for number, source, target in self._windows:
            for group in range(self.groups):
                inward = slice(group * per_in, (group + 1) * per_in)
                outward = slice(group * per_out, (group + 1) * per_out)
                read = image[:, :, inward, *source].swapaxes(1, 2).reshape(batch, per_in, -1)
                made = result[:, :, outward, *target].swapaxes(1, 2).reshape(batch, per_out, -1)
                flat[:, outward, :, number] = product(made, np.swapaxes(read, 1, 2))
        return flat.reshape(batch, *self.weight.shape)

    def uses(self, positions: IndexArray) -> Uses:
        spatial = len(self.strides)
        coordinates = np.unravel_index(positions, self.weight.shape)
        group = coordinates[0] // (self.out_shape[1] // self.groups)
        channel = group * (self.in_shape[1] // self.groups) + coordinates[1]
        steps = np.indices((self.out_shape[0], *self.out_shape[2:])).reshape(1 + spatial, -1)
        inside = np.ones((positions.size, steps.shape[1]), dtype=np.bool_)
        read = [
            np.broadcast_to(steps[0], inside.shape),
            np.broadcast_to(channel[:, None], inside.shape),
        ]
        made = [read[0], np.broadcast_to(coordinates[0][:, None], inside.shape)]
        for axis in range(spatial):
            offset = coordinates[2 + axis] * self.dilations[axis] - self.pads[axis]
            place = steps[1 + axis] * self.strides[axis] + offset[:, None]
            inside &= (place >= 0) & (place < self.in_shape[2 + axis])
            read.append(place)
            made.append(np.broadcast_to(steps[1 + axis], inside.shape))
        which = np.nonzero(inside)[0]
        source = np.ravel_multi_index([part[inside] for part in read], self.in_shape)
        target = np.ravel_multi_index([part[inside] for part in made], self.out_shape)
        return (which, source, target) if self.transposed else (which, target, source)

    @property
    def _taps(self) -> int:
        return math.prod(self.weight.shape[2:])

    @cached_property
    def _windows(self) -> tuple[tuple[int, tuple[slice, ...], tuple[slice, ...]], ...]:
        """Per kernel offset: its number, and the slices of image and result it joins."""
        found = []
        kernel = self.weight.shape[2:]
        for number, offset in enumerate(itertools.product(*map(range, kernel))):
            image, result = [], []
            for axis, position in enumerate(offset):
                stride = self.strides[axis]
                first = position * self.dilations[axis] - self.pads[axis]
                low = max(0, -(first // stride))
                size = self.in_shape[2 + axis]
                high = min(self.out_shape[2 + axis], (size - 1 - first) // stride + 1)
                if high <= low:
                    break
                start = first + low * stride
                image.append(slice(start, first + (high - 1) * stride + 1, stride))
                result.append(slice(low, high))
            else:
                found.append((number, tuple(image), tuple(result)))
        return tuple(found)

    def _correlate(self, values: Array, weight: Array, product: MatrixProduct) -> Array:
        batch = len(values) * self.in_shape[0]
        image = np.moveaxis(values.reshape(batch, *self.in_shape[1:]), 1, -1)
        spatial = self.out_shape[2:]
        per_in = self.in_shape[1] // self.groups
        results = []
        for group, kernel in enumerate(self._kernels(weight)):
            part = image[..., group * per_in : (group + 1) * per_in]
            columns = np.zeros((batch, *spatial, len(kernel) // per_in, per_in), values.dtype)
            for number, source, target in self._windows:
                columns[:, *target, number] = part[:, *source]
            flat = product(columns.reshape(-1, len(kernel)), kernel)
            results.append(flat.reshape(batch, *spatial, -1))
        joined = results[0] if self.groups == 1 else np.concatenate(results, axis=-1)
        flat = np.ascontiguousarray(np.moveaxis(joined, -1, 1))
        return flat.reshape(len(values), math.prod(self.out_shape))

    def _correlate_adjoint(self, rows: Array, weight: Array, product: MatrixProduct) -> Array:
        # The batch is the last axis: what is added up stands in long runs in memory.
        batch = len(rows) * self.out_shape[0]
        spatial = self.out_shape[2:]
        per_in = self.in_shape[1] // self.groups
        per_out = self.out_shape[1] // self.groups
        image = rows.reshape(batch, self.out_shape[1], -1).transpose(1, 2, 0)
        image = np.ascontiguousarray(image)
        result = np.zeros((self.in_shape[1], *self.in_shape[2:], batch), dtype=rows.dtype)
        for group, kernel in enumerate(self._kernels(weight)):
            part = image[group * per_out : (group + 1) * per_out].reshape(per_out, -1)
            columns = product(kernel, part).reshape(-1, per_in, *spatial, batch)
            into = result[group * per_in : (group + 1) * per_in]
            for number, source, target in self._windows:
                into[:, *source] += columns[number][:, *target]
        flat = np.ascontiguousarray(np.moveaxis(result, -1, 0))
        return flat.reshape(len(rows), math.prod(self.in_shape))

    def _kernels(self, weight: Array) -> Iterator[Array]:
        """By group, the coefficients ``(taps * per_in, per_out)``; a view, see ``_laid``."""
        per_out = self.out_shape[1] // self.groups
        for group in range(self.groups):
            part = np.moveaxis(weight[group * per_out : (group + 1) * per_out], 1, -1)
            yield part.reshape(per_out, -1).T


def _laid(weight: Enclosure) -> Enclosure:
    """The same coefficients, those of one tap and result next to each other in memory."""

    def laid(values: Array) -> Array:
        out = np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)
        out.flags.writeable = False
        return out

    radius = None if weight.radius is None else laid(weight.radius)
    return Enclosure(laid(weight.value), radius)
