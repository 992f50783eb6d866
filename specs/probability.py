"""Questions about the probability of a violation: ``docs/probability.md`` describes the file.

[models], [region], [statement]    as in ``specs/question.py``; they state one box
[probability]
distribution   "uniform" or "normal"           of each input on its side of the box, independently
mean           a number, or one per input      "normal": of the normal before it is cut at the box
deviation      a number, or one per input      "normal": its standard deviation
at_most        a number                        P(unsafe) is at most this; and / or
at_least       a number                        P(unsafe) is at least this
confidence     a number                        the claim may rest on samples, with this confidence
samples        an integer                      how many; needed with confidence
seed           an integer                      0 where it is left out; with confidence
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

from specs.document import NUMBERS, Document, read_document
from specs.errors import QuestionError
from specs.numerals import numeral
from specs.onnx_reader import read_model
from specs.perturbation import REAL
from specs.property import Case, Constraint, Property
from specs.query import Query
from specs.question import check_question, only_model, stated_property

TABLE = "probability"
UNIFORM, NORMAL = "uniform", "normal"
MOST_SAMPLES = 10**8
SIDES = 32
"""Of a box, that are printed."""

_KEYS: Mapping[str, tuple[type, ...]] = {
    "distribution": (str,),
    "mean": NUMBERS,
    "deviation": NUMBERS,
    "at_most": (int, Fraction),
    "at_least": (int, Fraction),
    "confidence": (int, Fraction),
    "samples": (int,),
    "seed": (int,),
}


@dataclass(frozen=True)
class Distribution:
    """How inputs are distributed, each on its own, on its side of a box.

    Attributes:
        kind: ``"uniform"``, or ``"normal"``: a normal, cut at the side's ends.
        means, deviations: of normals before they are cut, one per input; else empty.
    """

    kind: str
    means: tuple[Fraction, ...] = ()
    deviations: tuple[Fraction, ...] = ()

    @property
    def text(self) -> str:
        """Canonical."""
        normals = zip(self.means, self.deviations, strict=True)
        return " ".join([self.kind, *(f"{mean},{deviation}" for mean, deviation in normals)])

    def in_words(self) -> str:
        """For people."""
        if self.kind == UNIFORM:
            return "every input is uniform on its side of the box"
        return (
            "every input is normal, cut at the ends of its side of the box, with "
            f"{_listed('mean', self.means)} and {_listed('standard deviation', self.deviations)}"
        )


@dataclass(frozen=True)
class Sampling:
    """What may be sampled where nothing is proved.

    Attributes:
        confidence: of the claim, as a whole.
        samples: how many are drawn.
        seed: of the draw, together with the question and the partition.
    """

    confidence: Fraction
    samples: int
    seed: int


@dataclass(frozen=True, eq=False)
class ProbabilityQuestion:
    """Does the probability of a violation lie where it is said to?

    Attributes:
        query: network and property; its property has one case, whose region is a box.
        distribution: of the inputs.
        at_most, at_least: what is claimed; one may be ``None``.
        sampling: ``None``: the claim is to be proved.
        title: how to call the question.
    """

    query: Query
    distribution: Distribution
    at_most: Fraction | None
    at_least: Fraction | None
    sampling: Sampling | None
    title: str

    @property
    def case(self) -> Case:
        """The box and the unsafe set."""
        return self.query.property.cases[0]

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        parts = ["farkas-probability-question-1", self.query.digest, self.distribution.text]
        parts += [str(self.at_most), str(self.at_least), repr(self.sampling)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @cached_property
    def draws(self) -> str:
        """What samples are drawn from beside the partition: all that is asked but the claim."""
        return "\n".join([self.query.digest, self.distribution.text, repr(self.sampling)])

    def theorem(self) -> list[str]:
        """What is claimed, in words."""
        ends = []
        if self.at_least is not None:
            ends.append(f"at least {numeral(self.at_least)}")
        if self.at_most is not None:
            ends.append(f"at most {numeral(self.at_most)}")
        what = f"the probability that an input of the box is unsafe is {' and '.join(ends)}"
        box = f"the box: {_sides(self.case)}"
        if self.sampling is None:
            return [f"claimed, to be proved: {what}", box]
        return [
            f"claimed, with confidence {numeral(self.sampling.confidence)}, resting on "
            f"{self.sampling.samples} samples where nothing is proved: {what}",
            box,
        ]

    def assumed(self) -> list[str]:
        """What it rests on, in sentences."""
        lines = [
            f"inputs are independent; {self.distribution.in_words()}",
            "the network is the real-valued function with exactly the stored weights",
            "bounds of inputs that every alternative of a property file states belong to the box: "
            "the probability is that on the box which is printed, and on no larger one",
        ]
        if self.sampling is not None:
            lines.append(
                "samples are independent and distributed as inputs are: they are drawn by "
                "SHAKE-256 from network, property, seed and partition; whoever tried several seeds "
                "or partitions and shows the best has less confidence than is stated"
            )
        return lines


def load_probability_question(path: str | Path) -> ProbabilityQuestion:
    """The question that a file states.

    Raises:
        InputError: the file is malformed, or something it names is not there or does not fit.
    """
    document = read_document(Path(path))
    check_question(document, TABLE)
    query = box_query(document, TABLE)
    table = document.table(TABLE)
    for key, value in table.items():
        document.check(TABLE, key, value, _KEYS)
    ends = {key: _share(document, table, key) for key in ("at_most", "at_least")}
    if ends["at_most"] is None and ends["at_least"] is None:
        raise document.error(TABLE, "", f"[{TABLE}] needs 'at_most' or 'at_least'")
    if None not in ends.values() and ends["at_least"] > ends["at_most"]:  # type: ignore[operator]
        raise document.error(TABLE, "at_least", "'at_least' is above 'at_most'")
    return ProbabilityQuestion(
        query,
        _distribution(document, table, query),
        ends["at_most"],
        ends["at_least"],
        _sampling(document, table),
        query.title,
    )


def box_query(document: Document, table: str) -> Query:
    """The query of a file that is about one box, in real semantics; ``table`` is another table.

    Cases with one and the same box become one case.

    Raises:
        InputError: the file states something else, or is malformed.
    """
    if document.tables.get("semantics", REAL) != REAL:
        raise document.error("", "semantics", f"[{table}] is about real semantics only")
    network, model = read_model(only_model(document))
    stated, digest = stated_property(document, network)
    title = document.tables.get("title", document.source.name)
    try:
        merged = one_box(stated)
    except QuestionError as error:
        raise document.error("region", "", f"[{table}]: {error}") from None
    return Query(network, merged, (model,), digest, title=str(title))


def one_box(stated: Property) -> Property:
    """A property with one case that says what several cases over one box say.

    Raises:
        QuestionError: there is no case, a region is no box, or there are several boxes.
    """
    if not stated.cases:
        raise QuestionError("the region is empty")
    first = stated.cases[0]
    for case in stated.cases:
        if case.constraints:
            raise QuestionError("the region must be a box, without constraints")
        if (tuple(case.lower), tuple(case.upper)) != (tuple(first.lower), tuple(first.upper)):
            raise QuestionError("the region must be one box; the property file states several")
    if any(low > high for low, high in zip(first.lower, first.upper, strict=True)):
        raise QuestionError("the region is empty")
    unsafe = tuple(disjunct for case in stated.cases for disjunct in case.unsafe)
    whole = Case(tuple(first.lower), tuple(first.upper), unsafe)
    return replace(stated, cases=(whole,))


def negated(constraint: Constraint) -> Constraint:
    """The constraint that holds exactly where another one does not."""
    return Constraint(
        tuple((i, -c) for i, c in constraint.inputs),
        tuple((j, -c) for j, c in constraint.outputs),
        -constraint.constant,
        not constraint.strict,
    )


def _distribution(document: Document, table: Mapping[str, Any], query: Query) -> Distribution:
    kind = table.get("distribution", UNIFORM)
    if kind not in (UNIFORM, NORMAL):
        raise document.error(
            TABLE, "distribution", f"distribution '{kind:.40}' is neither 'uniform' nor 'normal'"
        )
    if kind == UNIFORM:
        for key in ("mean", "deviation"):
            if key in table:
                raise document.error(TABLE, key, f"'{key}' is for distribution 'normal'")
        return Distribution(UNIFORM)
    size = query.network.input_size
    means = _per_input(document, table, "mean", size)
    deviations = _per_input(document, table, "deviation", size)
    if any(deviation <= 0 for deviation in deviations):
        raise document.error(TABLE, "deviation", "a deviation must be positive")
    return Distribution(NORMAL, means, deviations)


def _per_input(
    document: Document, table: Mapping[str, Any], key: str, size: int
) -> tuple[Fraction, ...]:
    if key not in table:
        raise document.error(TABLE, "distribution", f"distribution 'normal' needs '{key}'")
    value = table[key]
    listed = value if isinstance(value, list) else [value] * size
    if len(listed) != size:
        raise document.error(TABLE, key, f"'{key}' has {len(listed)} entries, not {size}")
    return tuple(Fraction(entry) for entry in listed)


def _sampling(document: Document, table: Mapping[str, Any]) -> Sampling | None:
    if "confidence" not in table:
        for key in ("samples", "seed"):
            if key in table:
                raise document.error(TABLE, key, f"'{key}' goes with 'confidence'")
        return None
    confidence = Fraction(table["confidence"])
    if not 0 < confidence < 1:
        raise document.error(TABLE, "confidence", "'confidence' must lie between 0 and 1")
    samples, seed = table.get("samples"), int(table.get("seed", 0))
    if samples is None or not 1 <= samples <= MOST_SAMPLES:
        raise document.error(
            TABLE, "samples", f"'confidence' needs 'samples', from 1 to {MOST_SAMPLES}"
        )
    return Sampling(confidence, int(samples), seed)


def _share(document: Document, table: Mapping[str, Any], key: str) -> Fraction | None:
    if key not in table:
        return None
    found = Fraction(table[key])
    if not 0 <= found <= 1:
        raise document.error(TABLE, key, f"'{key}' must be a probability, from 0 to 1")
    return found


def _sides(case: Case) -> str:
    """The sides of a box, in words."""
    ends = list(zip(case.lower, case.upper, strict=True))
    shown = [f"X_{i} from {numeral(a)} to {numeral(b)}" for i, (a, b) in enumerate(ends[:SIDES])]
    more = [f"and {len(ends) - SIDES} more inputs"] if len(ends) > SIDES else []
    return ", ".join(shown + more)


def _listed(name: str, values: Sequence[Fraction]) -> str:
    if len(set(values)) == 1:
        return f"{name} {numeral(values[0])}"
    return f"{name}s {', '.join(map(numeral, values))}"
