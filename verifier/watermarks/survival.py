"""Which triggers keep their labels when parameters of any layers change, and how far they may.

A trigger is a point; what may happen to the parameters is a fault model, so each statement is an
ordinary question with ``[faults]``, and its proof one that the kernel knows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from proofs.check import check_proof
from specs.builders import misclassified
from specs.document import Document
from specs.errors import QuestionError
from specs.faults.models import FaultModel, followed
from specs.faults.placed import Placed, place_model
from specs.faults.schema import read_faults
from specs.faults.struck import MOST, WordFaults
from specs.property import Case, Property
from specs.query import ModelFile, Query
from specs.source import Source
from specs.watermarks.samples import Labelled
from verifier.certify.questions import Answered, Question, ask
from verifier.certify.section import Place
from verifier.progress import Progress

SIZES = ("absolute", "relative", "k")
"""Keys of ``[faults]`` that say how much may change."""

SMALLEST = Fraction(1, 10**9)
"""No smaller box is tried."""

GROWTH = Fraction(2)


@dataclass(frozen=True, eq=False)
class Changes:
    """A kind of change of the parameters, of any size.

    Attributes:
        faults: the table ``[faults]`` without its size.
        size: the key that says how much may change: ``"absolute"``, ``"relative"`` or ``"k"``.

    Raises:
        QuestionError: the key is none of these, or the table has it.
    """

    faults: Mapping[str, Any]
    size: str

    def __post_init__(self) -> None:
        if self.size not in SIZES or self.size in self.faults:
            raise QuestionError(f"'{self.size}' is no size that [faults] leaves open")

    @property
    def counted(self) -> bool:
        """Whether sizes are whole numbers."""
        return self.size == "k"

    def table(self, size: Fraction) -> dict[str, Any]:
        """``[faults]`` for a size."""
        value: Any = int(size) if self.counted else size
        return {**self.faults, self.size: value}

    def model(self, size: Fraction) -> FaultModel:
        """The fault model of a size.

        Raises:
            QuestionError: the table states none.
        """
        source = Source("changes", "")
        return read_faults(Document(Path(), source, {"faults": self.table(size)}))


@dataclass(frozen=True)
class Settings:
    """How hard to try.

    Attributes:
        seconds: for one size of one trigger, for proofs and for attacks each.
        leaves: of the search for proofs of counted changes.  Of boxes nothing is split: that
            costs much and was never seen to help.
        digits: significant ones of a certified size that is no whole number.
        largest: no larger size is tried.
    """

    seconds: float = 5.0
    leaves: int = 2000
    digits: int = 2
    largest: Fraction = Fraction(1)


@dataclass(frozen=True)
class Span:
    """How far one trigger survives.

    Attributes:
        certified: for changes of this size a proof was found; 0: for none.
        broken: a change of this size was found that takes the label; ``None``: none was.
    """

    certified: Fraction
    broken: Fraction | None


class Trigger:
    """One trigger of a model, asked about changes of several sizes.

    Args:
        placed: the model; the parameters that the changes name were followed.
        point: ``(inputs,)``, exact.
        label: that it is to keep.
        changes: of the parameters.
        settings: how hard to try.
    """

    def __init__(
        self,
        placed: Placed,
        point: Sequence[float],
        label: int,
        changes: Changes,
        settings: Settings,
    ) -> None:
        network = placed.network
        exact = tuple(Fraction(float(x)) for x in point)
        unsafe = misclassified(network.output_size, label=label)
        case = Case(exact, exact, unsafe)
        self._stated = Property(network.input_size, network.output_size, (case,))
        self._placed, self._changes, self._settings = placed, changes, settings

    def query(self, size: Fraction) -> tuple[Query, WordFaults]:
        """The question for a size.

        Raises:
            QuestionError: the changes do not fit the model.
        """
        faults = WordFaults(self._placed, self._changes.model(size))
        file, digest = self._placed.model, self._stated.digest
        return Query(faults.network, self._stated, (file,), digest, (faults,), "trigger"), faults

    def proved(self, size: Fraction) -> bool:
        """Whether a proof for a size was found: the empty one, or one with better slopes."""
        from verifier.faults.branching import prove

        query, faults = self.query(size)
        if check_proof(query, None, processes=1).verdict == "valid unsat":
            return True
        until = time.monotonic() + self._settings.seconds
        leaves = self._settings.leaves if self._changes.counted else 1
        return prove(query, faults, until, leaves).proof is not None

    def broken(self, size: Fraction) -> bool:
        """Whether a change of a size was found that takes the label, exactly."""
        from verifier.faults.word_attack import WordAttack

        query, faults = self.query(size)
        return WordAttack(query, faults).run(time.monotonic() + self._settings.seconds) is not None

    def span(self, start: Fraction) -> Span:
        """The largest size that is certified, and the least that is broken, nearly.

        Args:
            start: where to begin, in the range of sizes that matter.
        """
        if self._changes.counted:
            certified = largest_count(self.proved, int(start))
            broken = largest_count(lambda k: not self.broken(k), max(1, int(certified)))
            none = broken >= MOST
            return Span(certified, None if none else broken + 1)
        settings = self._settings
        certified = largest_size(self.proved, start, settings)
        beyond = largest_size(lambda size: not self.broken(size), certified or start, settings)
        if beyond >= settings.largest:
            return Span(certified, None)
        broken = _above(beyond, settings.digits) if beyond else start
        return Span(certified, broken if self.broken(broken) else None)


def largest_count(holds: Callable[[Fraction], bool], start: int, most: int = MOST) -> Fraction:
    """The largest number up to ``most`` for which something holds, taken to hold for all below."""
    low, high = 0, most + 1
    guess = max(1, min(start, most))
    while high - low > 1:
        if holds(Fraction(guess)):
            low = guess
        else:
            high = guess
        guess = min(2 * low, (low + high + 1) // 2) if low else high // 2
        guess = min(max(guess, low + 1), high - 1) if high - low > 1 else guess
    return Fraction(low)


def largest_size(
    holds: Callable[[Fraction], bool], start: Fraction, settings: Settings
) -> Fraction:
    """The largest size, of few digits, for which something holds, taken to hold for all below.

    Returns:
        0 where it does not hold for the smallest one.
    """
    low, high = Fraction(0), settings.largest * GROWTH
    guess = min(start, settings.largest)
    while True:
        if holds(guess):
            low = guess
        else:
            high = guess
        if low >= settings.largest or high <= SMALLEST:
            return low
        if low == 0:
            guess = _down(high / GROWTH, settings.digits)
        elif high > settings.largest:
            guess = min(_down(low * GROWTH, settings.digits), settings.largest)
        else:
            guess = _down((low + high) / 2, settings.digits)
            if guess <= low:
                return low


def _down(value: Fraction, digits: int) -> Fraction:
    """The greatest decimal of few digits that does not exceed a positive number."""
    unit = _unit(value, digits)
    return value // unit * unit


def _above(value: Fraction, digits: int) -> Fraction:
    """The next decimal of few digits."""
    return _down(value, digits) + _unit(value, digits)


def _unit(value: Fraction, digits: int) -> Fraction:
    power = Fraction(1)
    while power > value:
        power /= 10
    while power * 10 <= value:
        power *= 10
    return power / 10 ** (digits - 1)


def spans(
    model: ModelFile,
    triggers: Labelled,
    changes: Changes,
    start: Fraction,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[Span]:
    """How far each trigger survives.

    Args:
        model: the file.
        triggers: and the labels that they are to keep.
        changes: of its parameters.
        start: a size to begin with; each trigger begins where the one before ended.
        settings: how hard to try.
        progress: where to report.

    Raises:
        QuestionError: the changes do not fit the model.
    """
    used, shown = settings or Settings(), progress or Progress(enabled=False)
    placed = place_model(model, *followed(changes.model(start)))
    found: list[Span] = []
    for number, point in enumerate(triggers.points):
        shown.count("triggers", number, len(triggers.points))
        label = int(triggers.labels[number])
        one = Trigger(placed, point.tolist(), label, changes, used)
        found.append(one.span(start))
        start = found[-1].certified or start
    shown.clear()
    return found


@dataclass(frozen=True)
class Step:
    """What is known of all triggers at one size.

    Attributes:
        size: of the changes.
        certified: how many triggers certainly keep their labels, whatever the change.
        broken: how many lose it by some change, each by one of its own.
    """

    size: Fraction
    certified: int
    broken: int


def curve(found: Sequence[Span]) -> list[Step]:
    """How many triggers are certified, and broken, at every size at which that changes."""
    sizes = {span.certified for span in found} | {
        span.broken for span in found if span.broken is not None
    }
    return [
        Step(
            size,
            sum(span.certified >= size for span in found),
            sum(span.broken is not None and span.broken <= size for span in found),
        )
        for size in sorted(sizes)
    ]


def answers(
    place: Place,
    model: ModelFile,
    triggers: Labelled,
    changes: Changes,
    size: Fraction,
    timeout: float,
) -> list[Answered]:
    """Every trigger's question for one size, with evidence.

    The same change is meant for all triggers; so if ``t`` of these questions hold, at least ``t``
    of the triggers keep their labels whatever the change, however the others answer.

    Args:
        place: where evidence is kept.
        model: the file.
        triggers: and the labels that they are to keep.
        changes, size: of its parameters.
        timeout: for each trigger, in seconds.

    Raises:
        InputError: a question makes no sense.
    """
    return [
        ask(place, model, question_of(point, int(label), changes.table(size)), timeout)
        for point, label in zip(triggers.points, triggers.labels, strict=True)
    ]


def question_of(
    point: np.ndarray[Any, np.dtype[np.float64]], label: int, faults: Mapping[str, Any] | None
) -> Question:
    """That a point has a label, whatever the faults."""
    exact = tuple(Fraction(float(x)) for x in point)
    return Question((exact, exact), {"kind": "robust", "label": label}, faults)


def surviving(found: Sequence[Answered]) -> int:
    """How many triggers keep their labels for certain, all under the same change."""
    return sum(answer.answer == "unsat" for answer in found)
