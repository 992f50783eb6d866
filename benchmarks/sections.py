"""Benchmarks made of sections, each kept in a folder and made once.

A section is a module with a function ``section(out) -> (text, data)``: Markdown, and plain data.
``NAME.md`` and ``NAME.json`` are written into the folder, and a page that holds all of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from proofs.format import replacing


def write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    with replacing(path) as stream:
        stream.write(text.encode())


def main(description: str, sections: Mapping[str, tuple[str, str]], page: str) -> int:
    """Make what is missing, and print everything.

    Args:
        description: of the benchmark.
        sections: by name the module and a title.
        page: the file that holds all sections.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(sections))
    parser.add_argument("--again", action="store_true", help="make sections anew")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name]
    for name in wanted:
        if name not in sections:
            parser.error(f"no section '{name}'; there are {', '.join(sections)}")
    options.out.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if (options.out / f"{name}.md").exists() and not options.again:
            continue
        print(f"{name} ...", file=sys.stderr)
        module, title = sections[name]
        start, cpu = time.monotonic(), time.process_time()
        text, data = importlib.import_module(module).section(options.out)
        spent = f"{time.monotonic() - start:.0f} s, {time.process_time() - cpu:.0f} CPU s"
        write(options.out / f"{name}.json", json.dumps(data, indent=1) + "\n")
        write(options.out / f"{name}.md", f"## {title}\n\n{text}\n{spent}\n")
    made = (options.out / f"{name}.md" for name in sections)
    whole = "\n".join(path.read_text() for path in made if path.exists())
    write(options.out / page, whole)
    print(whole, end="")
    return 0
