"""Where restrictions stand and what their bounds are: our ways, and the published ones.

The published schemes are written from their papers' descriptions, for comparison:

* Ranger (Chen, Li and Pattabiraman, DSN 2021): the least and greatest values profiled, per
  tensor, behind activations and the operators that follow them; clips.
* FT-ClipAct (Hoang, Hanif and Shafique, DATE 2020): 0 above a threshold per layer, found by an
  interval search for the largest area under accuracy against fault rate (``clipact``).
* FitAct (Ghavami et al., DATE 2022): ``max(0, x - x sigmoid(20 (x - b)))``, a trained bound for
  each neuron.
* ProAct (Mousavi et al., 2024): clips, one bound a layer, in the last layer one a neuron, trained
  layer by layer against the outputs of the unprotected network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from onnx import ModelProto

from specs.errors import InputError
from specs.faults.models import BitFaults
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from verifier.harden.certified import Ends, outward, rounded
from verifier.harden.clipact import Thresholds, searched
from verifier.harden.data import Samples, labels_of, profiled
from verifier.harden.surgery import (
    CLIP,
    PREFIX,
    SMOOTH,
    ZERO,
    FloatArray,
    Restriction,
    behind,
    dtype_of,
    element_kinds,
)
from verifier.harden.theorem import Probe
from verifier.harden.tuned import Training, accuracy, adjustable, trained, with_values
from verifier.progress import Progress

LAYER, NEURON = "layer", "neuron"
FOLLOWING = (
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Concat",
    "Add",
    "Reshape",
    "Flatten",
)
"""What Ranger restricts, too, where it stands behind an activation."""
SMALLEST = 1e-3
"""The least bound that a training starts from, relative to the largest of its tensor."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What is to be hardened.

    Attributes:
        content: of the model file.
        probe: it with the tensors to be restricted as outputs.
        relus: those of them that are results of Relus, which are never negative.
    """

    content: bytes
    probe: Probe
    relus: frozenset[str]

    @property
    def dtypes(self) -> list[npt.DTypeLike]:
        """Of the tensors."""
        kinds = element_kinds(ModelProto.FromString(self.content))
        return [dtype_of(kinds.get(name, 1)) for name in self.probe.tensors]

    @property
    def network(self) -> Network:
        """The model itself."""
        return read_model_bytes(self.content, None, "model")


def subject(content: bytes, probe: Probe) -> Subject:
    """A model and the tensors of a probe of it."""
    relus = frozenset(behind(content, ["Relu"])) & set(probe.tensors)
    return Subject(content, probe, relus)


def from_ends(
    given: Subject,
    ends: Ends,
    *,
    per: str,
    action: str,
    margin: float = 0.0,
    widen: bool = True,
    both: bool = False,
) -> list[Restriction]:
    """Restrictions to bounds of every entry.

    Args:
        given: the model.
        ends: lower and upper bounds of all outputs of its probe.
        per: ``"layer"``: the widest of a tensor's bounds are all of its entries'; or
            ``"neuron"``.
        action: ``"clip"`` or ``"zero"``.
        margin: see ``certified.outward``.
        widen: by the margin and a little more; otherwise only rounded, away from what they bound.
        both: lower bounds of Relus, too, which are at least 0 and do not need them.
    """
    found = []
    sides = zip(given.probe.split(ends.lower), given.probe.split(ends.upper), strict=True)
    for name, shape, dtype, (low, high) in zip(
        given.probe.tensors, given.probe.shapes, given.dtypes, sides, strict=True
    ):
        made = []
        for values, sign in ((low, -1.0), (high, 1.0)):
            bound = outward(values, sign, margin, dtype) if widen else rounded(values, sign, dtype)
            worst = bound.max() if sign > 0 else bound.min()
            made.append(np.array(worst) if per == LAYER else bound.reshape(shape))
        lower: FloatArray | None = made[0]
        upper = made[1]
        if name in given.relus:
            upper = np.maximum(upper, 0.0)
            lower = np.maximum(made[0], 0.0) if both else None
        found.append(Restriction(name, upper, lower, action))
    return found


def profile(given: Subject, samples: Samples, percentile: float = 100.0) -> Ends:
    """The least and greatest values on samples."""
    return Ends(*profiled(given.probe, samples, percentile))


def ranger(given: Subject, samples: Samples, percentile: float = 100.0) -> list[Restriction]:
    """Ranger's restrictions, behind all tensors of the probe."""
    ends = profile(given, samples, percentile)
    return from_ends(given, ends, per=LAYER, action=CLIP, widen=False, both=True)


