"""Wrong kernels: one attribute of the kernel replaced, and a probe that must notice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from proofs import tables
from proofs.check import check_proof
from tests.proofs.helpers import BOTH

OUTWARD, EXACT = ("outward",), ("exact",)


@dataclass(frozen=True)
class Mutant:
    """A wrong kernel: ``break_`` makes the replacement of one attribute from the original."""

    name: str
    probe: Callable[[str], None]
    owner: object
    attribute: str
    break_: Callable
    arithmetics: tuple[str, ...] = BOTH


def each(mutants: Sequence[Mutant]):
    """Runs a test for every mutant in every arithmetic that it concerns."""
    return pytest.mark.parametrize(
        ("mutant", "arithmetic"),
        [(m, name) for m in mutants for name in m.arithmetics],
        ids=lambda part: part.name if isinstance(part, Mutant) else part,
    )


def notice(mutant: Mutant, arithmetic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the kernel; the probe, which passes on the kernel as it is, must fail."""
    original = getattr(mutant.owner, mutant.attribute)
    monkeypatch.setattr(mutant.owner, mutant.attribute, mutant.break_(original))
    with pytest.raises((AssertionError, IndexError, KeyError, AttributeError, TypeError)) as caught:
        mutant.probe(arithmetic)
    assert caught.type is AssertionError or mutant.owner is tables.Tables, caught.value


def refused(stated, proof, arithmetic: str) -> None:
    checked = check_proof(stated, proof, arithmetic=arithmetic)
    assert checked.verdict in ("invalid", "unreadable", "incomplete"), checked.verdict
