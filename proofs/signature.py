"""What a proof says, as a hash that re-packing does not change; and signatures over it.

Farkas computes no signatures and verifies none: it carries those that others made, and says
what they claim.  ``docs/certificate.md`` shows how to make and verify one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from proofs.arrays import ArrayEvidence
from proofs.proof import ARRAYS, Proof
from proofs.witness import Witness
from specs.errors import EvidenceError

KEY = "signatures"
"""Of a proof's manifest."""
MOST = 16
"""Signatures of a proof."""
LONGEST = {"by": 200, "scheme": 100, "value": 20_000, "over": 64}
"""Characters of each part of a signature."""


@dataclass(frozen=True)
class Signature:
    """Somebody's signature, as carried.

    Attributes:
        by: who says to have signed.
        scheme: how, such as ``ssh-ed25519``.
        value: the signature itself.
        over: the content hash that was signed, 64 hexadecimal digits.

    Raises:
        EvidenceError: a part is no text, empty, too long or not printable.
    """

    by: str
    scheme: str
    value: str
    over: str

    def __post_init__(self) -> None:
        for name, limit in LONGEST.items():
            text = getattr(self, name)
            if not isinstance(text, str) or not 0 < len(text) <= limit:
                raise EvidenceError(f"a signature's '{name}' is no text of 1 to {limit} characters")
            if not all(c.isprintable() or (c == "\n" and name == "value") for c in text):
                raise EvidenceError(f"a signature's '{name}' holds characters that do not print")
        if len(self.over) != 64 or not set(self.over) <= set("0123456789abcdef"):
            raise EvidenceError("a signature's 'over' is no hash of 64 hexadecimal digits")


def content_hash(evidence: Proof | Witness | ArrayEvidence) -> str:
    """SHA-256 of what evidence says, in a canonical form that ``FORMAT.md`` specifies.

    It depends on the question, the names of tensors and the values of the arrays (of a
    witness: on its case, disjunct, point and faults; of evidence about a claim: on what it
    claims), on nothing else: neither on how the file is
    packed nor on how narrow a type holds a number.

    Raises:
        EvidenceError: an array is not a list of numbers.
    """
    digest = hashlib.sha256()
    for part in _content(evidence):
        digest.update(part)
    return digest.hexdigest()


def _content(evidence: Proof | Witness | ArrayEvidence) -> Iterator[bytes]:
    if isinstance(evidence, ArrayEvidence):
        yield _line("farkas-content-1", evidence.subject, evidence.question, evidence.claims)
        for name, held in sorted(evidence.arrays.items()):
            values = held.astype("<f8" if held.dtype.kind == "f" else "<i8")
            yield _line(name, values.dtype.str, len(values))
            yield values.tobytes()
        return
    if isinstance(evidence, Witness):
        yield _line("farkas-content-1", "witness", evidence.question)
        yield _line(evidence.case, evidence.disjunct, [str(x) for x in evidence.point])
        for fault in evidence.faults:
            value = None if fault.value is None else str(fault.value)
            yield _line(fault.tensor, fault.entry, list(fault.bits), value)
        return
    yield _line("farkas-content-1", "proof", evidence.question)
    yield _line(list(evidence.tensors))
    for name in sorted(ARRAYS):
        array = evidence.arrays.get(name)
        if array is None or not array.size or (name.endswith("_ptr") and array.size == 1):
            continue  # absent from a file
        values = _canonical(name, array)
        yield _line(name, values.dtype.str, len(values))
        yield values.tobytes()


def _canonical(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The widest type of its kind, which holds each of the array's types exactly."""
    if array.ndim != 1 or array.dtype.name not in ARRAYS[name]:
        raise EvidenceError(f"array '{name}' is of type {array.dtype}; it has no content hash")
    real = any(np.dtype(dtype).kind == "f" for dtype in ARRAYS[name])
    return array.astype("<f8" if real else "<i8")


def _line(*parts: Any) -> bytes:
    return json.dumps(parts, separators=(",", ":")).encode() + b"\n"


def signatures(proof: Proof) -> tuple[Signature, ...]:
    """The signatures that a proof carries; none of them is verified.

    Raises:
        EvidenceError: they are malformed, or more than :data:`MOST`.
    """
    listed = proof.manifest.get(KEY, [])
    if not isinstance(listed, list) or len(listed) > MOST:
        raise EvidenceError(f"the manifest's '{KEY}' are not a list of at most {MOST}")
    found = []
    for each in listed:
        if not isinstance(each, dict) or set(each) != set(LONGEST):
            raise EvidenceError(f"a signature has other keys than {', '.join(LONGEST)}")
        found.append(Signature(**each))
    return tuple(found)


def with_signature(proof: Proof, by: str, scheme: str, value: str) -> Proof:
    """The proof with one more signature, over its content as it is.

    Raises:
        EvidenceError: a text is too long, or the proof carries as many as it may.
    """
    made = Signature(by, scheme, value, content_hash(proof))
    listed = [asdict(each) for each in (*signatures(proof), made)]
    if len(listed) > MOST:
        raise EvidenceError(f"a proof carries at most {MOST} signatures")
    return replace(proof, manifest={**proof.manifest, KEY: listed})
