"""Open domains of a search in growing columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Pool:
    """Rows of named columns with a value each; the rows of least value come out first.

    A column is a tensor whose first axis counts rows; what the columns mean is up to the
    search that owns the pool.

    Args:
        byte_limit: from which on rows of greatest value come out first, to go deep.
        device_bytes: from which on the columns are kept on the host.
    """

    def __init__(self, byte_limit: float, device_bytes: float = float("inf")) -> None:
        self._byte_limit, self._device_bytes = byte_limit, device_bytes
        self._devices: dict[str, torch.device] = {}
        self._columns: dict[str, Tensor] = {}
        self._value = torch.zeros(0, dtype=torch.float64)
        self._free = torch.zeros(0, dtype=torch.long)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def worst(self) -> float:
        """The least value; infinite when empty."""
        return float(self._value.min()) if self._count else float("inf")

    def add(self, value: Tensor, **columns: Tensor) -> None:
        """Add rows: ``value (k,)`` and every column with ``k`` rows."""
        if not self._columns:
            self._columns = {name: column[:0].clone() for name, column in columns.items()}
            self._devices = {name: column.device for name, column in columns.items()}
        count = len(value)
        if len(self._free) < count:
            self._grow(max(2 * len(self._value), len(self._value) + count - len(self._free)))
        slots, self._free = self._free[:count], self._free[count:]
        # An infinite value marks a free slot; a leaf taken back may have one.
        self._value[slots] = value.to(self._value).clamp(max=torch.finfo(self._value.dtype).max)
        for name, column in columns.items():
            kept = self._columns[name]
            kept[slots.to(kept.device)] = column.to(kept.device)
        self._count += count

    def take(self, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Remove up to ``count`` rows, of least value while memory lasts, else of greatest."""
        count = min(count, self._count)
        crowded = self._bytes() > self._byte_limit
        if crowded:
            hidden = torch.where(self._value.isposinf(), -self._value, self._value)
            slots = hidden.topk(count).indices
        else:
            slots = self._value.topk(count, largest=False).indices
        taken = {
            name: column[slots.to(column.device)].to(self._devices[name])
            for name, column in self._columns.items()
        }
        value = self._value[slots].clone()
        self._value[slots] = float("inf")
        self._free = torch.cat([slots, self._free])
        self._count -= count
        return value, taken

    def column(self, name: str) -> Tensor:
        """A column of all rows, in no particular order."""
        kept = self._columns[name]
        return kept[(~self._value.isposinf()).to(kept.device)]

    def _bytes(self) -> float:
        used = self._count / max(1, len(self._value))
        return used * sum(c.numel() * c.element_size() for c in self._columns.values())

    def _grow(self, capacity: int) -> None:
        added = capacity - len(self._value)
        fresh = torch.arange(len(self._value), capacity)
        self._free = torch.cat([self._free, fresh])
        self._value = torch.cat([self._value, self._value.new_full((added,), float("inf"))])
        row = sum(math.prod(c.shape[1:]) * c.element_size() for c in self._columns.values())
        for name, column in self._columns.items():
            kept = column.cpu() if row * capacity > self._device_bytes else column
            self._columns[name] = torch.cat([kept, kept.new_zeros(added, *kept.shape[1:])])
