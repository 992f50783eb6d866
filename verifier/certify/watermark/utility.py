"""Whether the marked model and the unmarked one agree, on all inputs of regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from verifier.certify.faults import agreement
from verifier.certify.faults.agreement import Agreement
from verifier.certify.section import Part, Record, Task
from verifier.certify.table import Table
from verifier.certify.watermark.common import Marked, plain

APART = (
    "not covered: how well either model does its task; that they agree says nothing about removing "
    "the mark ([watermark.removal] states both at once)"
)


@dataclass(frozen=True, eq=False)
class Utility:
    """The answer ``[watermark.utility]``.

    Attributes:
        agreement: of the two models.
    """

    agreement: Agreement

    def tasks(self) -> Sequence[Task]:
        """One for each region and statement."""
        return self.agreement.tasks()

    def conclude(self, records: Sequence[Record]) -> Part:
        """On how many regions they agree."""
        part = self.agreement.conclude(records)
        return replace(
            part,
            title=f"Utility: {part.title.lower()}",
            assumptions=(*part.assumptions, APART),
        )


def read(marked: Marked, table: Table) -> Utility:
    """Keys: those of ``[faults.agreement]``; ``other`` is the unmarked model."""
    return Utility(agreement.read(plain(marked), table))
