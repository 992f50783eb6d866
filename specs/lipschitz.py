"""Questions about Lipschitz constants on a box: ``docs/probability.md`` describes the file.

[models], [region]    as in ``specs/question.py``; one box
[lipschitz]
at_most      a number                    the constant is at most this
norm         "linf", "l2" or "l1"        of inputs; "linf" where it is left out
output       an integer                  of this output; or
label        an integer                  of the margin, output ``label`` less
target       an integer                  output ``target``; or, without any, of each output

A function has the constant ``L`` on the box if ``|f(x) - f(x')| <= L |x - x'|`` for all ``x`` and
``x'`` of it.  Boxes are convex, so this holds if the dual norm of the gradient is at most ``L`` at
almost every input (``specs/derivative.py``): the sum of its entries' magnitudes for "linf", the
Euclidean norm for "l2", the largest magnitude for "l1".  Inputs whose sides are points do not vary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from specs.derivative import Derivative
from specs.document import Document, read_document
from specs.enclosure import Enclosure, FloatArray
from specs.errors import InputError
from specs.linear import Gather, MatMul, Scale
from specs.network import Network, Term
from specs.numerals import numeral
from specs.onnx_reader import read_model
from specs.perturbation import REAL
from specs.probability import one_box
from specs.property import Case, Property, constraint
from specs.query import ModelFile, Query
from specs.question import check_question, only_model, stated_region

TABLE = "lipschitz"
NORMS = ("linf", "l2", "l1")

_KEYS: Mapping[str, tuple[type, ...]] = {
    "at_most": (int, Fraction),
    "norm": (str,),
    **dict.fromkeys(("output", "label", "target"), (int,)),
}


@dataclass(frozen=True, eq=False)
class LipschitzQuestion:
    """Has a network, on a box, at most this Lipschitz constant?

    Attributes:
        model: the file.
        network: that it holds.
        case: the box.
        norm: of inputs.
        rows: ``(k, outputs)``: of each function ``row . outputs`` the constant is asked for.
        at_most: the constant.
        what: the functions in words.
        title: how to call the question.
    """

    model: ModelFile
    network: Network
    case: Case
    norm: str
    rows: FloatArray
    at_most: Fraction
    what: str
    title: str

    @cached_property
    def query(self) -> Query:
        """A question about the derivative: nowhere in the box is its norm above ``at_most``.

        Its network has the given one's nodes and those of its derivative; see :func:`norms_of`.

        Raises:
            UnsupportedOperatorError: a derivative is not known.
        """
        network = self._norms.network
        bound = self.at_most**2 if self.norm == "l2" else self.at_most
        unsafe = tuple(
            (constraint({}, {k: Fraction(-1)}, bound, strict=True),)
            for k in range(network.output_size)
        )
        case = Case(self.case.lower, self.case.upper, unsafe)
        stated = Property(network.input_size, network.output_size, (case,))
        return Query(network, stated, (self.model,), stated.digest, title=self.title)

    @cached_property
    def _norms(self) -> Norms:
        return norms_of(self.network, self.rows, self.norm, self.free)

    @property
    def stops(self) -> tuple[int, ...]:
        """For each output of the query's network the tensor of the gradient that it is about."""
        return self._norms.gradients

    @property
    def free(self) -> tuple[int, ...]:
        """The inputs that vary."""
        ends = zip(self.case.lower, self.case.upper, strict=True)
        return tuple(i for i, (low, high) in enumerate(ends) if low < high)

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        box = [f"{low} {high}" for low, high in zip(self.case.lower, self.case.upper, strict=True)]
        rows = [" ".join(map(str, row)) for row in self.rows.tolist()]
        parts = ["farkas-lipschitz-question-1", self.model.digest, self.norm, str(self.at_most)]
        return hashlib.sha256("\n".join([*parts, *rows, "box", *box]).encode()).hexdigest()

    def theorem(self) -> list[str]:
        """What is claimed, in words."""
        return [
            f"claimed, to be proved: on the box, {self.what} has at most the Lipschitz constant "
            f"{numeral(self.at_most)}: |f(x) - f(x')| <= {numeral(self.at_most)} |x - x'| for all "
            f"x and x' of it, in the norm {self.norm} of inputs"
        ]

    def assumed(self) -> list[str]:
        """What it rests on, in sentences."""
        return ["the network is the real-valued function with exactly the stored weights"]


