"""What can be said of faults, proved and counted: all sections, or some.

    python -m benchmarks.faults --out runs/faults [--only maps,regions] [--again]

Sections write ``NAME.md`` and ``NAME.json`` (and pictures) into the folder; those that are there
are not made again.  ``faults.md`` holds all of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

from proofs.format import replacing

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


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    with replacing(path) as stream:
        stream.write(text.encode())


def main() -> int:
    """Make what is missing, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--again", action="store_true", help="make sections anew")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    for name in wanted:
        if name not in SECTIONS:
            parser.error(f"no section '{name}'; there are {', '.join(SECTIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if (options.out / f"{name}.md").exists() and not options.again:
            continue
        print(f"{name} ...", file=sys.stderr)
        module, title = SECTIONS[name]
        start, cpu = time.monotonic(), time.process_time()
        text, data = importlib.import_module(module).section(options.out)
        spent = f"{time.monotonic() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s"
        write(options.out / f"{name}.json", json.dumps(data, indent=1) + "\n")
        write(options.out / f"{name}.md", f"## {title}\n\n{text}\n{spent}\n")
    made = (options.out / f"{name}.md" for name in SECTIONS)
    whole = "\n".join(path.read_text() for path in made if path.exists())
    write(options.out / "faults.md", whole)
    print(whole, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
