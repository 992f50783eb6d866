"""Evidence about claims that are not questions of proofs: hints, or a counterexample, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from specs.errors import EvidenceError

HOLDS, FAILS = "unsat", "sat"
CLAIMS = (HOLDS, FAILS)
TYPES = ("float64", "float32", "int64", "int32", "uint8", "int8")
MOST = 64
"""Arrays of a file."""


@dataclass(frozen=True, eq=False)
class ArrayEvidence:
    """What is said to decide a claim; each kind of claim has a subclass.

    Attributes:
        format: of the manifest; ``subject``: a word for the content hash; ``about``: for people.
        question: digest of the question.
        claims: ``"unsat"``: the claim holds, and the arrays are hints of a proof; ``"sat"``: it
            does not, and they are a counterexample.
        arrays: by name, one-dimensional; floats of any value, whole numbers of any size.
        manifest: what else the file says; nothing rests on it.
    """

    format: ClassVar[str]
    subject: ClassVar[str]
    about: ClassVar[str]

    question: str
    claims: str
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.claims not in CLAIMS:
            raise EvidenceError(f"it claims {self.claims!r:.40}, neither unsat nor sat")

    def floats(self, name: str, size: int | None = None) -> npt.NDArray[np.float64]:
        """An array of finite numbers; empty where there is none and no size is wanted.

        Raises:
            EvidenceError: it is missing, of another size or type, or not finite.
        """
        found = self._array(name, size, "f", np.dtype(np.float64))
        if not np.all(np.isfinite(found)):
            raise EvidenceError(f"array '{name}' holds numbers that are not finite")
        return found

    def integers(self, name: str, size: int | None = None) -> npt.NDArray[np.int64]:
        """An array of whole numbers; empty where there is none and no size is wanted.

        Raises:
            EvidenceError: it is missing, or of another size or type.
        """
        return self._array(name, size, "iu", np.dtype(np.int64))

    def _array(self, name: str, size: int | None, kinds: str, dtype: npt.DTypeLike) -> Any:
        found = self.arrays.get(name)
        if found is None:
            if size:
                raise EvidenceError(f"array '{name}' is missing")
            return np.zeros(0, dtype)
        if found.ndim != 1 or found.dtype.kind not in kinds:
            raise EvidenceError(f"array '{name}' is of the wrong type")
        if size is not None and found.size != size:
            raise EvidenceError(f"array '{name}' has {found.size} entries instead of {size}")
        return found.astype(dtype)

    def only(self, *names: str) -> None:
        """There are no arrays but these.

        Raises:
            EvidenceError: there is another one.
        """
        strange = sorted(set(self.arrays) - set(names))
        if strange:
            raise EvidenceError(f"array '{strange[0]:.60}' has no meaning here")


def array_lines(evidence: ArrayEvidence) -> list[str]:
    """What is in evidence about a claim."""
    says = "hints that it holds" if evidence.claims == HOLDS else "a counterexample"
    return [
        f"evidence about {evidence.about}, for question {evidence.question}",
        f"says: {says}",
        *(
            f"  {name}: {array.size} of type {array.dtype}"
            for name, array in sorted(evidence.arrays.items())
        ),
    ]
