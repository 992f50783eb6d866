"""What the numbers of a report rest on: evidence that is checked again, evaluation, or samples.

Every part says it of its own; this says it once for all, and what holds of the samples together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from verifier.certify.delivery import BY_EVALUATION, BY_EVIDENCE, BY_SAMPLES, Measured
from verifier.certify.section import Part, below

BASES = {
    BY_EVIDENCE: "proved or refuted, by files that farkas check checks again",
    BY_EVALUATION: "proved or refuted, by evaluation that cannot round the wrong way, without a "
    "file that another program could check",
    BY_SAMPLES: "measured, not proved: what is called sampled or measured holds with a confidence",
}
"""By what a part rests on, what its numbers then are."""


def together(measured: Iterable[Measured]) -> Fraction:
    """The confidence with which all of these hold, however they depend on each other.

    The probabilities that one fails are added (Bonferroni's inequality).
    """
    return max(Fraction(0), 1 - sum((each.risk for each in measured), Fraction(0)))


def standing(parts: Sequence[Part]) -> tuple[str, ...]:
    """What the numbers of some parts rest on, and with which confidence they hold together."""
    kinds = {kind for part in parts for kind in part.basis}
    lines = [f"{kind}: {words}" for kind, words in BASES.items() if kind in kinds]
    lines += [f"{part.title}: {in_words(each)}" for part in parts for each in part.measured]
    every = [each for part in parts for each in part.measured]
    if sum(each.statements for each in every) > 1:
        lines.append(_jointly("all that is measured here", every))
    judged = [each for each in every if each.judged]
    if judged and len(judged) < len(every):
        lines.append(_jointly("what the thresholds about samples rest on", judged))
    return tuple(lines)


def in_words(measured: Measured) -> str:
    """Which statements, and with which confidence."""
    sure = below(measured.confidence, 8)
    if measured.statements == 1:
        return f"{measured.what}, with confidence {sure}"
    return f"{measured.what}, {measured.statements} statements, each alone with confidence {sure}"


def _jointly(what: str, measured: Sequence[Measured]) -> str:
    sure = together(measured)
    if not sure:
        return f"{what}: of all of it together nothing follows, the risks add up to 1 or more"
    return f"{what}: all of it together with confidence {below(sure, 8)} at least, by adding risks"
