"""Questions about probabilities as files, with the partitions that answer them.

What is kept is a question that claims the interval that was found, so that ``farkas check
FOLDER`` checks it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from proofs.format import replacing, write_arrays
from proofs.partitions.check import Replayed, check_partition
from proofs.partitions.evidence import PartitionEvidence
from proofs.partitions.measure import Share
from proofs.partitions.probability import enough
from specs.errors import EvidenceError
from specs.probability import ProbabilityQuestion, load_probability_question
from specs.query import ModelFile
from verifier.certify.questions import model_file
from verifier.certify.section import Place
from verifier.toml import toml

Tables = Mapping[str, Mapping[str, Any]]
"""``[region]`` and ``[statement]`` of a question file, and ``[probability]`` but for the claim."""


@dataclass(frozen=True, eq=False)
class Stated:
    """A question, but for what it claims.

    Attributes:
        tables: of the file, by name.
        beside: the content of the property file that ``[region]`` names ``file``; ``None``: none.
    """

    tables: Tables
    beside: bytes | None = None

    def text(self, model: str, claim: Mapping[str, Any]) -> str:
        """The file.

        Raises:
            QuestionError: a number is no decimal.
        """
        lines = ["[models]", f"net = {toml(model)}"]
        for name, values in self.tables.items():
            lines.append(f"[{name}]")
            extra = claim if name == "probability" else {}
            lines += [f"{key} = {toml(value)}" for key, value in {**values, **extra}.items()]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, eq=False)
class Kept:
    """A question and a partition that were written and checked.

    Attributes:
        files: below the evidence folder.
        replayed: what the check found.
    """

    files: tuple[str, ...]
    replayed: Replayed


def ask(place: Place, model: ModelFile, stated: Stated) -> ProbabilityQuestion:
    """The question as it is read, claiming nothing but that a probability is at most 1.

    Raises:
        InputError: it makes no sense.
    """
    path, _ = _write(place, model, stated, {"at_most": 1})
    try:
        return load_probability_question(path)
    finally:
        path.unlink(missing_ok=True)


def keep(
    place: Place,
    model: ModelFile,
    stated: Stated,
    evidence: PartitionEvidence,
    interval: Share,
    sampling: Mapping[str, Any] | None = None,
) -> Kept:
    """Write a question that claims an interval, and the partition; and check them.

    What the kernel proves is claimed instead where it is less.

    Args:
        sampling: ``confidence``, ``samples`` and ``seed`` of a statistical claim.

    Raises:
        EvidenceError: the kernel does not accept what it proved itself.
    """
    for _ in range(2):
        claim = {
            "at_least": Fraction(enough(max(Fraction(0), interval[0]))),
            "at_most": min(Fraction(1), Fraction(enough(interval[1], up=True))),
        }
        path, beside = _write(place, model, stated, {**claim, **(sampling or {})})
        asked = load_probability_question(path)
        made = replace(evidence, question=asked.digest, claims="unsat")
        replayed = check_partition(asked, made)
        if replayed.checked.verdict == "valid unsat":
            file = path.with_suffix(".farkas")
            write_arrays(file, made)
            if not path.is_file():  # another process has tidied up, for want of this evidence
                _write(place, model, stated, {**claim, **(sampling or {})})
            models = os.path.relpath(model_file(place, model), place.evidence)
            return Kept((path.name, file.name, models, *beside), replayed)
        path.unlink(missing_ok=True)
        if replayed.found is None:
            break
        found = replayed.found.measured if sampling else replayed.found.interval
        interval = replayed.found.interval if found is None else found
    raise EvidenceError(f"a partition is not accepted: {replayed.checked.reason}")


def _write(
    place: Place, model: ModelFile, stated: Stated, claim: Mapping[str, Any]
) -> tuple[Path, Sequence[str]]:
    file = model_file(place, model)
    beside = []
    tables = dict(stated.tables)
    if stated.beside is not None:
        name = f"{hashlib.sha256(stated.beside).hexdigest()[:16]}.vnnlib"
        with replacing(place.evidence / name) as stream:
            stream.write(stated.beside)
        tables["region"] = {**tables.get("region", {}), "file": name}
        beside.append(name)
    text = replace(stated, tables=tables).text(os.path.relpath(file, place.evidence), claim)
    name = hashlib.sha256((model.digest + text).encode()).hexdigest()[:16]
    path = place.evidence / f"{name}.toml"
    with replacing(path) as stream:
        stream.write(text.encode())
    return path, beside
