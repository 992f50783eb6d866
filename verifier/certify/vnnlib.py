"""The section ``[vnnlib]``: property files as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial

from specs.property_reader import read_property
from specs.source import read_source
from verifier.certify.inquiry import Inquiry, Item, Posed
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


def _vnnlib(setting: Setting, table: Table) -> Inquiry:
    subject = Subject.of(setting, table)
    names = table.strings("properties")
    if not names:
        raise table.error("properties", "'properties' must list one property file or more")
    holds = table.share("holds")
    table.done()
    items = []
    for name in names:
        path = setting.document.folder / name
        table.placed("properties", partial(read_property, path, subject.network))
        text = read_source(path)[0].text.encode()

        def pose(content: bytes, _: Place) -> Posed:
            return subject.model, Stated(content)

        depends = (subject.model.digest, hashlib.sha256(text).hexdigest())
        items.append(Item(name, depends, partial(pose, text)))
    return Inquiry(
        "vnnlib",
        f"Properties of {subject.name}",
        ("proved: no input of the file's region reaches its outputs (unsat)",),
        tuple(items),
        setting,
        holds,
        "share of the property files that hold",
    )
