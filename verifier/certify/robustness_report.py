"""What ``[robustness]`` says of its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from verifier.certify.delivery import (
    BY_EVALUATION,
    BY_EVIDENCE,
    Asked,
    Pair,
    Sweep,
    Swept,
    image_shape,
)
from verifier.certify.faults import common
from verifier.certify.inquiry import origins
from verifier.certify.pairs import SHOWN, class_words, point_of
from verifier.certify.section import Part, Record, Rows, above, at_least, shown
from verifier.certify.sweep import CERTIFIED, VIOLATED

if TYPE_CHECKING:
    from verifier.certify.robustness import Robustness

NORM_WORDS = {"linf": "L-infinity", "l1": "L1", "l2": "L2"}
ENCLOSED = (
    "an L2 ball is enclosed by the L-infinity ball of its radius and the L1 ball of sqrt(n) times "
    "that: a proof holds in the ball, and what is left open may hold"
)


def part(answer: Robustness, records: Sequence[Record]) -> Part:
    """Lines, thresholds, tables by radius and by sample, questions, curve, counterexamples."""
    total = len(records)
    names = [_name(radius) for radius in answer.radii] or ["the box of changes"]
    certain, possible = [], []
    for place in range(len(names)):
        verdicts = [record.values["verdicts"][place] for record in records]
        certain.append(Fraction(verdicts.count(CERTIFIED), total))
        possible.append(Fraction(total - verdicts.count(VIOLATED), total))
    clean = _clean(answer, records)
    subject = "the prediction" if answer.predicted else "the true class"
    lines = [
        f"{answer.subject.name}: {subject} stands, {in_words(answer)}",
        *(
            ()
            if clean is None
            else (f"clean accuracy {_exactly(clean)}, evaluated at {total} samples",)
        ),
        *(
            f"{name}: proved for {_of(low, total)} of {total} samples, refuted for "
            f"{_of(1 - high, total)}, open for {_of(high - low, total)}"
            for name, low, high in zip(names, certain, possible, strict=True)
        ),
        *origins(question for record in records for question in record.values["questions"]),
    ]
    what = "certified stability" if answer.predicted else "certified accuracy"
    judged = []
    for each in answer.thresholds:
        place = 0 if each.radius is None else answer.radii.index(each.radius)
        name = f"{what} at {names[place]}"
        judged.append(at_least(name, each.at_least, certain[place], possible[place]))
    curve = [
        {"radius": name, "certified": str(low), "at_most": str(high)}
        for name, low, high in zip(names, certain, possible, strict=True)
    ]
    facts: dict[str, Any] = {
        "model": answer.subject.name,
        "norm": answer.change.norm,
        "label": "predicted" if answer.predicted else "true",
        "samples": total,
        "clean_accuracy": None if clean is None else str(clean),
        "curve": curve,
        "questions": [
            {"sample": int(number), **question}
            for number, record in zip(answer.data.numbers, records, strict=True)
            for question in record.values["questions"]
        ],
    }
    radius_rows = tuple(
        (
            name,
            str(_of(low, total)),
            str(_of(1 - high, total)),
            str(_of(high - low, total)),
            _exactly(low),
            _exactly(high),
        )
        for name, low, high in zip(names, certain, possible, strict=True)
    )
    head = ("radius", "proved", "refuted", "open", f"{what}, at least", "at most")
    swept = len(answer.radii) > 1
    tables = (
        *(() if swept else (Rows("By radius", head, radius_rows),)),
        Rows(
            "By sample",
            ("sample", "class", "predicted", "proved to", "refuted from", "questions", "seconds"),
            tuple(
                _row(int(number), record, names)
                for number, record in zip(answer.data.numbers, records, strict=True)
            ),
        ),
    )
    points = zip(answer.radii, certain, possible, strict=False)
    norm = NORM_WORDS[answer.change.norm] if answer.radii else "features"
    title = f"Robustness of {answer.subject.name}, {norm}"
    sweep = Sweep(
        f"{what.capitalize()} of {answer.subject.name} by {NORM_WORDS[answer.change.norm]} radius",
        tuple(Swept(*point) for point in points),
        clean,
    )
    assumed: tuple[str, ...] = (common.REAL_ARITHMETIC, common.SAMPLES)
    if answer.change.norm == "l2":
        assumed = (*assumed, ENCLOSED)
    return Part(
        title,
        tuple(lines),
        assumed,
        tuple(judged),
        facts,
        tables,
        asked=tuple(_asked(answer, records)),
        sweeps=(sweep,) if swept else (),
        pairs=tuple(_pairs(answer, records)),
        basis=(BY_EVIDENCE,) if clean is None else (BY_EVIDENCE, BY_EVALUATION),
    )


def in_words(answer: Robustness) -> str:
    """How samples may change."""
    change = answer.change
    parts = []
    if answer.radii:
        parts.append(f"within the radius in {NORM_WORDS[change.norm]}")
    if change.down is not None and change.up is not None:
        free = sum(a > 0 or b > 0 for a, b in zip(change.down, change.up, strict=True))
        parts.append(f"each feature within its own change ({free} of {len(change.up)} may)")
    if change.clip is not None:
        parts.append(f"cut to [{shown(change.clip[0])}, {shown(change.clip[1])}]")
    if change.pixels is not None:
        parts.append("all of pixels before mean and std")
    return ", ".join(parts)


def _name(radius: Fraction) -> str:
    return shown(radius)


def _exactly(share: Fraction) -> str:
    """A share; what is no decimal has one about beside it."""
    text = shown(share)
    return text if "/" not in text else f"{text} (about {float(share):.4f})"


def _of(share: Fraction, total: int) -> int:
    return int(share * total)


def _clean(answer: Robustness, records: Sequence[Record]) -> Fraction | None:
    if answer.predicted:
        return None
    right = sum(record.values["predicted"] == record.values["label"] for record in records)
    return Fraction(right, len(records))


def _row(number: int, record: Record, names: Sequence[str]) -> tuple[str, ...]:
    values: Mapping[str, Any] = record.values
    verdicts: list[str] = values["verdicts"]
    certified = [name for name, v in zip(names, verdicts, strict=True) if v == CERTIFIED]
    violated = [name for name, v in zip(names, verdicts, strict=True) if v == VIOLATED]
    return (
        str(number),
        *("none" if values[key] is None else str(values[key]) for key in ("label", "predicted")),
        certified[-1] if certified else "",
        violated[0] if violated else "",
        str(len(values["questions"])),
        f"{values['seconds']:.2f}",
    )


def _asked(answer: Robustness, records: Sequence[Record]) -> Iterator[Asked]:
    for number, record in zip(answer.data.numbers, records, strict=True):
        for question in record.values["questions"]:
            radius = question["radius"]
            where = f", radius {shown(Fraction(radius))}" if radius else ""
            yield Asked.of(f"sample {number}{where}", question)


def _pairs(answer: Robustness, records: Sequence[Record]) -> Iterator[Pair]:
    """The nearest violation of each of some samples."""
    shape = image_shape(answer.data.shape)
    count = 0
    for index, record in enumerate(records):
        questions = record.values["questions"]
        found = [each for each in questions if each["answer"] == "sat" and each["radius"] != "0"]
        if not found or count == SHOWN:
            continue
        count += 1
        nearest = min(found, key=lambda each: Fraction(each["distance"]))
        changed = point_of(nearest["witness"])
        distance = above(Fraction(nearest["distance"]), 3)
        yield Pair(
            f"sample {answer.data.numbers[index]}, at a distance of {distance}",
            answer.data.points[index],
            changed,
            shape,
            _before(answer, index, record.values["label"]),
            class_words(answer.subject.network, changed),
            pixels=answer.data.pixels,
        )


def _before(answer: Robustness, index: int, label: int | None) -> str:
    """What the model says of a sample, and its label where that is another."""
    found = class_words(answer.subject.network, answer.data.points[index])
    return found if label is None or found == f"class {label}" else f"{found}, labelled {label}"
