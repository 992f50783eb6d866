"""How far a hardened network agrees with the original: on samples, in a runtime, on boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from specs.builders import ball
from specs.linear import IndexArray
from specs.network import Network
from verifier.faults.floats import Floats, Tensor, ends, joined, judged
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.harden.data import ROWS, Samples
from verifier.harden.surgery import SMOOTH, FloatArray, Restriction
from verifier.harden.theorem import (
    Answer,
    Box,
    Probe,
    Theorem,
    answer,
    beyond,
    proved,
    query_of,
    stated,
)
from verifier.needs import need
from verifier.progress import Progress

BoolArray = npt.NDArray[np.bool_]
NONE = -1
"""In place of a class where no output exceeds every other for certain."""


@dataclass(frozen=True)
class OnSamples:
    """Counts over samples, of the real-valued networks.

    Attributes:
        samples: how many.
        untouched: at which no restriction changes a value, for certain.
        changed: at which both predict a class for certain, and not the same.
        unsure: at which one of them predicts none for certain (a tie).
        right, right_before: at which the label is predicted; -1: no labels.
    """

    samples: int
    untouched: int
    changed: int
    unsure: int
    right: int = -1
    right_before: int = -1


@dataclass(frozen=True)
class InRuntime:
    """Counts over samples in onnxruntime, which evaluates in the model's own type.

    Attributes:
        samples: how many.
        identical: at which all outputs are bit for bit the same.
        changed: at which the greatest output is another.
    """

    samples: int
    identical: int
    changed: int


@dataclass(frozen=True, eq=False)
class OnBoxes:
    """Boxes around samples on which no restriction ever changes a value.

    Attributes:
        boxes: how many were asked about.
        proved: how many of them were proved.
        theorem: of all those at once; ``None`` where there are none.
    """

    boxes: int
    proved: tuple[int, ...]
    theorem: Theorem | None


def on_samples(
    original: Network,
    hardened: Network,
    probe: Probe,
    restrictions: Sequence[Restriction],
    samples: Samples,
) -> OnSamples:
    """Compare both networks at samples, in floats with rigorous bounds and then in rationals."""
    kept = untouched(probe, restrictions, samples.inputs)
    before = classes(original, samples.inputs)
    after = before.copy()
    touched = ~kept
    if touched.any():
        after[touched] = classes(hardened, samples.inputs[touched])
    sure = (before != NONE) & (after != NONE)
    labels = samples.labels
    return OnSamples(
        len(samples),
        int(kept.sum()),
        int((sure & (before != after)).sum()),
        int((~sure).sum()),
        -1 if labels is None else int((after == labels).sum()),
        -1 if labels is None else int((before == labels).sum()),
    )


def untouched(probe: Probe, restrictions: Sequence[Restriction], inputs: FloatArray) -> BoolArray:
    """``(N,)``: where every restricted tensor is within its bounds for certain.

    Smooth restrictions change every value.
    """
    if any(each.action == SMOOTH for each in restrictions):
        return np.zeros(len(inputs), dtype=np.bool_)
    sides: list[list[FloatArray]] = [[], []]
    for each, shape in zip(restrictions, probe.shapes, strict=True):
        lower = np.array(-np.inf) if each.lower is None else each.lower
        for side, bound in zip(sides, (lower, each.upper), strict=True):
            side.append(np.broadcast_to(bound, shape).reshape(-1))
    low, high = (np.concatenate(side) for side in sides)
    found = []
    for outputs in _outputs(probe.network, inputs):
        least, most = ends(outputs)
        found.append(np.all((least >= low) & (most <= high), axis=1))
    return np.concatenate(found) if found else np.zeros(0, dtype=np.bool_)


def classes(network: Network, inputs: FloatArray) -> IndexArray:
    """``(N,)``: the output that exceeds every other, for certain; ``NONE`` where none does."""
    found: list[int] = []
    for outputs in _outputs(network, inputs):
        best = np.argmax(outputs.value, axis=1)
        sure, _ = judged(outputs, best)
        for label, known in zip(best.tolist(), sure.tolist(), strict=True):
            found.append(label if known else _exact_class(network, inputs[len(found)]))
    return np.array(found, dtype=np.int64)


def _exact_class(network: Network, point: FloatArray) -> int:
    outputs = exact_outputs(network, point)
    best = max(range(len(outputs)), key=lambda k: outputs[k][0])
    return best if exact_verdict(outputs, best) is True else NONE


def _outputs(network: Network, inputs: FloatArray) -> Sequence[Tensor]:
    floats = Floats(network)
    found = []
    for start in range(0, len(inputs), ROWS):
        tensors = floats.run(inputs[start : start + ROWS], sharp=True)
        found.append(joined([tensors[number] for number in network.outputs]))
    return found


def in_runtime(before: bytes, after: bytes, inputs: FloatArray, network: Network) -> InRuntime:
    """Compare two models in onnxruntime (CPU), graph optimisations off.

    Args:
        before, after: model files.
        inputs: ``(N, size)``; they are rounded to the models' type.
        network: one of them, for the shapes of its inputs.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    need(("onnxruntime",), "comparing models in onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in (before, after)
    ]
    shapes = [network.nodes[number].shape for number in network.inputs]
    identical = changed = 0
    for point in inputs:
        first, second = (_run(session, point, shapes) for session in sessions)
        identical += first.tobytes() == second.tobytes()
        changed += int(np.argmax(first) != np.argmax(second))
    return InRuntime(len(inputs), identical, changed)


def _run(session: Any, point: FloatArray, shapes: Sequence[tuple[int, ...]]) -> Any:
    feed, start = {}, 0
    kinds = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
    for entry, shape in zip(session.get_inputs(), shapes, strict=True):
        size = int(np.prod(shape))
        part = point[start : start + size].reshape(shape)
        feed[entry.name] = part.astype(kinds.get(entry.type, np.float32))
        start += size
    return np.concatenate([np.asarray(part).reshape(-1) for part in session.run(None, feed)])


def on_boxes(
    probe: Probe,
    restrictions: Sequence[Restriction],
    samples: Samples,
    radius: Fraction,
    limits: Box | None,
    seconds: float,
    progress: Progress,
) -> OnBoxes:
    """Prove of boxes around samples that no restriction changes a value in them.

    Args:
        probe, restrictions: of the model.
        samples: the centres.
        radius: in every input.
        limits: what boxes are cut to.
        seconds: for one box; 0: the kernel alone.
        progress: where to report.
    """
    unsafe = beyond(probe, restrictions)
    low, high = (None, None) if limits is None else limits
    boxes: list[Box] = []
    found = []
    for number, centre in enumerate(samples.inputs):
        progress.count("boxes", number, len(samples))
        box = ball(probe.network.input_size, centre, radius, low, high)
        query = query_of(probe, stated(probe, unsafe, [box]))
        if answer(query, seconds).answer == "unsat":
            found.append(number)
            boxes.append(box)
    progress.clear()
    theorem: Theorem | Answer | None = None
    if boxes:
        remark = f"no restriction changes a value in {len(boxes)} boxes around samples {found}"
        rest = 2.0 * seconds * len(boxes)
        theorem = proved(probe, unsafe, boxes, [remark], rest)
    if not isinstance(theorem, Theorem):
        return OnBoxes(len(samples), (), None)
    return OnBoxes(len(samples), tuple(found), theorem)


def as_json(counts: OnSamples | InRuntime) -> dict[str, int]:
    """For a report."""
    return asdict(counts)
