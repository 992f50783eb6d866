"""Exact intervals for a proportion."""

from __future__ import annotations

from verifier.needs import need


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson (*Biometrika* 26, 1934) for a binomial proportion.

    It covers the true proportion with at least the stated probability, however rare the event.

    Args:
        hits: how often it was seen.
        trials: independent trials, as many as were made.
        confidence: between 0 and 1.

    Raises:
        ValueError: the numbers make no sense.
        MissingExtraError: scipy is not installed.

    >>> clopper_pearson(0, 0)
    (0.0, 1.0)
    """
    if not (0 <= hits <= trials and 0.0 < confidence < 1.0):
        raise ValueError(f"{hits} of {trials} at confidence {confidence}")
    need(("scipy",), "an exact binomial interval")
    from scipy.stats import beta

    tail = (1.0 - confidence) / 2.0
    lower = float(beta.ppf(tail, hits, trials - hits + 1)) if hits else 0.0
    upper = float(beta.ppf(1.0 - tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return lower, upper
