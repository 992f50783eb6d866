"""The section ``[agreement]``: two models on the same inputs; as ``[faults.agreement]``."""

from __future__ import annotations

from collections.abc import Sequence

from verifier.certify.faults import agreement
from verifier.certify.faults.common import Faults
from verifier.certify.section import Answer, Setting
from verifier.certify.subject import Subject
from verifier.certify.table import Table


def read(setting: Setting) -> Sequence[Answer]:
    """The answers of one table ``[agreement]`` or of several.

    Raises:
        InputError: one is malformed; the message says where.
    """
    return [_agreement(setting, table) for table in Table.several(setting.document, "agreement")]


def _agreement(setting: Setting, table: Table) -> Answer:
    subject = Subject.of(setting, table)
    found = agreement.read(Faults(setting, table, subject.path, None, {}), table)
    table.done()
    return found
