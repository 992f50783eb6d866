"""The section ``[range]``: an output stays between limits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from specs.builders import out_of_range
from specs.enclosure import FloatArray
from verifier.certify.delivery import Pair
from verifier.certify.inquiry import (
    Inquiry,
    Item,
    Posed,
    asked_of,
    index_of,
    regions_of,
    stated,
)
from verifier.certify.pairs import Near, outputs_at
from verifier.certify.questions import Box
from verifier.certify.section import Answer, Place, Setting, shown
from verifier.certify.subject import Subject
from verifier.certify.table import Table


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[range]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [_range(setting, table) for table in Table.several(setting.document, "range")]


def _range(setting: Setting, table: Table) -> Inquiry:
    subject = Subject.of(setting, table)
    outputs = subject.network.output_size
    regions = regions_of(table, subject)
    output = index_of(table, "output", outputs)
    low, high = table.ratio("minimum"), table.ratio("maximum")
    holds = table.share("holds")
    table.done()
    unsafe = asked_of(table, lambda: out_of_range(outputs, output, low, high))

    def pose(box: Box, _: Place) -> Posed:
        return subject.model, stated(box, unsafe, outputs)

    limits = f"{'' if low is None else shown(low)} to {'' if high is None else shown(high)}"

    def paired(near: Near, point: FloatArray) -> Pair:
        before, after = (
            f"output {output} is {outputs_at(subject.network, x)[output]:.6g}"
            for x in (near.point, point)
        )
        return near.pair(point, before, after)

    items = tuple(
        Item(
            name,
            (subject.model.digest, f"{output} {low} {high}", f"{box}"),
            partial(pose, box),
            partial(paired, near),
        )
        for name, box, near in regions.named
    )
    return Inquiry(
        "range",
        f"Range of output {output} of {subject.name}",
        (f"output {output} lies in the range {limits}; {regions.words}",),
        items,
        setting,
        holds,
        "share of regions with the output in range",
    )
