"""What hardening writes beside a model, and the check of it by whoever trusts none of that."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proofs.check import check_proof
from proofs.format import file_content, read_evidence
from proofs.proof import Proof
from specs.errors import EvidenceError, InputError, ModelError
from specs.onnx_reader import read_model
from specs.property import Conjunction
from specs.question import load_question
from verifier.harden.harden import Hardened
from verifier.harden.surgery import (
    SMOOTH,
    restrictions_of,
    same_question,
    serialised,
    unrestricted,
    with_outputs,
)
from verifier.harden.theorem import Box, beyond, probe

BOUNDS, BOXES = "bounds", "boxes"
"""Kinds of theorems: over the domain, and over boxes around samples."""


def named(hardened: Path, end: str) -> Path:
    """The file beside a hardened model whose name ends so."""
    return hardened.with_name(hardened.with_suffix("").name + end)


def contents(target: Path, made: Hardened) -> Mapping[Path, bytes]:
    """The files to be written, and what they hold; the hardened model is the last."""
    found: dict[Path, bytes] = {}
    boxes = None if made.boxes is None else made.boxes.theorem
    for kind, theorem in ((BOUNDS, made.theorem), (BOXES, boxes)):
        if theorem is None:
            continue
        found[named(target, f".{kind}.onnx")] = theorem.model
        for number, part in enumerate(theorem.parts, 1):
            found[named(target, f".{kind}.{number}.vnnlib")] = part.text.encode()
            found[named(target, f".{kind}.{number}.farkas")] = file_content(part.proof, pack=True)
    found[target] = made.content
    return found


def stale(target: Path, files: Mapping[Path, bytes]) -> list[Path]:
    """Questions and proofs of an earlier run, with numbers that this one does not write."""
    found = []
    for kind in (BOUNDS, BOXES):
        for number in itertools.count(1):
            pair = [named(target, f".{kind}.{number}.{end}") for end in ("vnnlib", "farkas")]
            held = [path for path in pair if path not in files and path.is_file()]
            found += held
            if not held and pair[0] not in files:
                break
    return found


@dataclass(frozen=True)
class Agreed:
    """What a check found.

    Attributes:
        verdict: as of ``farkas check``.
        reason: in words.
        restrictions: how many stand in the model.
    """

    verdict: str
    reason: str
    restrictions: int


def check_hardened(original: Path, hardened: Path, semantics: str | None = None) -> Agreed:
    """Whether a hardened model is the original with restrictions that change nothing.

    Checked is that taking the restrictions out gives the original; that the question beside the
    hardened model is about the original and says of every restricted entry that it is within
    the bounds that stand in the hardened model; and that the kernel finds its proof valid.

    Args:
        original, hardened: model files.
        semantics: of the theorem; ``None``: real.

    Raises:
        InputError: a file cannot be read, or one of these does not hold.
    """
    _, before = read_model(original)
    _, after = read_model(hardened)
    if unrestricted(after.content) != serialised(before.content):
        raise ModelError(f"{hardened}: without its restrictions it is not {original}")
    restrictions = restrictions_of(after.content)
    if not restrictions or any(each.action == SMOOTH for each in restrictions):
        raise ModelError(f"{hardened}: it has no restrictions that leave values as they are")
    tensors = [each.tensor for each in restrictions]
    model = named(hardened, f".{BOUNDS}.onnx")
    said: set[Conjunction] = set()
    regions: set[Box] = set()
    verdicts = []
    for number in itertools.count(1):
        text = named(hardened, f".{BOUNDS}.{number}.vnnlib")
        if number > 1 and not text.exists():
            break
        query = load_question(model, text, semantics=semantics)
        if not same_question(query.models[0].content, with_outputs(before.content, tensors)):
            raise ModelError(f"{model}: it is not {original} with the restricted tensors")
        proof = read_evidence(named(hardened, f".{BOUNDS}.{number}.farkas"))
        if not isinstance(proof, Proof):
            raise EvidenceError(f"{text}: a witness lies beside it, where a proof is wanted")
        for case in query.property.cases:
            if case.constraints or case.strict_lower or case.strict_upper:
                raise InputError(f"{text}: its region is no closed box")
            regions.add((tuple(case.lower), tuple(case.upper)))
            said |= set(case.unsafe)
        verdicts.append(check_proof(query, proof))
    if len(regions) != 1:
        raise InputError(f"{hardened}: the questions beside it speak of several domains")
    read = probe(before.content, tensors, query.semantics)
    if missing := set(beyond(read, restrictions)) - said:
        raise InputError(
            f"{hardened}: no question beside it speaks of {len(missing)} of its bounds"
        )
    checked = next((each for each in verdicts if not each.valid), verdicts[0])
    reason = f"{_domain(*regions)}; {checked.reason}"
    return Agreed(checked.verdict, reason, len(restrictions))


def _domain(box: Box) -> str:
    """A box in words."""
    low, high = box
    if len({*low}) == len({*high}) == 1:
        return f"every input from {low[0]} to {high[0]}"
    widths = [b - a for a, b in zip(low, high, strict=True)]
    return (
        f"{len(low)} inputs in a box whose sides are {float(min(widths)):g} to "
        f"{float(max(widths)):g} long (the .vnnlib file has them)"
    )
