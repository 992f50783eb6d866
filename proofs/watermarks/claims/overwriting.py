"""Overwriting is decided as persistence is: no allowed change meets a demand."""

from __future__ import annotations

from proofs.watermarks.claims.persistence import decide

__all__ = ["decide"]
