"""How probable a match is in models without a mark, from models that were looked at."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from specs.errors import QuestionError

MOST_MODELS = 1 << 12
FRACTION_BITS = 16
"""Rates are rounded up to multiples of ``2**-FRACTION_BITS``."""


def upper_rates(hits: Sequence[int], models: int, doubt: Fraction) -> tuple[Fraction, ...]:
    """Upper bounds of the rates at which positions match, all of them at once.

    Each is the upper end of the one-sided interval of Clopper and Pearson (1934) at
    ``doubt / n``: if models are independent, the probability that they were such that any of the
    ``n`` bounds is wrong is at most ``doubt`` (Bonferroni), however positions depend on each other.

    Args:
        hits: ``(n,)`` by position, in how many models it matched.
        models: how many were looked at.
        doubt: between 0 and 1, both excluded.

    Raises:
        QuestionError: the numbers make no sense.
    """
    if not 1 <= models <= MOST_MODELS or not 0 < doubt < 1:
        raise QuestionError(f"{models} models at a doubt of {doubt}")
    if any(not 0 <= hit <= models for hit in hits):
        raise QuestionError(f"a position matched in fewer than 0 or more than {models} models")
    each = {hit: _upper(hit, models, doubt / len(hits)) for hit in set(hits)}
    return tuple(each[hit] for hit in hits)


def _upper(hit: int, models: int, doubt: Fraction) -> Fraction:
    """The least multiple with ``P[Bin(models, p) <= hit] <= doubt``, or 1."""
    low, high = 0, 1 << FRACTION_BITS  # at low the probability is above, at high p is 1
    if hit == models:
        return Fraction(1)
    while high - low > 1:
        middle = (low + high) // 2
        if _at_most(hit, models, middle) <= doubt:
            high = middle
        else:
            low = middle
    return Fraction(high, 1 << FRACTION_BITS)


def _at_most(hit: int, models: int, share: int) -> Fraction:
    """``P[Bin(models, p) <= hit]`` at ``p = share * 2**-FRACTION_BITS``, exactly."""
    whole = 1 << FRACTION_BITS
    miss = whole - share
    # The sum over j <= hit of C(models, j) share^j miss^(models-j), by Horner's rule in miss.
    total, choices, power = 0, 1, 1
    for j in range(hit + 1):
        total = total * miss + choices * power
        choices = choices * (models - j) // (j + 1)
        power *= share
    return Fraction(total * miss ** (models - hit), whole**models)
