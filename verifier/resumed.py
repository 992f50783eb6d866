"""Files that long runs go on from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from specs.errors import InputError
from verifier.progress import Progress

Seen = TypeVar("Seen")


class KeptError(InputError):
    """The file that a run would go on from is damaged, or it is another run's."""


def or_anew(run: Callable[[], Seen], file: Path, progress: Progress) -> Seen:
    """What a run gives that goes on from a file of its own, or begins anew if that is damaged.

    The damaged file is put aside, and standard error says so.

    Args:
        run: goes on from the file, or begins where there is none.
        file: belongs to this run alone, so that what does not fit is damage.
        progress: that a warning must not be mixed with.

    Raises:
        KeptError: by ``run``, without the file.
    """
    try:
        return run()
    except KeptError as error:
        aside = file.with_name(f"{file.name}.damaged")
        file.replace(aside)
        progress.clear()
        print(f"farkas: {error}; begun anew, the file is now {aside.name}", file=sys.stderr)
        return run()
