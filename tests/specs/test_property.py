from __future__ import annotations

from fractions import Fraction

import pytest

from specs.errors import PropertyError
from specs.property import Case, Constraint, Property, constraint

ONE, HALF, ZERO = Fraction(1), Fraction(1, 2), Fraction(0)


def case(**changes) -> Case:
    below = constraint({}, {0: ONE}, -HALF, strict=True)
    fields = {"lower": (ZERO, ZERO), "upper": (ONE, ONE), "unsafe": ((below,),)} | changes
    return Case(**fields)


def test_a_constraint_is_evaluated_exactly() -> None:
    c = Constraint(((0, Fraction(1, 3)),), ((1, -ONE),), Fraction(-1, 3))
    assert c.value((ONE,), (ZERO, ZERO)) == 0
    assert c.holds((ONE,), (ZERO, ZERO))
    assert not c.holds((ONE + Fraction(1, 10**30),), (ZERO, ZERO))


def test_strict_constraints_exclude_equality() -> None:
    assert constraint({0: ONE}, {}, -ONE).holds((ONE,), ())
    assert not constraint({0: ONE}, {}, -ONE, strict=True).holds((ONE,), ())


def test_factory_sorts_and_drops_zeros() -> None:
    c = constraint({2: ONE, 0: HALF, 1: ZERO}, {1: ZERO}, ZERO)
    assert c.inputs == ((0, HALF), (2, ONE))
    assert c.outputs == ()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (((0, ONE), (0, ONE)), "twice"),
        (((-1, ONE),), "negative"),
        (((0, ZERO),), "coefficient of 0"),
    ],
)
def test_malformed_constraints_are_refused(inputs, message: str) -> None:
    with pytest.raises(PropertyError, match=message):
        Constraint(inputs, (), ZERO)
    with pytest.raises(PropertyError, match=message):
        Constraint((), inputs, ZERO)


def test_regions_respect_strict_bounds_and_constraints() -> None:
    below = constraint({0: ONE, 1: -ONE}, {}, ZERO)
    region = case(strict_upper=frozenset({1}), strict_lower=frozenset({0}), constraints=(below,))
    assert region.contains((HALF, HALF))
    assert not region.contains((ZERO, HALF))
    assert not region.contains((HALF, ONE))
    assert not region.contains((HALF, Fraction(1, 4)))
    assert not region.contains((HALF, Fraction(2)))
    with pytest.raises(PropertyError, match="a point of 1 entries"):
        region.contains((HALF,))


def test_a_case_is_violated_by_some_disjunct() -> None:
    assert case().violated((ZERO, ZERO), (ZERO,))
    assert not case().violated((ZERO, ZERO), (HALF,))
    assert not case().violated((ZERO, Fraction(3)), (ZERO,))
    assert case(unsafe=((),)).violated((ZERO, ZERO), (HALF,))
    assert not case(unsafe=()).violated((ZERO, ZERO), (ZERO,))


def test_region_constraints_may_not_speak_of_outputs() -> None:
    with pytest.raises(PropertyError, match="speaks of outputs"):
        case(constraints=(constraint({}, {0: ONE}, ZERO),))


def test_bounds_must_pair_up() -> None:
    with pytest.raises(PropertyError, match="different numbers"):
        case(lower=(ZERO,))


def test_properties_check_their_sizes() -> None:
    assert not Property(2, 1, (case(),)).vacuous
    with pytest.raises(PropertyError, match="case 0 bounds 2 inputs, not 3"):
        Property(3, 1, (case(),))
    with pytest.raises(PropertyError, match="beyond the 2 inputs and 0 outputs"):
        Property(2, 0, (case(),))
    far = constraint({5: ONE}, {}, ZERO)
    with pytest.raises(PropertyError, match="beyond the 2 inputs"):
        Property(2, 1, (case(constraints=(far,)),))


def test_vacuous_properties() -> None:
    assert Property(2, 1, ()).vacuous
    assert Property(2, 1, (case(unsafe=()),)).vacuous


def test_boxes_are_rounded_outward() -> None:
    low, high = case(lower=(Fraction(1, 10), ZERO), upper=(Fraction(1, 10), ONE)).box()
    assert Fraction(low[0]) < Fraction(1, 10) < Fraction(high[0])
    assert (low[1], high[1]) == (0.0, 1.0)


def test_canonical_text_is_exact_and_tells_properties_apart() -> None:
    text = list(Property(2, 1, (case(strict_lower=frozenset({1})),)).text())
    assert text == [
        "farkas-property-1 2 1",
        "case",
        "0 <= x0 <= 1",
        "0 < x1 <= 1",
        "unsafe",
        "1 * y0 + -1/2 < 0",
    ]
    base = Property(2, 1, (case(),))
    assert base.digest == Property(2, 1, (case(),)).digest
    changed = [
        case(upper=(ONE, ONE + Fraction(1, 10**40))),
        case(strict_lower=frozenset({0})),
        case(unsafe=((constraint({}, {0: ONE}, -HALF),),)),
        case(constraints=(constraint({0: ONE, 1: ONE}, {}, -ONE),)),
        case(unsafe=(*case().unsafe, ())),
    ]
    digests = {Property(2, 1, (c,)).digest for c in changed} | {base.digest}
    assert len(digests) == len(changed) + 1
