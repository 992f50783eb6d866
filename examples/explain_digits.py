"""Draw ``docs/explain.png``: which pixels the proof of an easier digits question rests on.

The question is that of ``holds.vnnlib`` with a tenth of its radius.

    python examples/explain_digits.py [FILE]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import farkas
from proofs.features import layout
from proofs.format import replacing
from specs.property import Case
from verifier.pictures.explanation import draw

HERE = Path(__file__).resolve().parent
SHARE = Fraction(1, 10)


def narrowed(case: Case) -> Case:
    """The case with a part of its radius."""
    pairs = list(zip(case.lower, case.upper, strict=True))
    cut = [(b - a) * (1 - SHARE) / 2 for a, b in pairs]
    lower = [a + c for (a, _), c in zip(pairs, cut, strict=True)]
    upper = [b - c for (_, b), c in zip(pairs, cut, strict=True)]
    return replace(case, lower=lower, upper=upper)


def main(path: Path) -> None:
    """Explain, and draw."""
    query = farkas.load_question(HERE / "digits.onnx", HERE / "holds.vnnlib")
    stated = replace(query.property, cases=[narrowed(case) for case in query.property.cases])
    query = replace(query, property=stated, property_digest=stated.digest)
    found = farkas.explain(query, None, regions=(1, 1), domain=(0, 1))
    with replacing(path) as stream:
        draw(query, found, layout(query.network), stream, path.suffix[1:])


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "docs" / "explain.png")
