"""The tensor that carries a white-box mark, as a model file stores it."""

from __future__ import annotations

from onnx import ModelProto

from specs.errors import ModelError, QuestionError
from specs.faults.placed import Parameter, place_model
from specs.query import ModelFile

FLOATS = ("float16", "bfloat16", "float32", "float64")


def marked_tensor(file: ModelFile, name: str) -> Parameter:
    """An initializer of floats on which the network's outputs depend.

    A tensor that no output depends on could be added to any model, so it carries no mark.

    Raises:
        ModelError: there is no such initializer; or the model, or an operator that reads it, has
            no rule.
        QuestionError: it holds no floats, or no output depends on it.
    """
    known = [each.name for each in ModelProto.FromString(file.content).graph.initializer]
    if name not in known:
        raise ModelError(
            f"the model has no initializer '{name}' (but {', '.join(known) or 'none'}); exporters "
            "that fold batch normalisation into a convolution rename and rescale its weights"
        )
    placed = place_model(file, (name,))
    parameter = placed.parameters[name]
    if parameter.kind not in FLOATS:
        raise QuestionError(f"'{name}' holds {parameter.kind}, not floats; restore the scale first")
    if not placed.of[name]:
        raise QuestionError(f"no output of the model depends on '{name}'")
    return parameter
