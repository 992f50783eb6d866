"""What a section of a configuration is made of.

A *section* is a table of the configuration, such as ``[faults]``, read by one module.  It states
*answers*.  An answer splits its work into *tasks*, whose results are kept on their own, and draws
its conclusion from their *records*.  Adding a section is one module and a line in ``SECTIONS``
(``config.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from specs.document import Document
from specs.numerals import numeral
from specs.version import VERSION
from verifier.certify.data import Data
from verifier.certify.delivery import Asked, Measured, Pair, Sweep
from verifier.certify.table import Table
from verifier.progress import Progress

if TYPE_CHECKING:
    from verifier.certify.divided import Dividing

PROVED, REFUTED, UNDECIDED = "proved", "refuted", "undecided"
SUPPORTED, CONTRADICTED = "supported", "contradicted"
"""Of thresholds on what was sampled: met, or not met, with a stated confidence."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Record:
    """The result of a task.

    Attributes:
        values: plain data; ``"evidence"`` lists files below the evidence folder.
        arrays: by name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)

    @property
    def evidence(self) -> tuple[str, ...]:
        """Files below the evidence folder that the result rests on."""
        return tuple(self.values.get("evidence", ()))


@dataclass(frozen=True, eq=False)
class Place:
    """Where a task works.

    Attributes:
        evidence: the folder of questions, proofs and witnesses.
        scratch: a folder for what a task is resumed from; its own.
        progress: where to report.
        hints: a folder of notes, which proof to try on another model; ``None``: none.
        dividing: when hard questions are divided; ``None``: they are not.
    """

    evidence: Path
    scratch: Path
    progress: Progress
    hints: Path | None = None
    dividing: Dividing | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """A piece of work whose result is kept.

    Attributes:
        name: for people.
        depends: all that the result depends on: digests, settings in canonical text.
        run: does it.
    """

    name: str
    depends: tuple[str, ...]
    run: Callable[[Place], Record]

    @cached_property
    def digest(self) -> str:
        """What the result is kept under."""
        text = "\n".join(("farkas-certify-1", VERSION, *self.depends))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Judged:
    """A threshold, and whether it is met.

    Attributes:
        asked: in words.
        found: in words.
        verdict: ``"proved"``, ``"refuted"`` or ``"undecided"``; of what was sampled
            ``"supported"``, ``"contradicted"`` or ``"undecided"``.
    """

    asked: str
    found: str
    verdict: str


@dataclass(frozen=True)
class Rows:
    """A table of the report.

    Attributes:
        title: what stands above.
        head: of the columns.
        rows: the cells, as text.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Drawing = tuple[str, Callable[[Any], None]]
"""A caption, and what draws on a ``matplotlib.figure.Figure``."""


