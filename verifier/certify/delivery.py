"""What a section hands to the report beside sentences and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from verifier.certify.data import Pixels

FloatArray = npt.NDArray[np.float64]

WORDS = {"unsat": "proved", "sat": "refuted"}
"""By the answer to a question what it means for the property; any other is ``undecided``."""


BY_EVIDENCE, BY_EVALUATION, BY_SAMPLES = BASES = ("evidence", "evaluated", "sampled")
"""What numbers rest on; ``standing.py`` has it in words."""


@dataclass(frozen=True)
class Asked:
    """A question, its answer and what it cost: a row of the report's table of questions.

    Attributes:
        name: which one, in words; of its part, unique: ``"sample 17, radius 2/255"``.
        verdict: ``"proved"``, ``"refuted"`` or ``"undecided"``.
        seconds: until the answer was there, the check included.
        reason: why it is this answer, in words.
        evidence: the file of the proof or witness, below the evidence folder.
        bytes: of that file.
        check_seconds: that checking it took.
        origin: where the evidence is from: a search, an earlier run, or hints that an earlier
            model's proof held; in a word.
    """

    name: str
    verdict: str
    seconds: float
    reason: str = ""
    evidence: str | None = None
    bytes: int | None = None
    check_seconds: float | None = None
    origin: str = ""

    @classmethod
    def of(cls, name: str, values: Mapping[str, Any]) -> Asked:
        """From the values of a result (``questions.Answered.values``)."""
        files = [file for file in values.get("evidence", ()) if file.endswith(_EVIDENCE)]
        return cls(
            name,
            WORDS.get(values["answer"], "undecided"),
            float(values["seconds"]),
            values.get("reason", ""),
            files[0] if files else None,
            values.get("bytes") or None,
            values.get("check_seconds") or None,
            values.get("origin", ""),
        )

    @property
    def data(self) -> dict[str, Any]:
        """For programs."""
        return dict(vars(self))


_EVIDENCE = (".farkas", ".witness.json")


@dataclass(frozen=True)
class Swept:
    """One radius of a sweep.

    Attributes:
        radius: of the regions.
        certified: the share of samples that are proved: a lower end of the accuracy there.
        possible: the share that is not refuted: an upper end.
    """

    radius: Fraction
    certified: Fraction
    possible: Fraction


@dataclass(frozen=True)
class Sweep:
    """Certified accuracy over radii.

    Attributes:
        title: what stands above.
        points: by increasing radius.
        clean: the share of samples classified right; ``None``: not known.
    """

    title: str
    points: tuple[Swept, ...]
    clean: Fraction | None = None

    @property
    def data(self) -> dict[str, Any]:
        """For programs; shares and radii as exact text."""
        points = [{key: str(value) for key, value in vars(point).items()} for point in self.points]
        clean = None if self.clean is None else str(self.clean)
        return {"title": self.title, "clean": clean, "points": points}


@dataclass(frozen=True, eq=False)
class Pair:
    """A counterexample beside the sample that it is near.

    Attributes:
        name: in words.
        original, changed: ``(size,)`` both inputs.
        shape: of an image, ``(channels, height, width)``; ``None``: it is none.
        before, after: what the model says of each, in words; empty: not known.
        kinds: what the two are.
        pixels: what both were before ``mean`` and ``std``, as which images are shown.
    """

    name: str
    original: FloatArray
    changed: FloatArray
    shape: tuple[int, int, int] | None = None
    before: str = ""
    after: str = ""
    kinds: tuple[str, str] = ("original", "counterexample")
    pixels: Pixels | None = None


@dataclass(frozen=True)
class Measured:
    """Statements about samples, which hold with some confidence.

    Attributes:
        what: which ones, in words.
        confidence: with which each holds alone; where there is one statement that says several
            things, with which they hold together.
        statements: how many there are.
        judged: thresholds are judged by them.
    """

    what: str
    confidence: Fraction
    statements: int = 1
    judged: bool = False

    @property
    def risk(self) -> Fraction:
        """That any of them is false has at most this probability, which may exceed 1."""
        return self.statements * (1 - self.confidence)

    @property
    def data(self) -> dict[str, Any]:
        """For programs; the confidence as exact text."""
        return {**vars(self), "confidence": str(self.confidence)}


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """How one sample of this shape is an image with channels first; ``None``: it is none.

    ``(h, w)`` and ``(c, h, w)`` with one or three channels are images.
    """
    if len(shape) == 2 and min(shape) > 1:
        return (1, *shape)
    if len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1:
        return (shape[0], shape[1], shape[2])
    return None


def told_apart(titles: Sequence[str]) -> list[str]:
    """Titles; one that was there already gets a number behind it."""
    found: list[str] = []
    for title in titles:
        name, number = title, 1
        while name in found:
            number += 1
            name = f"{title} ({number})"
        found.append(name)
    return found
