"""A question about bit faults as the text of a file, with the same digest."""

from __future__ import annotations

from specs.errors import QuestionError
from specs.faults.formats import FixedFormat
from specs.faults.memory import Choice, Quantised
from specs.faults.models import BitFaults, BitFlips, StuckAt
from specs.faults.struck import faults_of
from specs.property import Property
from specs.query import Query
from verifier.toml import toml


def question_text(query: Query, model: str, title: str = "") -> str:
    """A file of a question that says that one output exceeds all others on a box.

    Args:
        query: of ``bit_flips`` or ``stuck_at``.
        model: the model's file, as the file is to name it.
        title: how messages are to call the question.

    Raises:
        QuestionError: the question has no such form.
    """
    faults = faults_of(query)
    if faults is None or faults.cells is None:
        raise QuestionError("a question about other things than bit faults has no text here")
    (case,) = query.property.cases if len(query.property.cases) == 1 else (None,)
    label = None if case is None else predicted(query.property)
    if case is None or label is None or case.constraints or case.strict_lower or case.strict_upper:
        raise QuestionError("only boxes on which one output exceeds all others have a text")
    lines = [f"title = {toml(title)}"] if title else []
    lines += ["[models]", f"net = {toml(model)}", "", "[faults]", *_model(faults.cells.model)]
    lines += ["", "[region]"]
    lines += [
        f"{key} = {toml(ends)}" for key, ends in (("lower", case.lower), ("upper", case.upper))
    ]
    lines += ["", "[statement]", 'kind = "robust"', f"label = {label}"]
    return "\n".join(lines) + "\n"


def predicted(region: Property) -> int | None:
    """The output that has to exceed all others, where that is what a property of one case says."""
    (case,) = region.cases
    found: int | None = None
    others: set[int] = set()
    for disjunct in case.unsafe:
        if len(disjunct) != 1 or disjunct[0].inputs or disjunct[0].constant or disjunct[0].strict:
            return None
        outputs = dict(disjunct[0].outputs)
        if sorted(outputs.values()) != [-1, 1]:
            return None
        label = next(k for k, value in outputs.items() if value == 1)
        if found not in (None, label):
            return None
        found = label
        others |= outputs.keys() - {label}
    return found if len(others) == region.output_size - 1 else None


def _model(model: BitFaults) -> list[str]:
    kind = "bit_flips" if isinstance(model, BitFlips) else "stuck_at"
    lines = [f'model = "{kind}"', f"k = {model.k}", *_format(model.format)]
    if model.per_word:
        lines.append("per_word = true")
    if isinstance(model, StuckAt) and model.reads is not None:
        lines.append(f"reads = {model.reads}")
    for name in ("tensors", "layers", "channels", "bits"):
        given = getattr(model.where, name)
        if given is not None:
            lines.append(f"{name} = {toml(given)}")
    if model.spared.cells:
        cells = (toml(cell) for cell in model.spared.cells)
        lines.append("except = [\n" + "".join(f"  {cell},\n" for cell in cells) + "]")
    return lines


def _format(choice: Choice) -> list[str]:
    if choice is None:
        return []
    if isinstance(choice, FixedFormat):
        return [f'format = "{choice.name}"']
    if not isinstance(choice, Quantised):
        return [f'format = "{choice.name}"']
    lines = [f'format = "{"" if choice.signed else "u"}int{choice.bits}"']
    if choice.axis is not None:
        lines.append(f"axis = {choice.axis}")
    if choice.scale is None:
        return lines
    if choice.axis is None:
        return [*lines, f"scale = {toml(choice.scale[0])}", f"zero = {toml(choice.zero[0])}"]
    return [*lines, f"scale = {toml(choice.scale)}", f"zero = {toml(choice.zero)}"]
