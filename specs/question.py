"""Loading a question: a model and a property, or one TOML file that names both."""

from __future__ import annotations

from pathlib import Path

from specs.errors import QuestionError
from specs.onnx_reader import read_model
from specs.property_reader import read_property
from specs.query import Query

__all__ = ["load_question", "read_property"]


def load_question(*paths: str | Path) -> Query:
    """The query that ``NET.onnx PROPERTY.vnnlib`` or ``QUESTION.toml`` states.

    Raises:
        ModelError: the model cannot be read.
        PropertyError: the property cannot be read or does not fit the model.
        QuestionError: the question file is malformed, or the paths are neither of the two.
    """
    if len(paths) == 2:
        network, model = read_model(Path(paths[0]))
        stated, digest = read_property(paths[1], network)
        title = " ".join(Path(path).name for path in paths)
        return Query(network, stated, (model,), digest, title=title)
    raise QuestionError(
        "a question is a model and a property (NET.onnx PROPERTY.vnnlib) or a QUESTION.toml; "
        f"{len(paths)} files were given"
    )
