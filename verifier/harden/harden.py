"""From a model and a configuration to a hardened model, a theorem and a report."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from specs.errors import FarkasError, InputError
from specs.onnx_reader import read_model_bytes
from specs.query import ModelFile
from verifier.harden import schemes
from verifier.harden.agreement import OnBoxes, as_json, in_runtime, on_boxes, on_samples
from verifier.harden.certified import Ends, Unit, bounded, outward, tightened
from verifier.harden.config import Config
from verifier.harden.data import Samples, read_samples
from verifier.harden.schemes import LAYER, Subject
from verifier.harden.surgery import SMOOTH, FloatArray, Restriction, behind, produced, restricted
from verifier.harden.theorem import Answer, Box, Theorem, beyond, probe, proved
from verifier.progress import Progress

SLACK = 2.0**-24
"""What the kernel's bounds may be worse than the search's, relative to a tensor's largest."""
PROVING = 60.0
"""Seconds that the search has for the proof of bounds that the kernel alone does not prove."""

NOT_AGAIN = "smaller bounds were found one by one and not proved all at once; these are larger"


class NotProvedError(FarkasError):
    """Certified bounds were found, and no proof that they hold."""


@dataclass(frozen=True, eq=False)
class Hardened:
    """A hardened model.

    Attributes:
        content: of its file.
        restrictions: in the order of the graph.
        theorem: that no restriction changes a value on the domain; ``None``: it is not said.
        boxes: and in boxes around samples; ``None``: not asked for.
        report: for a file.
    """

    content: bytes
    restrictions: tuple[Restriction, ...]
    theorem: Theorem | None
    boxes: OnBoxes | None
    report: dict[str, Any]


def harden(model: ModelFile, config: Config, progress: Progress | None = None) -> Hardened:
    """Put the restrictions that a configuration describes into a model.

    Raises:
        InputError: model, configuration and data do not fit each other.
        NotProvedError: certified bounds that the kernel does not prove.
        MissingExtraError: a package of the verifier is not installed.
    """
    progress = progress or Progress(enabled=False)
    began = time.monotonic()
    content = model.content
    read = probe(content, _tensors(config, content), config.semantics)
    given = schemes.subject(content, read)
    size = read.network.input_size
    box = config.domain(size)
    data = None if config.data is None else read_samples(config.data, size)
    if data is not None and not len(data):
        raise InputError(f"{config.data}: there are no samples")
    test = None if config.agreement is None else read_samples(config.agreement.file, size)
    theorem, note = None, ""
    if config.certified:
        if box is None:
            raise InputError("certified bounds need a domain")
        restrictions, theorem, note = certified(given, box, data, config, progress)
    else:
        restrictions = _chosen(given, data, config, progress)
    restrictions = [replace(each, stored=config.stored) for each in restrictions]
    hardened = restricted(content, restrictions)
    report: dict[str, Any] = {
        "scheme": config.scheme or f"{config.bounds} {config.action} per {config.per}",
        "restrictions": [_in_report(each) for each in restrictions],
        "bounds": schemes.entries(restrictions),
        "stored": config.stored,
        "note": note,
        "theorem": None if theorem is None else _theorem_in_words(config, read.tensors),
    }
    boxes = None
    if test is not None and config.agreement is not None:
        boxes = _compare(given, hardened, restrictions, test, box, config, report, progress)
    report["seconds"] = time.monotonic() - began
    return Hardened(hardened, tuple(restrictions), theorem, boxes, report)


def certified(
    given: Subject, box: Box, data: Samples | None, config: Config, progress: Progress
) -> tuple[list[Restriction], Theorem, str]:
    """Restrictions that change nothing on a box, the proof of that, and what is to be noted.

    Args:
        given: the model.
        box: of inputs.
        data: values of activations on samples save attempts to tighten below them.
        config: action, per, margin and seconds.
        progress: where to report.

    Raises:
        NotProvedError: the kernel does not prove the bounds, and the search neither.
    """
    progress.stage("bounds of activations")
    ends, plain_ends = bounded(given.probe, box), bounded(given.probe, box, steps=0)
    plain = _restrictions(given, ends, config)
    candidates = [plain]
    if config.seconds > 0:
        deadline = time.monotonic() + config.seconds
        units = _units(given, ends, plain, data, config.per)
        found = tightened(given.probe, box, units, deadline, progress)
        upper = _flat(given, plain)
        for unit in found:
            upper[list(unit.outputs)] = unit.upper
        tight = schemes.from_ends(
            given,
            Ends(outward_all(given, ends.lower, config.margin), upper),
            per=config.per,
            action=config.action,
            widen=False,
        )
        candidates.insert(0, tight)
    reason = ""
    for number, restrictions in enumerate(candidates):
        progress.stage("proof of the bounds")
        unsafe = beyond(given.probe, restrictions)
        remark = _theorem_in_words(config, given.probe.tensors)
        seconds = PROVING if number == len(candidates) - 1 else max(PROVING, 2 * config.seconds)
        easy = _easy(given, restrictions, plain_ends)
        answer = proved(given.probe, unsafe, [box], [remark], seconds, easy)
        if isinstance(answer, Theorem):
            progress.clear()
            return restrictions, answer, NOT_AGAIN if number else ""
        reason = _why(answer)
    progress.clear()
    raise NotProvedError(f"the bounds could not be proved ({reason}); widen them: margin")


