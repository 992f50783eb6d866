"""False claims: the exact tail of the null hypothesis, times the number of keys."""

from __future__ import annotations

from fractions import Fraction

from proofs.watermarks.check import Decided, Tick
from proofs.watermarks.evidence import HOLDS, MarkEvidence
from proofs.watermarks.tails import (
    binomial_tail,
    log2_text,
    poisson_binomial_tail,
    poisson_binomial_threshold,
    several_keys,
    threshold,
)
from specs.watermarks.claims.false_claim import FalseClaim


def decide(claim: FalseClaim, evidence: MarkEvidence, tick: Tick) -> Decided:
    """Compare the tail with the level."""
    evidence.only()
    rates, matches = claim.mark.null, claim.at_least
    alike = len(set(rates)) == 1
    tail = (
        binomial_tail(len(rates), rates[0], matches)
        if alike
        else poisson_binomial_tail(rates, matches)
    )
    each = claim.level / claim.keys
    enough = (
        threshold(len(rates), rates[0], each) if alike else poisson_binomial_threshold(rates, each)
    )
    total: Fraction = several_keys(tail, claim.keys)
    needed = f"{enough} of {len(rates)}" if enough <= len(rates) else "more than there are"
    facts = (
        ("probability for one key", log2_text(tail)),
        ("keys", str(claim.keys)),
        ("probability", log2_text(total)),
        ("matches that the level needs", needed),
    )
    shown = (total <= claim.level) == (evidence.claims == HOLDS)
    return Decided(shown, f"the probability is at most {log2_text(total)}", facts)
