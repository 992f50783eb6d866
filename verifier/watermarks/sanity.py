"""Is a trigger an adversarial neighbour of an honest input?

A trigger ``T`` is one of a sample ``x``, for a reference model ``R`` and a distance ``r``, if
``|T - x| <= r`` in every entry and ``R(x) != R(T)``.  Either of two statements excludes that:

* ``R`` has one label on the whole box around ``T``: then no input whatever is such an ``x``;
* no sample of a stated set of honest ones lies in that box: then none of *these* is.

The first is an ordinary question, the second a claim of kind ``apart``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from proofs.evaluate import evaluate
from specs.errors import QuestionError
from specs.network import Network
from specs.query import ModelFile
from specs.watermarks.samples import Labelled
from verifier.certify.questions import Answered, Question, ask, box_around
from verifier.certify.section import Place
from verifier.toml import document

Clip = tuple[Fraction, Fraction] | None


@dataclass(frozen=True)
class Sane:
    """What is known of one trigger.

    Attributes:
        label: what the reference model says of it.
        answered: whether the model says the same on the whole box.
    """

    label: int
    answered: Answered


def reference_label(network: Network, point: Sequence[Fraction]) -> int:
    """The class whose logit certainly exceeds all others.

    Raises:
        QuestionError: there is none.
    """
    values = evaluate(network, point)
    best = max(range(len(values)), key=lambda k: values[k][0])
    centre, radius = values[best]
    others = (c + r for k, (c, r) in enumerate(values) if k != best)
    if any(other >= centre - radius for other in others):
        raise QuestionError("the reference model has no certain label at a trigger: a tie, nearly")
    return best


def ball_question(
    point: Sequence[float], label: int, radius: Fraction, clip: Clip = None
) -> Question:
    """That a model has one label on the box around a trigger.

    Raises:
        QuestionError: the clip leaves nothing of the box.
    """
    return Question(box_around(point, radius, clip), {"kind": "robust", "label": label})


def robust_around(
    place: Place,
    reference: ModelFile,
    network: Network,
    triggers: Labelled,
    radius: Fraction,
    timeout: float,
    clip: Clip = None,
) -> list[Sane]:
    """Ask of every trigger whether the reference model has one label around it.

    Args:
        place: where evidence is kept.
        reference: the model's file; ``network``: what it holds.
        triggers: whose own labels do not matter here.
        radius: of the boxes, in every entry.
        timeout: for each trigger, in seconds.
        clip: what every input lies in, honest ones included.

    Raises:
        InputError: a question makes no sense.
    """
    found = []
    for point in triggers.points.tolist():
        label = reference_label(network, [Fraction(x) for x in point])
        answered = ask(place, reference, ball_question(point, label, radius, clip), timeout)
        found.append(Sane(label, answered))
    return found


def apart_text(model: str, samples: str, others: str, radius: Fraction) -> str:
    """A question file: that no sample of ``others`` lies within a radius of one of ``samples``."""
    claim = {"kind": "apart", "samples": samples, "others": others, "radius": radius}
    return document({"models": {"net": model}, "claim": claim})
