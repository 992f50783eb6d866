"""Evidence about claims of watermarks."""

from __future__ import annotations

from dataclasses import dataclass

from proofs.arrays import CLAIMS, FAILS, HOLDS, MOST, TYPES, ArrayEvidence

__all__ = ["CLAIMS", "FAILS", "HOLDS", "MARK", "MOST", "TYPES", "MarkEvidence"]

MARK = "farkas-mark"
"""``format`` of the manifest."""


@dataclass(frozen=True, eq=False)
class MarkEvidence(ArrayEvidence):
    """What is said to decide a claim about a watermark."""

    format = MARK
    subject = "mark"
    about = "a watermark"
