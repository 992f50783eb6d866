"""Quantisation: parameters are replaced by the nearest numbers of a narrower format.

The file still stores float32: the numbers that the narrower words stand for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specs.errors import InputError
from specs.perturbation import FORMATS
from verifier.watermarks.parameters import parameters, replaced

FLOATS = ("bfloat16", "float16")
INTEGERS = tuple(f"int{bits}" for bits in range(2, 17))


@dataclass(frozen=True, eq=False)
class Quantised:
    """A quantised model.

    Attributes:
        content: the model file.
        steps: by tensor, the distance of neighbouring numbers of an integer format; no entry
            moved by more than half of it, and a rounding to float32.
    """

    content: bytes
    steps: dict[str, float]


def quantised(content: bytes, tensors: Sequence[str], name: str) -> Quantised:
    """A model whose tensors were stored in a narrower format and read back.

    Args:
        content: the model file.
        tensors: float32 initialisers.
        name: ``bfloat16``, ``float16``, or ``int2`` to ``int16``: symmetric, one scale a tensor,
            its largest magnitude over the largest integer.

    Raises:
        InputError: a tensor is not there, or there is no such format.
    """
    stored = parameters(content)
    changed, steps = {}, {}
    for tensor in tensors:
        if tensor not in stored:
            raise InputError(f"no float32 initialiser is called '{tensor}'")
        changed[tensor], step = rounded(stored[tensor], name)
        if step:
            steps[tensor] = step
    return Quantised(replaced(content, changed), steps)


def rounded(
    values: npt.NDArray[np.float32], name: str
) -> tuple[npt.NDArray[np.float32], float | None]:
    """The nearest numbers of a format, and the step of an integer format.

    Raises:
        InputError: there is no such format.
    """
    if name in FLOATS:
        near = FORMATS[name].rounded(values.astype(np.float64))
        return np.asarray(near, dtype=np.float32), None
    if name not in INTEGERS:
        raise InputError(f"format '{name}' is none of {', '.join((*FLOATS, *INTEGERS))}")
    largest = 2 ** (int(name[3:]) - 1) - 1
    top = float(np.abs(values).max(initial=0.0))
    step = float(np.float32(top / largest))
    if not step:
        return np.array(values), None
    words = np.clip(np.rint(values.astype(np.float64) / step), -largest, largest)
    return (words * step).astype(np.float32), step
