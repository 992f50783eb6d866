"""``answers``: at least so many secret inputs are answered as a black-box mark says.

at_least     how many
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specs.document import Document
from specs.errors import InputError
from specs.network import Network
from specs.onnx_reader import read_model_bytes
from specs.query import ModelFile
from specs.watermarks.mark import AnswerMark, Mark
from specs.watermarks.question import at, marked, only
from specs.watermarks.reading import CLAIM, MARK, Keys


@dataclass(frozen=True, eq=False)
class Answers:
    """The claim.

    Attributes:
        mark: a black-box one.
        network: of the model.
        at_least: matching answers.
    """

    mark: AnswerMark
    network: Network
    at_least: int

    kind = "answers"

    @property
    def text(self) -> str:
        """What it depends on."""
        return f"at least {self.at_least}"

    def theorem(self) -> list[str]:
        """In words."""
        return [
            f"Of the {self.mark.size} inputs of the {self.mark.scheme} mark, at least "
            f"{self.at_least} are answered as the key says.",
            *self.mark.commitment.in_words(),
        ]

    def assumed(self) -> list[str]:
        """What the answer to an input is."""
        return [
            "the model is the function over the real numbers with exactly the stored parameters; "
            "its answer is the class of the largest output, and a tie is no answer"
        ]


def answer_mark(document: Document, mark: Mark | None) -> AnswerMark:
    """A mark that is read from answers.

    Raises:
        QuestionError: there is none, or it is of another kind.
    """
    found = marked(document, mark)
    if not hasattr(found, "matching"):
        raise document.error(MARK, "scheme", f"'{found.scheme}' is not read from answers")
    return found  # type: ignore[return-value]


def answering(document: Document, models: Mapping[str, ModelFile], mark: AnswerMark) -> Network:
    """The network of the model; its inputs and outputs are those of the mark.

    Raises:
        InputError: they are not.
    """
    file = only(document, models)
    folder = None if file.path is None else file.path.parent
    network = read_model_bytes(
        file.content, folder, "the model" if not file.path else file.path.name
    )
    wanted = (mark.points.shape[1], mark.classes)
    found = (network.input_size, network.output_size)
    if wanted != found:
        error = InputError(
            f"the mark is of {wanted[0]} inputs and {wanted[1]} classes, the model has "
            f"{found[0]} inputs and {found[1]} outputs"
        )
        raise at(document, "scheme", error, MARK)
    return network


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> Answers:
    """The claim of a file."""
    table = Keys.of(document, CLAIM, {"kind": (str,), "at_least": (int,)})
    found = answer_mark(document, mark)
    network = answering(document, models, found)
    return Answers(found, network, table.whole("at_least", 0, found.size))
