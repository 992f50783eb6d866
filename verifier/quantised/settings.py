"""How large an integer question may be, and how long Z3 may think."""

from __future__ import annotations

from dataclasses import dataclass

from verifier.overrides import Count, Positive


@dataclass(frozen=True)
class Settings:
    """Limits on questions under integer semantics; beyond one the answer is ``unknown``.

    Attributes:
        nodes: most integer variables, sums, staircases and maxima of one case.
        levels: most steps of one staircase, and most values of a key for which an output is
            tabulated.
        bits: most bits of a sum, its sign included; beyond 32 runtimes would overflow.
        seconds: most seconds of Z3 for one case.
        samples: points that are tried before Z3, in each case.
        candidates: models of Z3 that onnxruntime may refute before a case is given up.
        seed: of the points tried and of Z3.
    """

    nodes: Count = 20_000
    levels: Count = 4096
    bits: Count = 32
    seconds: Positive = 600.0
    samples: Count = 4096
    candidates: Count = 8
    seed: int = 0


class LimitError(Exception):
    """A question is larger than the settings allow; the message says in what."""
