"""A question in the form everyone works on: a network, a property, and their hashes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from specs.errors import QuestionError
from specs.network import Network
from specs.perturbation import REAL, Perturbation, Rounding
from specs.property import Property


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A model file as read: what a replay needs and what the evidence is bound to.

    Attributes:
        path: where it was read; a model built in memory has none.
        content: the decompressed ONNX bytes.
        digest: SHA-256 (hexadecimal) of ``content`` and of external data, if any.
    """

    path: Path | None
    content: bytes
    digest: str


@dataclass(frozen=True, eq=False)
class Query:
    """Does ``network`` have ``property``?

    Attributes:
        models: the files that ``network`` was read from.  The network's inputs and
            outputs are those of the first model, then those of the second, and so on;
            a query over two copies of one network lists its file twice.
        property_digest: SHA-256 (hexadecimal) of the property's decompressed file, or of
            its canonical text where it was built.
        perturbations: what may go wrong while the network runs; its perturbed nodes say
            where.
        title: how to call the query in messages.
    """

    network: Network
    property: Property
    models: tuple[ModelFile, ...]
    property_digest: str
    perturbations: tuple[Perturbation, ...] = ()
    title: str = "query"

    def __post_init__(self) -> None:
        sizes = (self.network.input_size, self.network.output_size)
        stated = (self.property.input_size, self.property.output_size)
        if sizes != stated:
            raise QuestionError(
                f"{self.title}: the property speaks of {stated[0]} inputs and {stated[1]} "
                f"outputs, the network has {sizes[0]} and {sizes[1]}"
            )
        if len(self.perturbations) > 1:
            raise QuestionError(f"{self.title}: several perturbations at once")
        if len(self.network.struck) != sum(found.faulty_nodes for found in self.perturbations):
            raise QuestionError(f"{self.title}: the network's faults are not those that it states")
        if self.network.semantics != self.semantics:
            raise QuestionError(
                f"{self.title}: the network was read under {self.network.semantics} semantics, "
                f"the query states {self.semantics}"
            )

    @cached_property
    def semantics(self) -> str:
        """``"real"``, or the name of the format that the network is evaluated in.

        Real: the network is the real-valued function with exactly the stored weights.
        """
        found = self.rounding
        return REAL if found is None else found.name

    @cached_property
    def rounding(self) -> Rounding | None:
        """The format that the network is evaluated in; ``None``: real numbers."""
        return next((p for p in self.perturbations if isinstance(p, Rounding)), None)

    @cached_property
    def not_modelled(self) -> tuple[str, ...]:
        """What an answer leaves out, in words."""
        return tuple(what for found in self.perturbations for what in found.not_modelled)

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        parts = ["farkas-question-1", self.semantics, self.property_digest]
        parts += [model.digest for model in self.models]
        parts += [perturbation.text for perturbation in self.perturbations]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
