"""What a check establishes, in words."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proofs.check import Checked
from specs.faults.exact import WordFault
from specs.faults.struck import WordFaults, faults_of
from specs.libraries import allowances
from specs.network import Linear, Univariate
from specs.perturbation import Rounding
from specs.query import Query

CORRECT = {"relu", "floor", "sign", "round", "sqrt", "reciprocal"}
"""Functions that are exact, or taken to be rounded correctly."""


def statement(query: Query) -> list[str]:
    """The question as lines of text: which network, which property, which semantics."""
    network = query.network
    models = [f"{m.path.name if m.path else 'built'} (sha256 {m.digest})" for m in query.models]
    linear = sum(isinstance(node, Linear) for node in network.nodes)
    vacuous = "; there is nothing to show" if not query.property.cases else ""
    return [
        *(f"model: {model}" for model in models),
        f"network: {network.input_size} inputs, {network.output_size} outputs, "
        f"{network.neurons} neurons, {linear} linear nodes",
        f"property: {len(query.property.cases)} cases, {number_of_unsafe_sets(query)} unsafe sets "
        f"(sha256 {query.property_digest}){vacuous}",
        *semantics_in_words(query),
        f"question: {query.digest}",
    ]


def number_of_unsafe_sets(query: Query) -> int:
    """Disjuncts of all cases."""
    return sum(len(case.unsafe) for case in query.property.cases)


def semantics_in_words(query: Query) -> list[str]:
    """What the network is evaluated in, and what is left out."""
    found, faults = query.rounding, faults_of(query)
    if faults is not None:
        return faults_in_words(faults)
    if found is None:
        return ["semantics: real, stored weights, no perturbation"]
    return [
        f"semantics: {found.name}: {found.covered}",
        f"parameters: stored ones, rounded to {found.name}; inputs: numbers of {found.name}",
        *(f"assumed of libraries: {line}" for line in _assumed(query, found)),
        *(f"not modelled: {what}" for what in found.not_modelled),
    ]


def faults_in_words(faults: WordFaults) -> list[str]:
    """Which faults an answer covers, and which it does not."""
    return [
        "semantics: real, the stored values of parameters, with faults",
        f"faults: {faults.model.text}",
        f"struck: {', '.join(faults.struck)}",
        *(f"not modelled: {what}" for what in faults.not_modelled),
    ]


def fault_in_words(fault: WordFault) -> str:
    """A word and what is wrong with it."""
    name = f"'{fault.tensor}'[{fault.entry}]"
    if fault.value is not None:
        return f"{name} = {fault.value}"
    return f"bits {', '.join(map(str, fault.bits))} of {name} inverted"


def _assumed(query: Query, format: Rounding) -> list[str]:
    """The allowances, where the network has functions that libraries approximate.

    All of them: an operator such as Softmax is computed from others than it is read as.
    """
    nodes = query.network.nodes
    used = {node.function for node in nodes if isinstance(node, Univariate)}
    return allowances(format) if used - CORRECT else []


def established(query: Query, checked: Checked) -> str:
    """The theorem that valid evidence proves, as a sentence; otherwise what is missing."""
    over = "over the reals"
    if faults_of(query) is not None:
        over = "over the reals and for every fault that is covered"
    if query.rounding is not None:
        over = f"in every evaluation in {query.semantics} that is covered"
    where = f"the regions of all {len(query.property.cases)} cases"
    if checked.verdict == "valid unsat":
        extra = ""
        if checked.vacuous:
            extra = f" (vacuous: the region of case {checked.vacuous[0]} is empty)"
            if len(checked.vacuous) > 1:
                extra = f" (vacuous in {len(checked.vacuous)} cases, whose regions are empty)"
        return f"proved: {over}, no input in {where} gives an output in its unsafe set{extra}"
    if checked.verdict == "valid sat":
        return f"refuted: {over}, {checked.reason}"
    return f"nothing is established: {checked.reason}"


def made_for(digest: str, evidence: Any) -> str:
    """Whether evidence names a question, as a sentence."""
    made = "this" if evidence.question == digest else "ANOTHER"
    return f"The evidence was made for {made} question; farkas check judges it."


def near(value: Fraction) -> str:
    """The nearest float of a rational, in words where there is none."""
    try:
        return repr(float(value))
    except OverflowError:
        return "beyond the range of floats"
