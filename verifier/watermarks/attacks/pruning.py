"""Pruning: some parameters of tensors become 0, the smallest ones or random ones."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from specs.errors import InputError
from verifier.watermarks.parameters import Parameters, parameters, replaced

ORDERS = ("magnitude", "random")


def pruned(
    content: bytes, tensors: Sequence[str], share: Fraction, order: str, seed: int = 0
) -> bytes:
    """A model with a share of the entries of tensors, taken together, set to 0.

    Args:
        content: the model file.
        tensors: float32 initialisers.
        share: of their entries, rounded down to whole ones.
        order: ``magnitude`` (the smallest first, ties by place) or ``random``.
        seed: of the random order.

    Raises:
        InputError: a tensor is not there, or the share or the order make no sense.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of {share}")
    stored = _chosen(content, tensors)
    flat = np.concatenate([values.reshape(-1) for values in stored.values()])
    match order:
        case "magnitude":
            places = np.argsort(np.abs(flat), kind="stable")
        case "random":
            places = np.random.default_rng(seed).permutation(flat.size)
        case _:
            raise InputError(f"order '{order}' is none of {', '.join(ORDERS)}")
    flat[places[: int(share * flat.size)]] = 0
    return replaced(content, split(flat, stored))


def split(flat: np.ndarray[tuple[int], np.dtype[np.float32]], like: Parameters) -> Parameters:
    """Entries of several tensors, one after the other, as those tensors."""
    ends = np.cumsum([values.size for values in like.values()])[:-1]
    parts = np.split(flat, ends)
    return {
        name: part.reshape(values.shape)
        for (name, values), part in zip(like.items(), parts, strict=True)
    }


def _chosen(content: bytes, tensors: Sequence[str]) -> Parameters:
    stored = parameters(content)
    unknown = [name for name in tensors if name not in stored]
    if unknown or not tensors:
        raise InputError(f"no float32 initialiser is called '{unknown[0] if unknown else ''}'")
    return {name: stored[name] for name in tensors}
