"""How to verify: what a caller may ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proofs.minimise import EFFORTS
from proofs.proof import Proof
from specs.errors import InputError
from verifier import overrides

if TYPE_CHECKING:
    from verifier.overrides import Value

METHODS = ("auto", "bounds", "bab", "star", "smt", "attack")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class HandOver:
    """When branch and bound stops before it is done, and hands over what it has.

    Attributes:
        seconds: of it, at least.
        leaves: open ones, at least: with fewer it may soon be done.
    """

    seconds: float
    leaves: int


@dataclass(frozen=True)
class Options:
    """How to verify.

    Attributes:
        timeout: seconds from the start to the verdict, the check included; ``None`` = no
            limit.
        method: ``"auto"``: everything; ``"bounds"``: the kernel and optimised bounds
            without splits; ``"bab"``: branch and bound; ``"star"``: the kernel and stars
            whose Relus are split exactly, and boxes halved until few of these are left;
            ``"smt"``: the kernel and Boolean reasoning about phases of Relus; ``"attack"``:
            attacks alone.
        device: where the search runs, ``"cpu"`` or ``"cuda"``.
        seed: of the attacks' random numbers.
        proof_effort: ``"default"``: proofs are made smaller as long as it takes little time;
            ``"high"``: as small as they get in the time there is; ``"none"``: not at all.
        settings: by name, such as ``"search.batch"``, what replaces a setting of the
            policy, of every attack or of a search; ``farkas verify --list-settings``
            names them.  A text is read as on the command line.
        reuse: a proof for an earlier state of the network or another property, whose hints
            are tried first; leaves that fail are searched again.
        hand_over: when branch and bound stops, to be gone on with by
            :mod:`verifier.portions`; ``None``: it does not.

    Raises:
        InputError: a value outside these, or a setting that there is not.
        MissingExtraError: a setting of the search, and torch is not installed.
    """

    timeout: float | None = None
    method: str = "auto"
    device: str = "cpu"
    seed: int = 0
    proof_effort: str = "default"
    settings: Mapping[str, Value] = field(default_factory=dict)
    reuse: Proof | None = None
    hand_over: HandOver | None = None

    def __post_init__(self) -> None:
        if self.reuse is not None and self.method == "attack":
            raise InputError("attacks have no use for a proof to be reused")
        if self.reuse is not None and self.method == "smt":
            raise InputError("a proof to be reused is gone on with by branch and bound, not by smt")
        if self.method not in METHODS:
            raise InputError(f"method '{self.method}': use one of {', '.join(METHODS)}")
        if self.device not in DEVICES:
            raise InputError(f"device '{self.device}': use one of {', '.join(DEVICES)}")
        if self.proof_effort not in EFFORTS:
            known = ", ".join(EFFORTS)
            raise InputError(f"proof effort '{self.proof_effort}': use one of {known}")
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise InputError(f"a time limit of {self.timeout} seconds; it must be positive")
        object.__setattr__(self, "settings", overrides.validated(self.settings))

    def of_group(self, group: str) -> dict[str, Any]:
        """The settings given of ``"policy"``, ``"attack"``, ``"search"`` or ``"smt"``, by field."""
        return overrides.of_group(self.settings, group)