@dataclass(frozen=True, eq=False)
class Part:
    """What an answer comes to.

    Attributes:
        title: of it.
        lines: what was found, in sentences.
        assumptions: what it rests on, in sentences.
        judged: its thresholds.
        facts: the same for programs.
        tables, drawings: for the report.
        asked: the questions behind it, for the report's table of all questions.
        sweeps: curves over radii.
        pairs: counterexamples beside their originals.
        basis: what its numbers rest on, of ``delivery.BASES``.
        measured: what it says with some confidence only.
    """

    title: str
    lines: tuple[str, ...]
    assumptions: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    tables: tuple[Rows, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    asked: tuple[Asked, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    pairs: tuple[Pair, ...] = ()
    basis: tuple[str, ...] = field(kw_only=True)
    measured: tuple[Measured, ...] = field(default=(), kw_only=True)


class Answer(Protocol):
    """Something that a section was asked."""

    def tasks(self) -> Sequence[Task]:
        """Its work; equal tasks of several answers are done once."""
        ...

    def conclude(self, records: Sequence[Record]) -> Part:
        """What follows from the results, in the order of the tasks."""
        ...


@dataclass(frozen=True, eq=False)
class Setting:
    """What all sections have in common.

    Attributes:
        document: the file.
        models: by name.
        data: the samples, if any.
        timeout: seconds for a question that is searched.
        device: where the search runs, ``"cpu"`` or ``"cuda"``.
    """

    document: Document
    models: Mapping[str, Path]
    data: Data | None
    timeout: float
    device: str = "cpu"

    def named(self, table: Table, key: str = "net") -> str:
        """The name of the model that a table names, the first where it names none.

        Raises:
            QuestionError: there is no such model.
        """
        return self.known(table, key, table.text(key) or next(iter(self.models)))

    def known(self, table: Table, key: str, name: str) -> str:
        """A name that stands at a key, if a model has it.

        Raises:
            QuestionError: none has.
        """
        if name not in self.models:
            raise table.error(key, f"[models] has no '{name}'; it has {', '.join(self.models)}")
        return name


class Section(Protocol):
    """Reads a table; its name is the table's."""

    def __call__(self, setting: Setting) -> Sequence[Answer]:
        """The answers that are asked for.

        Raises:
            InputError: the table is malformed; the message says where.
        """
        ...


def at_least(
    what: str, asked: Fraction, certain: Fraction | int, possible: Fraction | int
) -> Judged:
    """A threshold from below on a number that lies between two known ones."""
    verdict = PROVED if certain >= asked else REFUTED if possible < asked else UNDECIDED
    missed = verdict == REFUTED and possible == certain
    found = f"at most {above(possible)}" if missed else f"at least {below(certain)}"
    if possible != certain:
        found += f", at most {above(possible)}"
    return Judged(f"{what} at least {shown(asked)}", found, verdict)


def at_most(
    what: str, asked: Fraction, bound: float, certain: Fraction | float | None = None
) -> Judged:
    """A threshold from above on a number that has an upper bound, and maybe a lower one."""
    refuted = certain is not None and certain > asked
    verdict = PROVED if Fraction(bound) <= asked else REFUTED if refuted else UNDECIDED
    return Judged(f"{what} at most {shown(asked)}", f"at most {above(bound)}", verdict)


def measured_at_least(
    what: str,
    asked: Fraction,
    interval: Sequence[float | Fraction],
    confidence: Fraction,
) -> Judged:
    """A threshold from below on a number that an interval holds with some confidence."""
    low, high = (Fraction(end) for end in interval)
    verdict = SUPPORTED if low >= asked else CONTRADICTED if high < asked else UNDECIDED
    found = f"sampled in [{below(low)}, {above(high)}] with confidence {shown(confidence)}"
    return Judged(f"{what} at least {shown(asked)}", found, verdict)


def shown(number: Fraction | float | int) -> str:
    """A number for people: exactly, as a decimal where it is one."""
    short = f"{float(number):.6g}"
    if isinstance(number, float):
        return short if float(short) == number else repr(number)
    return short if Fraction(short) == number else numeral(Fraction(number))


def above(number: Fraction | float | int, digits: int = 6) -> str:
    """A number for people, rounded up: what is said of an upper bound stays true."""
    return _rounded(number, digits, ROUND_CEILING)


def below(number: Fraction | float | int, digits: int = 6) -> str:
    """A number for people, rounded down."""
    return _rounded(number, digits, ROUND_FLOOR)


def _rounded(number: Fraction | float | int, digits: int, rounding: str) -> str:
    exact = Fraction(number)
    context = Context(prec=digits, rounding=rounding, Emin=-99999, Emax=99999)
    found = context.divide(Decimal(exact.numerator), Decimal(exact.denominator))
    short = found.normalize()
    plain = 0 < int(short.as_tuple().exponent) <= digits  # 100, not 1e+2
    return f"{short:f}" if plain else f"{short:g}" if found else "0"


def digest_of(*arrays: npt.NDArray[Any]) -> str:
    """Of arrays, with their shapes and types."""
    found = hashlib.sha256()
    for array in arrays:
        held = np.ascontiguousarray(array)
        found.update(f"{held.dtype.str} {held.shape}".encode() + held.tobytes())
    return found.hexdigest()
