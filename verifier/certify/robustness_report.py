"""What ``[robustness]`` says of its results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from verifier.certify.faults import common
from verifier.certify.section import Part, Record, Rows, at_least, shown
from verifier.certify.sweep import CERTIFIED, VIOLATED

if TYPE_CHECKING:
    from verifier.certify.robustness import Robustness

NORM_WORDS = {"linf": "L-infinity", "l1": "L1", "l2": "L2"}
ENCLOSED = (
    "an L2 ball is enclosed by the L-infinity ball of its radius and the L1 ball of sqrt(n) times "
    "that: a proof holds in the ball, and what is left open may hold"
)


def part(answer: Robustness, records: Sequence[Record]) -> Part:
    """Lines, thresholds, the table by radius, the table by sample, and the curve."""
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
        *(() if clean is None else (f"clean accuracy {shown(clean)}, of {total} samples",)),
        *(
            f"{name}: certified for {_of(low, total)} of {total} samples, violated for "
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
            shown(low),
            shown(high),
        )
        for name, low, high in zip(names, certain, possible, strict=True)
    )
    head = ("radius", "certified", "violated", "open", f"{what}, at least", "at most")
    tables = (
        Rows("By radius", head, radius_rows),
        Rows(
            "By sample",
            ("sample", "class", "predicted", "certified to", "violated from", "questions", "s"),
            tuple(
                _row(int(number), record, names)
                for number, record in zip(answer.data.numbers, records, strict=True)
            ),
        ),
    )
    drawings = ()
    if len(names) > 1:
        drawings = ((f"{what.capitalize()} by radius", _curve(answer, certain, possible, clean)),)
    assumed = (common.REAL_ARITHMETIC, common.SAMPLES)
    if answer.change.norm == "l2":
        assumed = (*assumed, ENCLOSED)
    title = f"Robustness of {answer.subject.name}, {NORM_WORDS[answer.change.norm]}"
    return Part(title, tuple(lines), assumed, tuple(judged), facts, tables, drawings)


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
    return ", ".join(parts)


def origins(questions: Any) -> tuple[str, ...]:
    """Where the answers are from, in a line."""
    counts: Counter[str] = Counter()
    for each in questions:
        counts[each["origin"] if each["answer"] in ("sat", "unsat") else "left open"] += 1
    words = {
        "searched": "found by a search",
        "kept": "by evidence that was there, checked",
        "reused": "by a proof of another model, as it was",
        "mended": "by such a proof, mended",
        "left open": "left open",
    }
    listed = ", ".join(f"{counts[key]} {words[key]}" for key in words if counts[key])
    return (f"{counts.total()} questions: {listed}",) if listed else ()


def _name(radius: Fraction) -> str:
    return shown(radius)


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


def _curve(
    answer: Robustness,
    certain: Sequence[Fraction],
    possible: Sequence[Fraction],
    clean: Fraction | None,
) -> Callable[[Any], None]:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        x = [float(radius) for radius in answer.radii]
        low, high = ([float(v) for v in values] for values in (certain, possible))
        axes.plot(x, high, marker="v", label="at most (violations found)")
        axes.plot(x, low, marker="o", label="certified")
        axes.fill_between(x, low, high, alpha=0.2)
        if clean is not None:
            axes.axhline(float(clean), linestyle=":", label="clean accuracy")
        axes.set_xlabel(f"radius, {NORM_WORDS[answer.change.norm]}")
        axes.set_ylabel("share of samples")
        axes.set_ylim(0, 1.02)
        axes.legend()

    return draw
