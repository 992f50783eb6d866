"""``overwriting``: no allowed change writes a mark, so that ``at_least`` of its bits match.

at_least     how many

What may change is in ``specs.watermarks.allowed``.
"""

from __future__ import annotations

from collections.abc import Mapping

from specs.document import Document
from specs.query import ModelFile
from specs.watermarks.allowed import KEYS, read_allowed
from specs.watermarks.claims.persistence import ChangedWeights, read_tensor
from specs.watermarks.mark import Mark
from specs.watermarks.reading import CLAIM, Keys
from specs.watermarks.rows import Demand, rows_of_system


def read(document: Document, models: Mapping[str, ModelFile], mark: Mark | None) -> ChangedWeights:
    """The claim of a file."""
    table = Keys.of(document, CLAIM, {**KEYS, "at_least": (int,)})
    found, parameter, system = read_tensor(document, models, mark)
    count = table.whole("at_least", 1, found.size)
    demand = Demand(rows_of_system(system, parameter.size), system.bits, count)
    says = (
        f"No allowed change makes {count} of the {found.size} bits of the {found.scheme} mark, "
        f"read from '{found.tensor}', those of its key."
    )
    allowed = read_allowed(table, parameter)
    return ChangedWeights("overwriting", found, (demand,), allowed, says)
