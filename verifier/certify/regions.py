"""Regions that questions name: a property file's, a box, or boxes around samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from specs.source import read_source
from verifier.certify.questions import box_around
from verifier.certify.section import Setting
from verifier.certify.table import Table


@dataclass(frozen=True, eq=False)
class Region:
    """A region that a question is about.

    Attributes:
        title: of the question.
        stated: the table ``[region]`` of its file.
        beside: the content of the property file that this names; ``None``: it names none.
        label: the class of the sample that it lies around; ``None``: none is known.
    """

    title: str
    stated: Mapping[str, Any]
    beside: bytes | None = None
    label: int | None = None


def regions_of(
    setting: Setting, table: Table, title: str, *, labelled: bool = False
) -> Sequence[Region]:
    """What ``property``; ``lower``, ``upper``; or ``radius``, ``clip``, ``first`` of a table name.

    Args:
        title: how to call the question.
        labelled: samples need labels.

    Raises:
        QuestionError: none of these, or several, or they make no region.
    """
    file = table.text("property")
    radius, clip = table.number("radius", None, 0), table.interval("clip")
    first = table.integer("first", None, 1)
    box = {key: table.numeric(key) for key in ("lower", "upper") if table.has(key)}
    if sum([file is not None, radius is not None, bool(box)]) != 1:
        raise table.error("", "say one of 'property', 'lower' and 'upper', or 'radius'")
    if radius is None and (clip is not None or first is not None):
        raise table.error("clip" if clip else "first", "goes with 'radius' only")
    if file is not None:
        path = setting.document.folder / file
        content = table.placed("property", lambda: read_source(path)[0].text)
        return [Region(title, {"file": file}, content.encode())]
    if radius is None:
        return [Region(title, box)]
    if setting.data is None or (labelled and setting.data.labels is None):
        raise table.error("radius", f"'radius' needs [data]{' with labels' if labelled else ''}")
    data, made = setting.data.first(first), []
    for place, (point, number) in enumerate(zip(data.points, data.numbers, strict=True)):
        lower, upper = table.placed("radius", lambda point=point: box_around(point, radius, clip))
        label = None if data.labels is None else int(data.labels[place])
        sides = {"lower": list(lower), "upper": list(upper)}
        made.append(Region(f"{title}, sample {number}", sides, label=label))
    return made
