"""Questions that are written and read once before any work begins, where nothing stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from specs.errors import InputError
from verifier.certify.section import Place
from verifier.certify.table import Table
from verifier.progress import Progress


def rehearse(table: Table, ask: Callable[[Place], object]) -> None:
    """A question makes sense.

    Args:
        table: that states it, in a property file where it has a key ``property``.
        ask: writes it at a place, and reads it.

    Raises:
        QuestionError: it makes none; the message says so of the table, or of the property file.
    """
    with TemporaryDirectory() as folder:
        try:
            ask(Place(Path(folder), Path(folder), Progress(enabled=False)))
        except InputError as error:
            file = table.text("property")
            words = str(error)
            if file is not None:
                path = str(table.document.folder / file)
                words = re.sub(rf"^{re.escape(folder)}[^:]*\.vnnlib", lambda _: path, words)
            # Nobody has seen the question file, which is gone.
            words = re.sub(rf"^{re.escape(folder)}[^:]*:(\d+:\d+:)? *", "", words)
            raise table.error("" if file is None else "property", words) from None
