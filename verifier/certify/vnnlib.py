"""The section ``[vnnlib]``: property files as they are."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial

from specs.property import Property
from specs.property_reader import read_property
from specs.source import read_source
from verifier.certify.delivery import image_shape
from verifier.certify.inquiry import Inquiry, Item, Posed
from verifier.certify.pairs import Near, Paired
from verifier.certify.questions import Stated
from verifier.certify.section import Answer, Place, Setting
from verifier.certify.subject import Subject
from verifier.certify.table import Table


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[vnnlib]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [_vnnlib(setting, table) for table in Table.several(setting.document, "vnnlib")]


def _paired(name: str, stated: Property, shape: tuple[int, int, int] | None) -> Paired | None:
    """Counterexamples are shown beside the middle of the region, if there is one region."""
    boxes = list(dict.fromkeys((case.lower, case.upper) for case in stated.cases))
    if len(boxes) != 1:
        return None
    size = len(boxes[0][0])
    return Near.middle(name, boxes[0], shape if shape and math.prod(shape) == size else None).pair


def _vnnlib(setting: Setting, table: Table) -> Inquiry:
    subject = Subject.of(setting, table)
    names = table.strings("properties")
    if not names:
        raise table.error("properties", "'properties' must list one property file or more")
    holds = table.share("holds")
    table.done()
    shape = None if setting.data is None else image_shape(setting.data.shape)
    items = []
    for name in names:
        path = setting.document.folder / name
        stated, _ = table.placed("properties", partial(read_property, path, subject.network))
        text = read_source(path)[0].text.encode()

        def pose(content: bytes, _: Place) -> Posed:
            return subject.model, Stated(content)

        depends = (subject.model.digest, hashlib.sha256(text).hexdigest())
        items.append(Item(name, depends, partial(pose, text), _paired(name, stated, shape)))
    return Inquiry(
        "vnnlib",
        f"Properties of {subject.name}",
        ("proved: no input of the file's region reaches its outputs (unsat)",),
        tuple(items),
        setting,
        holds,
        "share of the property files that hold",
    )
