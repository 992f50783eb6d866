"""Questions under integer semantics."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from specs.errors import QuestionError
from specs.perturbation import INTEGER
from specs.query import Query
from specs.question import load_integer_question

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

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        parts = ["farkas-question-1", INTEGER, self.query.property_digest]
        parts += [model.digest for model in self.query.models]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load(*paths: str | Path) -> IntegerQuestion:
    """The question that ``NET.onnx PROPERTY.vnnlib`` or ``QUESTION.toml`` states.

    Raises:
        InputError: as :func:`specs.question.load_question`, or it has no integer semantics.
    """
    return IntegerQuestion(load_integer_question(*paths))
