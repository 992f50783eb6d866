"""The reference of all modules, from their docstrings: ``python docs/make_api.py [FOLDER]``."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = ("farkas", "specs", "proofs", "verifier")


def write(folder: Path, modules: Sequence[str] = MODULES) -> None:
    """Write a page for each module, and an index that searches."""
    import pdoc.render

    import farkas

    # Its names are looked up on first use; pdoc reads those that are there.
    vars(farkas).update({name: getattr(farkas, name) for name in farkas.__all__})
    pdoc.render.configure(docformat="google", show_source=False, footer_text="Farkas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # annotations that only type checkers read
        pdoc.pdoc(*modules, output_directory=folder)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/api")
