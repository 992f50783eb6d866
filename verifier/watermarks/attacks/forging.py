"""Forging: claiming a mark that nobody embedded, by a key made after the model is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.watermarks.key import BoolArray, Key
from specs.watermarks.mark import LinearMark, LinearSystem
from verifier.watermarks.parameters import parameters


@dataclass(frozen=True)
class Forged:
    """The best of many keys.

    Attributes:
        key: it.
        matches: of its mark.
        tried: keys; a false-claim probability has to be multiplied by their number.
    """

    key: Key
    matches: int
    tried: int


def searched(content: bytes, mark: Callable[[Key], LinearMark], seed: bytes, tries: int) -> Forged:
    """The key, of many, whose mark a model matches best.

    Args:
        content: the model file.
        mark: the scheme, by key.
        seed: of the keys.
        tries: how many.

    Raises:
        InputError: no tries, or the model cannot carry the mark.
    """
    if tries < 1:
        raise InputError("a search for a key needs tries")
    stored = parameters(content)
    source = Key(seed)
    best: Forged | None = None
    for number in range(tries):
        key = Key(source.stream(f"forged {number}", 32))
        made = mark(key)
        matches = read_matches(stored[made.tensor].astype(np.float64), made)
        if best is None or matches > best.matches:
            best = Forged(key, matches, tries)
    assert best is not None
    return best


def shaped(system: LinearSystem, entries: FloatArray) -> FloatArray:
    """Rows that a model matches in every bit: those of a system, with signs as they are needed.

    It shows what a key proves that is not derived from a committed seed: nothing.  No seed gives
    these rows, so no claim can state them.

    Args:
        system: forms and bits.
        entries: ``(m,)`` of the tensor, at the system's positions.
    """
    forms = system.rows @ entries
    return np.where(((forms > 0) == system.bits)[:, None], 1.0, -1.0) * system.rows


def read_matches(values: FloatArray, mark: LinearMark) -> int:
    """How many bits match, in float64: for a search; claims are decided exactly."""
    system = mark.system(values.shape)
    return int(np.sum(bits_of(system, values.reshape(-1)[system.positions]) == system.bits))


def bits_of(system: LinearSystem, entries: FloatArray) -> BoolArray:
    """``(n,)`` the bits that entries ``(m,)`` give, in float64."""
    return np.asarray(system.rows @ entries > 0)
