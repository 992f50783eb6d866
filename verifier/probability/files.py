"""Questions about probabilities and Lipschitz constants as files, with partitions that answer them.

What is kept is a question that claims what was found, so that ``farkas check FOLDER`` checks it
again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from proofs.format import write_arrays
from proofs.partitions.check import PartitionQuestion, Replayed, check_partition
from proofs.partitions.evidence import PartitionEvidence
from proofs.partitions.report import load_partition_question
from specs.query import ModelFile
from verifier.certify.question_files import keep_content, model_file, question_path, write_text
from verifier.certify.section import Place
from verifier.toml import document

Tables = Mapping[str, Mapping[str, Any]]
"""Of a question file, by name."""
ANY = {"at_most": 1}
"""A claim that is one of either kind of question, where it does not matter which."""
Asks = TypeVar("Asks", bound=PartitionQuestion)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question, but for what it claims.

    Attributes:
        title: how to call it.
        tables: of its file, but for the models.
        claims: the table that takes what is claimed.
        beside: the content of the property file that ``[region]`` names ``file``; ``None``: none.
    """

    title: str
    tables: Tables
    claims: str
    beside: bytes | None = None

    @property
    def label(self) -> int:
        """The label that it speaks of; 0 where there is none."""
        found = [table["label"] for table in self.tables.values() if "label" in table]
        return found[0] if found and isinstance(found[0], int) else 0

    @property
    def named(self) -> Asked:
        """The same; the property file goes by the name that it has below the evidence folder."""
        if self.beside is None:
            return self
        return replace(self, tables={**self.tables, "region": {"file": _name(self.beside)}})

    def text(self, model: str, claim: Mapping[str, Any]) -> str:
        """The file.

        Raises:
            QuestionError: a number is no decimal.
        """
        claiming = {self.claims: {**self.tables[self.claims], **claim}}
        return document({"models": {"net": model}, **self.tables, **claiming})


@dataclass(frozen=True, eq=False)
class Kept:
    """A partition that was checked.

    Attributes:
        files: below the evidence folder; none where the kernel does not accept it.
        replayed: what the check found.
    """

    files: tuple[str, ...]
    replayed: Replayed


def ask(
    place: Place,
    model: ModelFile,
    asked: Asked,
    load: Callable[[Path], Asks],
    claim: Mapping[str, Any] = ANY,
) -> Asks:
    """The question as it is read.

    Its file lies where no other process writes, and where ``farkas check`` does not look.

    Args:
        load: reads it.
        claim: what it claims.

    Raises:
        InputError: it makes no sense.
    """
    with TemporaryDirectory(dir=place.scratch) as own:
        if asked.beside is not None:
            (Path(own) / _name(asked.beside)).write_bytes(asked.beside)
        path = Path(own) / "question.toml"
        path.write_text(asked.named.text(os.path.relpath(model_file(place, model), own), claim))
        return load(path)


def keep(
    place: Place,
    model: ModelFile,
    asked: Asked,
    claim: Mapping[str, Any],
    evidence: PartitionEvidence,
) -> Kept:
    """Check whether a partition shows a claim; if it does, write the question and the partition."""
    question = ask(place, model, asked, load_partition_question, claim)
    made = replace(evidence, question=question.digest, claims="unsat")
    replayed = check_partition(question, made)
    if replayed.checked.verdict != "valid unsat":
        return Kept((), replayed)
    files = [os.path.relpath(model_file(place, model), place.evidence)]
    if asked.beside is not None:
        files.append(_name(asked.beside))
        keep_content(place.evidence / files[1], asked.beside)
    text = asked.named.text(files[0], claim)
    path = question_path(place, model.digest, text)
    write_text(path, text)
    write_arrays(path.with_suffix(".farkas"), made)
    if not path.is_file():  # another process has tidied up, for want of this evidence
        write_text(path, text)
    return Kept((path.name, path.with_suffix(".farkas").name, *files), replayed)


def first_and_largest(asked: Sequence[Asked]) -> Sequence[Asked]:
    """The first question, and that with the largest label: if these make sense, all do."""
    return tuple(dict.fromkeys((asked[0], max(asked, key=lambda each: each.label))))


def _name(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:16]}.vnnlib"