@dataclass(frozen=True, eq=False)
class Norms:
    """A network whose outputs say how large gradients are.

    Attributes:
        gradients: for each output the tensor of the gradient, a pre-activation.
    """

    network: Network
    gradients: tuple[int, ...]


def norms_of(network: Network, rows: FloatArray, norm: str, free: Sequence[int]) -> Norms:
    """Dual norms of gradients, one for each row; ``norm`` is that of inputs.

    For "l2" they are squares of norms; for "l1" the positive and the negative parts of all
    entries, of which the largest is the norm.

    Args:
        free: inputs that vary; others do not count.

    Raises:
        UnsupportedOperatorError: a derivative is not known.
    """
    made = Derivative(network)
    outputs: list[int] = []
    gradients: list[int] = []
    count = len(free)
    for number, row in enumerate(rows):
        name = f"row{number}"
        whole = made.gradient(row, name)
        chosen = Gather(np.array(free, dtype=np.int64), network.input_size)
        entries = made.add(f"{name}/free", count, Term(whole, chosen))
        total = MatMul(Enclosure(np.ones((count, 1))))
        if norm == "l2":
            squares = made.apply(f"{name}/squares", entries, "power", 2.0)
            outputs.append(made.add(f"{name}/norm", 1, Term(squares, total)))
            gradients.append(entries)
            continue
        minus = Scale(Enclosure(np.full(count, -1.0)))
        negated = made.add(f"{name}/minus", count, Term(entries, minus))
        parts = [
            made.apply(f"{name}/{side}", source, "relu")
            for side, source in (("above", entries), ("below", negated))
        ]
        if norm == "l1":
            outputs += parts
            gradients += [entries] * (2 * count)
            continue
        outputs.append(made.add(f"{name}/norm", 1, *(Term(part, total) for part in parts)))
        gradients.append(entries)
    return Norms(Network(tuple(made.nodes), tuple(outputs)), tuple(gradients))


def load_lipschitz_question(path: str | Path) -> LipschitzQuestion:
    """The question that a file states.

    Raises:
        InputError: the file is malformed, or something it names is not there or does not fit.
    """
    document = read_document(Path(path))
    check_question(document, TABLE)
    table = document.table(TABLE)
    for key, value in table.items():
        document.check(TABLE, key, value, _KEYS)
    if document.tables.get("semantics", REAL) != REAL:
        raise document.error("", "semantics", f"[{TABLE}] is about real semantics only")
    if "statement" in document.tables:
        raise document.error("statement", "", f"[{TABLE}] takes the place of [statement]")
    if "at_most" not in table or table["at_most"] < 0:
        raise document.error(TABLE, "at_most", f"[{TABLE}] needs 'at_most', a constant from 0 on")
    norm = table.get("norm", NORMS[0])
    if norm not in NORMS:
        raise document.error(TABLE, "norm", f"norm '{norm:.40}' is none of {', '.join(NORMS)}")
    network, model = read_model(only_model(document))
    regions = stated_region(document, network)
    try:
        stated = one_box(Property(network.input_size, network.output_size, regions))
    except InputError as error:
        raise document.error("region", "", f"[{TABLE}]: {error}") from None
    rows, what = _functions(document, table, network.output_size)
    title = str(document.tables.get("title", document.source.name))
    case = replace(stated.cases[0], unsafe=())
    found = LipschitzQuestion(
        model, network, case, norm, rows, Fraction(table["at_most"]), what, title
    )
    if not found.free:
        raise document.error("region", "", "the box is a point: there is nothing to ask")
    return found


def _functions(
    document: Document, table: Mapping[str, Any], outputs: int
) -> tuple[FloatArray, str]:
    named = {key: table[key] for key in ("output", "label", "target") if key in table}
    for key, index in named.items():
        if not 0 <= index < outputs:
            raise document.error(TABLE, key, f"'{key}' is {index}; outputs go to {outputs - 1}")
    if not named:
        return np.eye(outputs), "each output"
    rows = np.zeros((1, outputs))
    if set(named) == {"output"}:
        rows[0, named["output"]] = 1.0
        return rows, f"output {named['output']}"
    if set(named) != {"label", "target"} or named["label"] == named["target"]:
        raise document.error(
            TABLE, next(iter(named)), "say 'output', or 'label' and another 'target', or neither"
        )
    rows[0, named["label"]], rows[0, named["target"]] = 1.0, -1.0
    return rows, f"output {named['label']} less output {named['target']}"
