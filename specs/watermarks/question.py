"""Questions about parameters: a model, a mark and a claim, in one TOML file.

``docs/watermarks.md`` describes the file.

title        a string                        optional
[models]     NAME = "FILE.onnx"              one, or as many as the claim speaks of
[watermark]  scheme = ..., see schemes/      the mark; not every claim needs one
[claim]      kind = ..., see claims/         what is claimed
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from specs.document import Document, read_document
from specs.errors import InputError, QuestionError
from specs.onnx_reader import read_model
from specs.query import ModelFile
from specs.watermarks.claims import CLAIMS, claim
from specs.watermarks.mark import Mark
from specs.watermarks.reading import CLAIM, MARK
from specs.watermarks.schemes import SCHEMES, scheme


class Claim(Protocol):
    """What is claimed; a value with all that deciding it needs."""

    @property
    def kind(self) -> str:
        """Its name, that of its module."""
        ...

    @property
    def text(self) -> str:
        """All that it depends on beside models and mark, canonically."""
        ...

    def theorem(self) -> list[str]:
        """What holds if the claim does, as lines of text."""
        ...

    def assumed(self) -> list[str]:
        """What it rests on, and what it does not cover, in sentences."""
        ...


@dataclass(frozen=True, eq=False)
class MarkQuestion:
    """Is the claim true?

    Attributes:
        models: the files, by name.
        mark: ``None`` where the claim speaks of none.
        claim: about them.
        title: how to call the question.
    """

    models: Mapping[str, ModelFile]
    mark: Mark | None
    claim: Claim
    title: str

    @cached_property
    def digest(self) -> str:
        """Canonical hash of the whole question."""
        parts = ["farkas-mark-question-1", *(file.digest for file in self.models.values())]
        if self.mark is not None:
            parts += [self.mark.text, self.mark.commitment.hash]
        parts += [self.claim.kind, self.claim.text]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def load_mark_question(path: str | Path) -> MarkQuestion:
    """The question that a file states.

    Raises:
        InputError: the file is malformed, or something it names is not there or does not fit.
    """
    document = read_document(Path(path))
    for key, value in document.tables.items():
        if key in ("models", MARK, CLAIM):
            document.table(key)
            continue
        document.check("", key, value, {"title": (str,)}, ("[models]", f"[{MARK}]", f"[{CLAIM}]"))
    models = _models(document)
    mark = None
    if MARK in document.tables:
        mark = scheme(_one_of(document, MARK, "scheme", SCHEMES)).read(document)
    stated = claim(_one_of(document, CLAIM, "kind", CLAIMS)).read(document, models, mark)
    title = document.tables.get("title", Path(path).name)
    return MarkQuestion(models, mark, stated, title)


def _one_of(document: Document, table: str, key: str, known: tuple[str, ...]) -> str:
    name = document.table(table).get(key)
    if name not in known:
        listed = ", ".join(f"'{each}'" for each in known)
        raise document.error(table, key, f"{key} {name!r:.40} is none of {listed}")
    return str(name)


def _models(document: Document) -> dict[str, ModelFile]:
    found = {}
    for name, file in document.table("models").items():
        if not isinstance(file, str):
            raise document.error("models", name, f"'{name}' must be the name of a file")
        found[name] = read_model(document.folder / file)[1]
    if not found:
        raise document.error("", "models", '[models] must hold a line, NAME = "FILE.onnx"')
    return found


def only(document: Document, models: Mapping[str, ModelFile]) -> ModelFile:
    """The one model of a claim that speaks of one.

    Raises:
        QuestionError: there are several.
    """
    if len(models) != 1:
        raise document.error("models", "", "this kind of claim speaks of one model")
    return next(iter(models.values()))


def marked(document: Document, mark: Mark | None) -> Mark:
    """The mark of a claim that needs one.

    Raises:
        QuestionError: there is none.
    """
    if mark is None:
        raise document.error(CLAIM, "kind", f"this kind of claim needs a mark, [{MARK}]")
    return mark


def at(document: Document, key: str, error: InputError, table: str = CLAIM) -> QuestionError:
    """An error that is said to be at a key."""
    return document.error(table, key, str(error))
