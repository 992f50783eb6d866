"""What can be said of probabilities, measured and proved: all sections, or some.

    python -m benchmarks.probability --out runs/probability [--only robustness,smoothing] [--again]

Sections write ``NAME.md`` and ``NAME.json`` (and pictures) into the folder; those that are there
are not made again.  ``probability.md`` holds all of them.
"""

from __future__ import annotations

import sys

from benchmarks.sections import main

SECTIONS = {
    "robustness": (
        "benchmarks.probability_robustness",
        "Probabilistic robustness of digits models, sampled",
    ),
    "coverage": ("benchmarks.probability_coverage", "Coverage of the intervals, simulated"),
    "smoothing": ("benchmarks.probability_smoothing", "Randomized smoothing, sampled"),
    "violation": ("benchmarks.violation", "Probability of a violation, proved"),
    "lipschitz": ("benchmarks.lipschitz", "Lipschitz constants, proved"),
}
"""By name: the module, whose ``section(out)`` gives text and data, and a title."""

if __name__ == "__main__":
    sys.exit(main(__doc__, SECTIONS, "probability.md"))