def clipact(
    given: Subject,
    samples: Samples,
    faults: BitFaults,
    search: Thresholds,
    progress: Progress,
) -> list[Restriction]:
    """FT-ClipAct's thresholds."""
    start = _uppers(given, samples, LAYER, ZERO)
    made = searched(given.content, start, samples, faults, search, progress)
    return _rounded(given, made)


def learnt(
    given: Subject, samples: Samples, per: str, training: Training, progress: Progress
) -> list[Restriction]:
    """Upper bounds trained all at once, against the outputs of the network itself."""
    start = _uppers(given, samples, per, CLIP)
    return _trained(given, start, samples, [start], training, progress)


def fitact(
    given: Subject, samples: Samples, training: Training, progress: Progress
) -> list[Restriction]:
    """FitAct's smooth restrictions."""
    start = _uppers(given, samples, NEURON, SMOOTH)
    return _trained(given, start, samples, [start], training, progress, labelled=True)


def proact(
    given: Subject, samples: Samples, training: Training, progress: Progress
) -> list[Restriction]:
    """ProAct's restrictions."""
    start = _uppers(given, samples, LAYER, CLIP)
    start[-1:] = _uppers(given, samples, NEURON, CLIP)[-1:]
    groups = [[each] for each in start]
    return _trained(given, start, samples, groups, training, progress)


def _uppers(given: Subject, samples: Samples, per: str, action: str) -> list[Restriction]:
    """Upper bounds alone, as profiled, none of them too small to start a training from."""
    if unfit := [name for name in given.probe.tensors if name not in given.relus]:
        raise InputError(
            f"tensor '{unfit[0]}' is no result of a Relu; this scheme is made for these alone"
        )
    ends = profile(given, samples)
    parts = []
    for values in given.probe.split(ends.upper):
        largest = float(values.max(initial=0.0))
        parts.append(np.maximum(values, SMALLEST * (largest or 1.0)))
    raised = Ends(ends.lower, np.concatenate(parts))
    return from_ends(given, raised, per=per, action=action, widen=False)


def _trained(
    given: Subject,
    start: Sequence[Restriction],
    samples: Samples,
    groups: Sequence[Sequence[Restriction]],
    training: Training,
    progress: Progress,
    labelled: bool = False,
) -> list[Restriction]:
    """Train the bounds of groups, one group after the other."""
    original = given.network
    teacher = None if labelled else original
    right = 1.0
    if labelled:
        labels = labels_of(samples, original.output_size)
        right = accuracy(original, samples.inputs, labels)
    found = list(start)
    for group in groups:
        model = adjustable(given.content, found)
        names = [f"{PREFIX}{each.tensor}/upper" for each in group]
        least = right - training.loss
        bounds = trained(model, names, samples, teacher, least, training, progress)
        found = _rounded(given, with_values(found, bounds))
    return found


def _rounded(given: Subject, restrictions: Sequence[Restriction]) -> list[Restriction]:
    """Upper bounds as numbers of their tensors' types."""
    return [
        replace(each, upper=rounded(each.upper, 1.0, dtype))
        for each, dtype in zip(restrictions, given.dtypes, strict=True)
    ]


def entries(restrictions: Sequence[Restriction]) -> int:
    """How many numbers the bounds are."""
    return sum(math.prod(side.shape) for each in restrictions for side in each.sides.values())
