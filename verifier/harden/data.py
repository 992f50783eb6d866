"""Samples and labels from files, and what activations do on samples."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specs.errors import InputError
from specs.linear import IndexArray
from verifier.attack_forward import NumpyEvaluator
from verifier.harden.surgery import FloatArray
from verifier.harden.theorem import Probe
from verifier.samples import flat_floats

ROWS = 256
"""Samples that are evaluated at a time."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs ``(N, size)``, and labels ``(N,)`` where there are some."""

    inputs: FloatArray
    labels: IndexArray | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def read_samples(path: Path, size: int) -> Samples:
    """The arrays ``inputs`` and ``labels`` of an ``.npz`` file.

    Args:
        path: of the file.
        size: numbers in one input.

    Raises:
        InputError: there is no such file, or its arrays do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise InputError(f"{path}: no .npz file of arrays ({error})") from None
    if "inputs" not in arrays:
        raise InputError(f"{path}: there is no array 'inputs'")
    given = arrays["inputs"]
    if given.ndim < 1 or given[:1].size != size:
        raise InputError(f"{path}: inputs of shape {given.shape}; the network has {size} inputs")
    try:
        inputs = flat_floats(given)
    except InputError as error:
        raise InputError(f"{path}, inputs: {error}") from None
    labels = arrays.get("labels")
    if labels is not None and (labels.shape != (len(inputs),) or labels.dtype.kind not in "iu"):
        raise InputError(f"{path}: labels must be {len(inputs)} integers")
    return Samples(inputs, None if labels is None else labels.astype(np.int64))


def profiled(
    probe: Probe, samples: Samples, percentile: float = 100.0
) -> tuple[FloatArray, FloatArray]:
    """The least and the greatest values of all outputs on samples, ``(n,)`` each.

    Args:
        probe: whose outputs.
        samples: of inputs.
        percentile: of the values of an entry; 100: the extremes.
    """
    evaluate = NumpyEvaluator(probe.network).evaluate
    parts = [evaluate(samples.inputs[i : i + ROWS])[0] for i in range(0, len(samples), ROWS)]
    values = np.concatenate(parts)
    return (
        np.asarray(np.percentile(values, 100.0 - percentile, axis=0)),
        np.asarray(np.percentile(values, percentile, axis=0)),
    )


def labels_of(samples: Samples, outputs: int) -> IndexArray:
    """The labels, which are numbers of outputs.

    Raises:
        InputError: there are none, or they are not.
    """
    labels = samples.labels
    if labels is None:
        raise InputError("labels are needed: an array 'labels' beside 'inputs'")
    if labels.size and not 0 <= labels.min() <= labels.max() < outputs:
        raise InputError(f"labels from {labels.min()} to {labels.max()} for {outputs} outputs")
    return labels
