"""The rows that a run of questions leaves behind, and the table made of them."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """The result of one query.

    Attributes:
        key: benchmark, model and property.
        benchmark, expected, limit: from the list.
        answer: ``unsat``, ``sat``, ``unknown``, ``timeout``, ``refused`` (the model or
            the property has a part without a rule) or ``error`` (a fault of ours).
        reason: in words.
        claim: an answer that its evidence did not bear out.
        wall, cpu: seconds from start to verdict, reading included.
        search_wall, search_cpu: of the kernel without hints, attacks and the search.
        minimise_wall, minimise_cpu: of making proofs smaller.
        check_wall, check_cpu: of the kernel on the search's proofs.
        searched: whether a search was needed; ``splits``: what its proof splits, if anything.
        torch: whether a member that needs torch ran.
        leaves, proof_bytes: of the proof.
        inside: whether a witness's float32 rounding lies in the region itself.
        evidence: file, relative to the results.
    """

    key: str
    benchmark: str
    expected: str
    limit: float
    answer: str
    reason: str = ""
    claim: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    search_wall: float = 0.0
    search_cpu: float = 0.0
    minimise_wall: float = 0.0
    minimise_cpu: float = 0.0
    check_wall: float = 0.0
    check_cpu: float = 0.0
    searched: bool = False
    splits: str = ""
    torch: bool = False
    leaves: int = 0
    proof_bytes: int = 0
    inside: bool = True
    evidence: str = ""

    @property
    def wrong(self) -> bool:
        """Whether the answer contradicts the expected one."""
        known = ("unsat", "sat")
        return self.answer in known and self.expected in known and self.answer != self.expected

    @property
    def demoted(self) -> bool:
        """Whether an answer was given up because its evidence failed."""
        if self.answer not in ("unknown", "timeout"):
            return False
        return self.claim == "sat" or (self.claim == "unsat" and self.answer == "unknown")

    def line(self) -> str:
        """The row for a log."""
        mark = " WRONG" if self.wrong else ""
        text = f"{self.answer}{mark} {self.wall:.2f} s  {self.key}"
        return text if self.answer in ("unsat", "sat") else f"{text}  ({self.reason})"

    def cells(self) -> dict[str, object]:
        """The row for a CSV file."""
        return dataclasses.asdict(self)

    @staticmethod
    def parse(cells: Mapping[str, str]) -> Row:
        """The row that :meth:`cells` was written from."""
        values: dict[str, object] = {}
        for field in dataclasses.fields(Row):
            if field.name in cells:  # a file of an older version lacks some
                values[field.name] = _PARSERS[str(field.type)](cells[field.name])
        return Row(**values)  # type: ignore[arg-type]


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "str": str,
    "float": float,
    "int": int,
    "bool": lambda text: text == "True",
}

_COLUMNS = (
    "benchmark",
    "queries",
    "unsat, valid proof",
    "sat, replayed witness",
    "undecided",
    "refused",
    "error",
    "wrong",
    "demoted",
    "search CPU s",
    "search wall s",
    "check CPU s",
    "check wall s",
    "proof bytes",
)


def table(rows: Sequence[Row]) -> str:
    """A Markdown table by benchmark, and lists of whatever wants explaining.

    Seconds and bytes are given as median / sum.  Search seconds are over all queries that
    were read; check seconds and bytes over the proofs.
    """
    names = sorted({row.benchmark for row in rows})
    lines = [
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" * len(_COLUMNS) + "|",
        *(_line(name, [row for row in rows if row.benchmark == name]) for name in names),
    ]
    if len(names) > 1:
        lines.append(_line("all", rows))
    lines += ["", "Seconds and bytes: median / sum.", ""]
    searched = [row for row in rows if row.answer == "unsat" and row.searched]
    if searched:
        lines += ["Check CPU over search CPU, unsat that needed a search:", ""]
        for splits in sorted({row.splits for row in searched}):
            own = [row for row in searched if row.splits == splits]
            ratios = [row.check_cpu / max(row.search_cpu, 1e-9) for row in own]
            what = f"splits on {splits}" if splits else "no splits"
            lines += [f"- {what}: median {median(ratios):.2f}, {len(own)} proofs"]
        lines += [""]
    lines += _listed("Wrong", [row for row in rows if row.wrong])
    lines += _listed("Demoted", [row for row in rows if row.demoted])
    lines += _listed("Errors", [row for row in rows if row.answer == "error"])
    outside = [row for row in rows if row.answer == "sat" and not row.inside]
    lines += _listed("Witnesses whose float32 rounding lies outside the region", outside)
    refused = Counter(
        (row.benchmark, ", ".join(operators(row.reason)) or row.reason)
        for row in rows
        if row.answer == "refused"
    )
    if refused:
        lines += ["Refused, with the operators that have no rule:", ""]
        lines += [f"- {name}, {n} times: {why}" for (name, why), n in sorted(refused.items())]
        lines += [""]
    return "\n".join(lines)


def operators(reason: str) -> list[str]:
    """The operators that a refusal names, each once, in alphabetical order.

    >>> operators("operators without a rule: Sin (tensor 'a', node 1 of 3): Sin has no rule")
    ['Sin']
    """
    return sorted(set(re.findall(r"(\w+) \(tensor ", reason)))


def _line(name: str, rows: Sequence[Row]) -> str:
    def count(*answers: str) -> int:
        return sum(row.answer in answers for row in rows)

    ran = [row for row in rows if row.answer not in ("refused", "error")]
    proved = [row for row in ran if row.answer == "unsat"]
    checked = [row for row in proved if row.searched]
    cells = [
        name,
        str(len(rows)),
        str(count("unsat")),
        str(count("sat")),
        str(count("unknown", "timeout")),
        str(count("refused")),
        str(count("error")),
        str(sum(row.wrong for row in rows)),
        str(sum(row.demoted for row in rows)),
        _spread([row.search_cpu for row in ran], "{:.2f} / {:.0f}"),
        _spread([row.search_wall for row in ran], "{:.2f} / {:.0f}"),
        _spread([row.check_cpu for row in checked], "{:.2f} / {:.0f}"),
        _spread([row.check_wall for row in checked], "{:.2f} / {:.0f}"),
        _spread([float(row.proof_bytes) for row in proved], "{:.0f} / {:.0f}"),
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(values: Sequence[float], form: str) -> str:
    return form.format(median(values), sum(values)) if values else "-"


def _listed(title: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    listed = [
        f"- {row.key}: {row.answer}, expected {row.expected or 'nothing'}; {row.reason}"
        for row in rows
    ]
    return [f"{title}:", "", *listed, ""]
