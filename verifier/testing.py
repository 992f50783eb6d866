"""Assertions for tests of models: what holds, with evidence that is kept.

A question that was asked before costs one check of its evidence; the folder of evidence is what
``farkas check FOLDER`` checks again.  Under pytest ``verifier/pytest_plugin.py`` says where the
folder is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs.errors import FarkasError, InputError

if TYPE_CHECKING:
    from specs.query import Query
    from verifier.certify.questions import Answered

FOLDER = ".farkas"
"""Where evidence is kept, unless it is said otherwise; in the current folder."""

TIMEOUT = 60.0
"""Seconds for a question."""

SHOWN = 6
"""Inputs of a counterexample that a message lists."""

Model = str | os.PathLike[str]


class ViolatedError(FarkasError, AssertionError):
    """A property is violated; the message shows where."""


class UndecidedError(FarkasError, AssertionError):
    """Neither a proof nor a counterexample was found in time."""


@dataclass
class Keeper:
    """Where evidence is kept, and what was asked.

    Attributes:
        folder: of the evidence.
        asked: what, the answer, and the files that bear it out.
    """

    folder: Path
    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)


_KEEPER: ContextVar[Keeper | None] = ContextVar("farkas keeper", default=None)


@contextmanager
def kept_in(keeper: Keeper) -> Iterator[None]:
    """Within, assertions keep their evidence there."""
    before = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(before)


def assert_robust(
    model: Model,
    x: Any,
    eps: Any,
    label: int | None = None,
    *,
    clip: tuple[Any, Any] | None = None,
    timeout: float = TIMEOUT,
    evidence: Model | None = None,
) -> None:
    """Every input within ``eps`` of ``x`` is classified as ``label``.

    Args:
        model: an ONNX file.
        x: one number per input, in any shape; exactly as given.
        eps: a number, or one per input (L-infinity ball or box).  A text such as ``"2/255"``
            or ``"0.1"`` means exactly that, a float the rational that it is.
        label: an output; ``None``: that which the model prefers at ``x``.
        clip: the least and the greatest value of inputs, each a number or one per input.
        timeout: seconds.
        evidence: the folder where question and evidence are kept.

    Raises:
        ViolatedError: some input there is classified otherwise.
        UndecidedError: neither was shown in time.
        InputError: the model cannot be read, or a number makes no sense.
    """
    __tracebackhide__ = True
    from specs.builders import robustness
    from specs.onnx_reader import read_model

    read = read_model(model)
    centre = _flat(x)
    chosen = _preferred(read[0], centre, model) if label is None else label
    low, high = (None, None) if clip is None else map(_exact, clip)
    query = robustness(read, centre, chosen, _exact(eps), lower=low, upper=high)
    words = f"{Path(model).name}: label {chosen} within {_words(eps)} of the input"
    _hold(query, words, timeout, evidence, centre)


def assert_holds(
    model: Model | Query,
    property: Model | None = None,
    *,
    timeout: float = TIMEOUT,
    evidence: Model | None = None,
) -> None:
    """The model has the property.

    Args:
        model: an ONNX file; or a query about one, such as :func:`farkas.output_range` builds,
            in real semantics.
        property: a file in VNN-LIB 1.0 or 2.0; of a query, nothing.
        timeout: seconds.
        evidence: the folder where question and evidence are kept.

    Raises:
        ViolatedError: it is violated.
        UndecidedError: neither was shown in time.
        InputError: a file cannot be read, or the query speaks of more than one model, of
            faults, or of float semantics.
    """
    __tracebackhide__ = True
    from specs.query import Query
    from specs.question import load_question

    if isinstance(model, Query):
        if property is not None:
            raise InputError("assert_holds: a query has its property already")
        _hold(model, model.title, timeout, evidence)
        return
    if property is None:
        raise InputError("assert_holds needs a model and a property, or a query")
    query = load_question(model, property)
    _hold(query, query.title, timeout, evidence, file=Path(property))


def _hold(
    query: Query,
    words: str,
    timeout: float,
    evidence: Model | None,
    centre: Sequence[Fraction] | None = None,
    file: Path | None = None,
) -> None:
    __tracebackhide__ = True
    from specs.source import read_source
    from specs.vnnlib_writer import vnnlib
    from verifier.certify.questions import Stated, ask
    from verifier.certify.section import Place
    from verifier.progress import Progress

    if len(query.models) != 1 or query.perturbations:
        raise InputError(f"{words}: assertions are about one model, in real semantics")
    keeper = _KEEPER.get() or Keeper(Path(FOLDER))
    folder = Path(evidence) if evidence is not None else keeper.folder
    text = vnnlib(query.property) if file is None else read_source(file)[0].text
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, folder, Progress(enabled=False), folder / "hints")
    answered = ask(place, query.models[0], Stated(text.encode()), timeout)
    keeper.asked.append((words, answered.answer, answered.evidence))
    if answered.answer == "unsat":
        return
    if answered.answer == "sat":
        raise ViolatedError("\n".join(_violated(query, words, answered, folder, centre)))
    raise UndecidedError(f"undecided: {words}\n  {answered.answer}: {answered.reason}")


def _violated(
    query: Query,
    words: str,
    answered: Answered,
    folder: Path,
    centre: Sequence[Fraction] | None,
) -> Iterator[str]:
    """What a message says of a counterexample."""
    from proofs.evaluate import evaluate
    from specs.errors import EvidenceError

    yield f"violated: {words}"
    if answered.witness is not None:
        point = answered.witness.point
        yield f"  counterexample: {'; '.join(_inputs(point, centre))}"
        try:
            outputs = [float(value) for value, _ in evaluate(query.network, point)]
        except EvidenceError as error:
            yield f"  outputs there: {error}"
        else:
            listed = "; ".join(f"y[{k}] = {value:.6g}" for k, value in enumerate(outputs[:SHOWN]))
            more = f"; and {len(outputs) - SHOWN} more" if len(outputs) > SHOWN else ""
            best = max(range(len(outputs)), key=outputs.__getitem__)
            yield f"  outputs there: {listed}{more}; the largest is y[{best}]"
    question, witness = (folder / name for name in answered.evidence[:2])
    yield f"  {answered.reason}"
    yield f"  check it: farkas check {question} {witness}"


def _inputs(point: Sequence[Fraction], centre: Sequence[Fraction] | None) -> Iterator[str]:
    """Inputs, most changed first where it is known what from."""
    order = list(range(len(point)))
    if centre is not None:
        order.sort(key=lambda k: -abs(point[k] - centre[k]))
    for k in order[:SHOWN]:
        was = "" if centre is None else f" (was {float(centre[k]):.6g})"
        yield f"x[{k}] = {float(point[k]):.6g}{was}"
    if len(order) > SHOWN:
        yield f"and {len(order) - SHOWN} more"


def _preferred(network: Any, centre: Sequence[Fraction], model: Model) -> int:
    from proofs.evaluate import evaluate

    if len(centre) != network.input_size:
        raise InputError(f"{model}: {len(centre)} numbers for {network.input_size} inputs")
    outputs = evaluate(network, centre)
    best = max(range(len(outputs)), key=lambda k: outputs[k][0])
    value, radius = outputs[best]
    if any(
        other + error >= value - radius for k, (other, error) in enumerate(outputs) if k != best
    ):
        raise InputError(f"{model}: no output exceeds every other at the input; say a label")
    return best


def _flat(x: Any) -> list[Fraction]:
    """Numbers in any shape, flat and exact."""
    import numpy as np

    try:
        values = np.asarray(x.detach().cpu().numpy() if hasattr(x, "detach") else x)
    except ValueError as error:
        raise InputError(f"no array of numbers: {error}") from None
    return [_number(value) for value in values.ravel().tolist()]


def _exact(value: Any) -> Any:
    """A number, or numbers in any shape."""
    if isinstance(value, str | int | float | Fraction):
        return _number(value)
    found = _flat(value)
    return found[0] if len(found) == 1 else found


def _number(value: Any) -> Fraction:
    try:
        return Fraction(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        raise InputError(f"{value!r} is no finite number") from None


def _words(eps: Any) -> str:
    return str(eps) if isinstance(eps, str | int | float | Fraction) else "a box"
