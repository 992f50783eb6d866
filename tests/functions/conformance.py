"""What every univariate function of the kernel must keep, as one call per function.

A test of a function is ``conformance(name, reference)``: ``reference`` says what it is,
independently of the kernel (``references.py``).  The checks are in ``checks.py``; the wrong
rules that each must refuse in ``wrong.py``, to which a function may add its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest

from proofs.check import ARITHMETICS
from proofs.curves import Curve
from proofs.functions import KNOWN, function
from tests.functions.checks import CHECKS, Case, check_agreement, check_lines, intervals
from tests.functions.references import Reference
from tests.functions.shapes import check_shape
from tests.functions.wrong import ALWAYS, Mutant, for_curve, lazy_guess

FEWER = {"outward": 1000, "exact": 60}
"""About so many intervals, by arithmetic."""

STEPS = (
    (0.5, 0.5),
    (-1.5, 0.5),
    (0.3, 2.0),
    (2.0**50, 2.0**50 + 3),
    (-0.5 - 2**-53, -0.5),
    (1e15, 1e17),
)
"""More intervals for functions with steps: at and across them, and where floats are sparse."""

PERIODS = ((-1e3, 1e3), (90.0, 99.0), (95.0, 130.0), (1e6, 1e6 + 1))
"""More intervals for periodic functions: of several periods, and far from 0."""


def conformance(
    name: str,
    reference: Reference,
    mutants: Mapping[str, Mutant | None] = {},
    *,
    parameters: tuple[float, ...] = (),
    extra: tuple[tuple[float, float], ...] = (),
    gap: float = 1e-9,
):
    """The tests of a function: checks that it passes, and that each wrong rule fails.

    Args:
        name: of the function, one of ``proofs.functions.KNOWN``.
        reference: its value.
        mutants: more wrong rules by description; ``None`` for a general one that is right
            for this function.
        parameters: of the function.
        extra: more intervals.
        gap: how far intercepts may be from the best, relative to the numbers involved.
    """
    assert name in KNOWN
    rule = function(name, parameters)
    arithmetics = {key: make() for key, make in ARITHMETICS.items()}
    case = Case(reference, *intervals(getattr(rule, "bends", (0.0, 1.0)), extra), gap)
    cases = {key: case.part(FEWER[key]) for key in arithmetics}
    wrong = {**ALWAYS, **(for_curve(rule) if isinstance(rule, Curve) else {}), **mutants}
    wrong = {key: mutant for key, mutant in wrong.items() if mutant is not None}

    @pytest.mark.parametrize("arithmetic", arithmetics)
    @pytest.mark.parametrize("check", CHECKS)
    def test_conforms(check: str, arithmetic: str) -> None:
        CHECKS[check](rule, arithmetics[arithmetic], cases[arithmetic])

    @pytest.mark.parametrize("arithmetic", arithmetics)
    @pytest.mark.parametrize("mutant", wrong)
    def test_refuses(mutant: str, arithmetic: str) -> None:
        check, changed = wrong[mutant].check, wrong[mutant].of(rule)
        with np.errstate(all="ignore"), pytest.raises(AssertionError):
            CHECKS[check](changed, arithmetics[arithmetic], cases[arithmetic])

    def test_arithmetics_agree() -> None:
        check_agreement([rule, rule], [*arithmetics.values()], cases["exact"])

    if not isinstance(rule, Curve):
        return test_conforms, test_refuses, test_arithmetics_agree

    @pytest.mark.parametrize("arithmetic", arithmetics)
    def test_any_guess_is_sound(arithmetic: str) -> None:
        check_lines(lazy_guess(rule), arithmetics[arithmetic], cases[arithmetic].part(40))

    def test_shape() -> None:
        check_shape(rule)
        other = tuple(None if c is None else -c for c in rule.curvatures)
        wrong_shapes = [{"curvatures": other}] if any(other) else []
        wrong_shapes += [{"slack": 2.0**-130}] if rule.slack else []
        for change in wrong_shapes:
            with pytest.raises(AssertionError):
                check_shape(dataclasses.replace(rule, **change))

    return test_conforms, test_refuses, test_arithmetics_agree, test_any_guess_is_sound, test_shape
