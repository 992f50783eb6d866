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
from specs.enclosure import FloatArray
from specs.errors import InputError
from specs.linear import Gather
from specs.network import Network, Term
from specs.numerals import numeral
from specs.onnx_reader import read_model
from specs.perturbation import REAL
from specs.probability import one_box
from specs.property import Case, Property
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
        """The network and the box, of which nothing is unsafe."""
        network = self.network
        stated = Property(network.input_size, network.output_size, (self.case,))
        return Query(network, stated, (self.model,), stated.digest, title=self.title)

    @cached_property
    def gradients(self) -> Gradients:
        """The functions' gradients, as a network.

        Raises:
            UnsupportedOperatorError: a derivative is not known.
        """
        return gradients_of(self.network, self.rows, self.free)

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
class Gradients:
    """A network that has another's nodes, and whose outputs are gradients.

    Attributes:
        network: an output tensor for each function, with an entry for each input that varies.
        gates: its products with derivatives of Relus, with the signs that these are made of.
    """

    network: Network
    gates: Mapping[int, int]


def gradients_of(network: Network, rows: FloatArray, free: Sequence[int]) -> Gradients:
    """Gradients of the functions ``row . outputs`` with respect to the inputs ``free``.

    Raises:
        UnsupportedOperatorError: a derivative is not known.
    """
    made = Derivative(network)
    chosen = Gather(np.array(free, dtype=np.int64), network.input_size)
    outputs = []
    for number, row in enumerate(rows):
        whole = made.gradient(row, f"row{number}")
        outputs.append(made.add(f"row{number}/free", len(free), Term(whole, chosen)))
    return Gradients(Network(tuple(made.nodes), tuple(outputs)), made.gates)


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