def _easy(given: Subject, restrictions: Sequence[Restriction], ends: Ends) -> list[bool]:
    """By conjunction of ``beyond``, whether bounds of default slopes refute it with some slack."""
    found: list[bool] = []
    parts = zip(given.probe.split(ends.lower), given.probe.split(ends.upper), strict=True)
    for each, shape, (low, high) in zip(restrictions, given.probe.shapes, parts, strict=True):
        slack = SLACK * max(np.abs(low).max(initial=0.0), np.abs(high).max(initial=0.0))
        upper = np.broadcast_to(each.upper, shape).reshape(-1) >= high + slack
        if each.lower is None:
            found += upper.tolist()
            continue
        lower = np.broadcast_to(each.lower, shape).reshape(-1) <= low - slack
        found += np.stack([lower, upper], axis=1).reshape(-1).tolist()
    return found


def _flat(given: Subject, restrictions: Sequence[Restriction]) -> FloatArray:
    """The upper bounds of all outputs of the probe, ``(n,)``."""
    parts = zip(restrictions, given.probe.shapes, strict=True)
    return np.concatenate([np.broadcast_to(e.upper, shape).reshape(-1) for e, shape in parts])


def outward_all(given: Subject, lower: FloatArray, margin: float) -> FloatArray:
    """Lower bounds of all outputs, widened tensor by tensor."""
    parts = zip(given.probe.split(lower), given.dtypes, strict=True)
    return np.concatenate([outward(part, -1.0, margin, dtype) for part, dtype in parts])


def _restrictions(given: Subject, ends: Ends, config: Config) -> list[Restriction]:
    return schemes.from_ends(
        given, ends, per=config.per, action=config.action, margin=config.margin
    )


def _units(
    given: Subject,
    ends: Ends,
    plain: Sequence[Restriction],
    data: Samples | None,
    per: str,
) -> list[Unit]:
    """What shares an upper bound, and the values that samples reach."""
    reached = np.minimum(ends.lower, ends.upper)
    if data is not None:
        reached = np.maximum(reached, schemes.profile(given, data).upper)
    reached = np.minimum(reached, ends.upper)
    found = []
    upper = _flat(given, plain)
    for start, stop in itertools.pairwise(given.probe.edges):
        step = stop - start if per == LAYER else 1
        for first in range(start, stop, step):
            own = range(first, first + step)
            found.append(Unit(own, float(upper[first]), float(reached[list(own)].max())))
    return found


def _chosen(
    given: Subject, data: Samples | None, config: Config, progress: Progress
) -> list[Restriction]:
    """Restrictions made from samples."""
    if data is None:
        raise InputError("there are no samples")
    match config.scheme or config.bounds:
        case "ranger":
            return schemes.ranger(given, data, config.percentile)
        case "ft-clipact":
            return schemes.clipact(given, data, config.faults, config.search, progress)
        case "fitact":
            return schemes.fitact(given, data, config.training, progress)
        case "proact":
            return schemes.proact(given, data, config.training, progress)
        case "profiled":
            ends = schemes.profile(given, data, config.percentile)
            return schemes.from_ends(given, ends, per=config.per, action=config.action, widen=False)
        case _:
            return schemes.learnt(given, data, config.per, config.training, progress)


def _tensors(config: Config, content: bytes) -> list[str]:
    """The tensors to be restricted, in the order of the graph."""
    if config.tensors is not None:
        named = frozenset(config.tensors)
        known = produced(content)
        if missing := sorted(named - set(known)):
            raise InputError(f"no operator computes a tensor '{missing[0]}'")
        return [name for name in known if name in named]
    following: tuple[str, ...] = ()
    if config.scheme == "ranger" and config.after is None:
        following = schemes.FOLLOWING
    operators = config.after or ("Relu",)
    found = behind(content, operators, following)
    if not found:
        names = " or ".join(operators)
        raise InputError(f"there is no {names} to restrict; name operators in after, or tensors")
    return found


def _compare(
    given: Subject,
    hardened: bytes,
    restrictions: Sequence[Restriction],
    test: Samples,
    box: Box | None,
    config: Config,
    report: dict[str, Any],
    progress: Progress,
) -> OnBoxes | None:
    """Fill in what the report says of agreement."""
    progress.stage("comparing predictions")
    again = read_model_bytes(hardened, None, "the hardened model")
    real = probe(given.content, given.probe.tensors)
    counts = on_samples(given.network, again, real, restrictions, test)
    runtime = in_runtime(given.content, hardened, test.inputs, given.network)
    report["agreement"] = {"real": as_json(counts), "onnxruntime": as_json(runtime)}
    wanted = config.agreement
    if wanted is None or not wanted.boxes:
        return None
    if any(each.action == SMOOTH for each in restrictions):
        report["agreement"]["boxes"] = "a smooth restriction changes every value"
        return None
    centres = Samples(test.inputs[: wanted.boxes])
    boxes = on_boxes(
        given.probe, restrictions, centres, wanted.radius, box, wanted.seconds, progress
    )
    report["agreement"]["boxes"] = {
        "boxes": boxes.boxes,
        "radius": str(wanted.radius),
        "proved": list(boxes.proved),
    }
    return boxes


def _theorem_in_words(config: Config, tensors: Sequence[str]) -> str:
    names = ", ".join(tensors)
    what = "in real arithmetic" if config.semantics == "real" else f"in {config.semantics}"
    return (
        f"for every input of the domain, {what}, no entry of {names} of the original model lies "
        "beyond its bound, so that the hardened model has the same outputs"
    )


def _why(answer: Answer) -> str:
    return f"{answer.answer}: {answer.reason}" if answer.reason else answer.answer


def _in_report(each: Restriction) -> dict[str, Any]:
    found: dict[str, Any] = {"tensor": each.tensor, "action": each.action}
    for side, values in each.sides.items():
        found[side] = {"count": values.size, "least": values.min(), "greatest": values.max()}
    return found
