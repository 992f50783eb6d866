"""Witnesses: exact rational points at which a property is violated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from proofs.evaluate import Value, evaluate
from specs.errors import EvidenceError, QuestionError
from specs.faults.exact import WordFault, faulted_network
from specs.faults.struck import faults_of
from specs.network import Network
from specs.property import Constraint
from specs.query import Query

DENOMINATOR_LIMIT = 1 << 16


@dataclass(frozen=True)
class Witness:
    """A point of a case's region whose output satisfies one of its unsafe disjuncts.

    Attributes:
        question: digest of the query.
        case, disjunct: which ones.
        point: every input, exactly.
        faults: of a faulty network, which words are struck, and how.
    """

    question: str
    case: int
    disjunct: int
    point: tuple[Fraction, ...]
    faults: tuple[WordFault, ...] = ()


def objection(query: Query, witness: Witness) -> str | None:
    """Why a witness does not show a violation, or ``None`` if it does.

    Everything is decided exactly; a constraint that enclosures of the network's constants
    leave open counts as not satisfied, and so does one that some evaluation allowed by the
    query's perturbations leaves open.
    """
    if witness.question != query.digest:
        return "it was made for another question"
    cases = query.property.cases
    if not 0 <= witness.case < len(cases):
        return f"the property has no case {witness.case}"
    case, x = cases[witness.case], witness.point
    if not 0 <= witness.disjunct < len(case.unsafe):
        return f"case {witness.case} has no disjunct {witness.disjunct}"
    if len(x) != query.network.input_size:
        return f"it has {len(x)} inputs, the network {query.network.input_size}"
    common = 1  # evaluation takes time and memory by its length, at every neuron
    for value in x:
        common = math.lcm(common, value.denominator)
        if common.bit_length() > DENOMINATOR_LIMIT:
            return f"its common denominator has more than {DENOMINATOR_LIMIT} bits"
    for i, value in enumerate(x):
        low, high = case.lower[i], case.upper[i]
        if value < low or value > high:
            return f"input {i} = {_shown(value)} lies outside [{_shown(low)}, {_shown(high)}]"
        if (i in case.strict_lower and value == low) or (i in case.strict_upper and value == high):
            return f"input {i} lies on a bound that is strict"
    for number, constraint in enumerate(case.constraints):
        if not constraint.holds(x, ()):
            return f"constraint {number} of the region is not satisfied"
    if query.rounding is not None:
        for i, value in enumerate(x):
            if not query.rounding.holds(value):
                return f"input {i} = {_shown(value)} is no number of {query.rounding.name}"
    try:
        y = evaluate(_network(query, witness), x)
    except (EvidenceError, QuestionError) as error:
        return str(error)
    for number, constraint in enumerate(case.unsafe[witness.disjunct]):
        value = _largest(constraint, x, y)
        if value > 0 or (constraint.strict and value == 0):
            return f"constraint {number} of the unsafe set is not satisfied: {_shown(value)} > 0"
    return None


def _network(query: Query, witness: Witness) -> Network:
    """The network that runs: the query's, or the one with exactly the faults of the witness.

    Raises:
        QuestionError: these faults are not allowed.
    """
    faults = faults_of(query)
    if faults is not None:
        return faulted_network(faults, witness.faults)
    if witness.faults:
        raise QuestionError("it names faults, and the question allows none")
    return query.network


def _shown(value: Fraction) -> str:
    try:
        return f"{float(value):.17g}"
    except OverflowError:
        return "a number beyond the range of floats"


def _largest(constraint: Constraint, x: tuple[Fraction, ...], y: list[Value]) -> Fraction:
    """The largest left-hand side over the enclosures of the outputs."""
    total = constraint.constant
    for i, coefficient in constraint.inputs:
        total += coefficient * x[i]
    for j, coefficient in constraint.outputs:
        centre, radius = y[j]
        total += coefficient * centre + abs(coefficient) * radius
    return total
