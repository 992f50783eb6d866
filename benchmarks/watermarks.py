"""What can be known for certain about watermarks: all sections, or some.

    python -m benchmarks.watermarks --out runs/watermarks [--only tails,margins] [--again]

Sections write ``NAME.md`` and ``NAME.json`` (and pictures) into the folder; those that are there
are not made again.  ``watermarks.md`` holds all of them.  Each section goes on where it was
interrupted; models, attacks and evidence lie in folders of their own.
"""

from __future__ import annotations

import sys

from benchmarks.sections import main

SECTIONS = {
    "marked": ("benchmarks.watermarked", "Marked classifiers"),
    "tails": ("benchmarks.watermark_tails", "False claims, against known values"),
    "margins": ("benchmarks.watermark_margins", "Certified budgets of linear marks, and attacks"),
    "attacks": ("benchmarks.watermark_attacks", "Attacks, and what they cost"),
    "survival": ("benchmarks.watermark_survival", "Triggers under changes of all layers"),
    "contradictions": (
        "benchmarks.watermark_contradictions",
        "Attacks within certified budgets",
    ),
    "removal": ("benchmarks.watermark_removal", "The least change of a last layer"),
    "recheck": ("benchmarks.watermark_recheck", "Everything checked again, and tampered with"),
}
"""By name: the module, whose ``section(out)`` gives text and data, and a title."""


if __name__ == "__main__":
    sys.exit(main(__doc__, SECTIONS, "watermarks.md"))
