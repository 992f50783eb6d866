"""Questions under integer semantics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from specs.errors import QuestionError
from specs.perturbation import INTEGER
from specs.property import Property
from specs.query import ModelFile, Query
from specs.question import load_integer_question, load_question, stated_semantics

NOT_MODELLED = (
    "integer products that saturate inside (uint8 times int8 on processors without VNNI)",
    "flushing of subnormal numbers to zero",
    "rounding other than to nearest",
    "inputs that are no finite float32 numbers",
)
"""What the semantics leaves out, in words."""


@dataclass(frozen=True, eq=False)
class IntegerQuestion:
    """Does a quantised model, computed bit by bit at float32 inputs, have a property?

    It is no :class:`specs.query.Query`, so that the kernel, whose rules speak of real
    numbers, cannot be asked to prove it.

    Attributes:
        query: the same model and property under real semantics.

    Raises:
        QuestionError: several models, or constraints that speak of inputs beyond their box.
    """

    query: Query

    def __post_init__(self) -> None:
        if len(self.query.models) != 1 or self.query.perturbations:
            raise QuestionError(f"{self.title}: integer semantics is for one model as it stands")
        for number, case in enumerate(self.query.property.cases):
            if case.constraints or any(c.inputs for d in case.unsafe for c in d):
                raise QuestionError(
                    f"{self.title}: case {number} has a constraint on inputs; under integer "
                    "semantics regions are boxes, and unsafe sets speak of outputs"
                )

    @property
    def title(self) -> str:
        """How to call the question in messages."""
        return self.query.title

    @property
    def property_digest(self) -> str:
        """As :class:`specs.query.Query`."""
        return self.query.property_digest

    @property
    def models(self) -> tuple[ModelFile, ...]:
        """The one model."""
        return self.query.models

    @property
    def semantics(self) -> str:
        """``"integer"``."""
        return INTEGER

    @property
    def not_modelled(self) -> tuple[str, ...]:
        """What the semantics leaves out, in words."""
        return NOT_MODELLED

    def semantics_in_words(self) -> list[str]:
        """For a person, as of other semantics."""
        covered = "float32 inputs; the stored operators as ONNX defines them, bit by bit"
        return [f"semantics: {INTEGER}: {covered}", *(f"not modelled: {w}" for w in NOT_MODELLED)]

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        parts = ["farkas-question-1", INTEGER, self.query.property_digest]
        parts += [model.digest for model in self.query.models]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def property(self) -> Property:
        """What must never happen."""
        return self.query.property


Question = Query | IntegerQuestion


def load(*paths: str | Path, semantics: str | None = None) -> Question:
    """The question that ``NET.onnx PROPERTY.vnnlib`` or ``QUESTION.toml`` states.

    Args:
        paths: the files.
        semantics: as for :func:`specs.question.load_question`, or ``"integer"``.

    Raises:
        InputError: as :func:`specs.question.load_question`, or the question has no integer
            semantics.
    """
    if semantics == INTEGER or (semantics is None and stated_semantics(*paths) == INTEGER):
        return IntegerQuestion(load_integer_question(*paths))
    return load_question(*paths, semantics=semantics)
