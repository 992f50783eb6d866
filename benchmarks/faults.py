"""What can be said of faults, proved and counted: all sections, or some.

    python -m benchmarks.faults --out runs/faults [--only maps,regions] [--again]

Sections write ``NAME.md`` and ``NAME.json`` (and pictures) into the folder; those that are there
are not made again.  ``faults.md`` holds all of them.
"""

from __future__ import annotations

import sys

from benchmarks.sections import main

SECTIONS = {
    "maps": ("benchmarks.fault_maps", "Single flips at test points"),
    "regions": ("benchmarks.fault_regions", "Single flips over boxes, proved"),
    "layers": ("benchmarks.fault_layers", "Two and four flips anywhere in a layer"),
    "tampering": ("benchmarks.fault_tampering", "Proofs of faults, tampered with"),
    "several": ("benchmarks.fault_several", "Several flips at test points"),
    "hardening": ("benchmarks.hardening", "Certified range restrictions"),
    "protections": ("benchmarks.protections", "Protections compared"),
    "bfa": ("benchmarks.bfa", "Up to four flips in one int8 parameter"),
}
"""By name: the module, whose ``section(out)`` gives text and data, and a title."""


if __name__ == "__main__":
    sys.exit(main(__doc__, SECTIONS, "faults.md"))
