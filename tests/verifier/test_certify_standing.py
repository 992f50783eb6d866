"""What a report says of proved and of measured numbers, and what holds of these together."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verifier.page_outcome import outcome
from verifier.certify import plots
from verifier.certify.delivery import BASES, BY_EVALUATION, BY_EVIDENCE, BY_SAMPLES, Measured
from verifier.certify.report import as_html, as_json, as_text
from verifier.certify.section import Part
from verifier.certify.standing import BASES as WORDS
from verifier.certify.standing import in_words, standing, together

SURE = Fraction(99, 100)
shares = st.fractions(Fraction(0), Fraction(1), max_denominator=1000)
statements = st.builds(Measured, st.just("x"), shares, st.integers(1, 50), st.booleans())


def part(*measured: Measured) -> Part:
    basis = (BY_SAMPLES,) if measured else (BY_EVIDENCE,)
    return Part("a part", (), basis=basis, measured=measured)


@given(st.lists(statements, max_size=5))
def test_risks_are_added_and_no_confidence_is_negative(measured):
    sure = together(measured)
    assert 0 <= sure <= 1
    assert 1 - sure == min(1, sum(each.statements * (1 - each.confidence) for each in measured))
    if measured:
        assert sure <= min(each.confidence for each in measured)


def test_one_statement_says_what_it_says_and_nothing_of_others():
    (_, line) = standing([part(Measured("all radii together", SURE))])
    assert line == "a part: all radii together, with confidence 0.99"


def test_several_statements_hold_alone_and_less_surely_together():
    lines = standing([part(Measured("intervals", SURE, 3))])
    assert lines[1] == "a part: intervals, 3 statements, each alone with confidence 0.99"
    assert "together with confidence 0.97 at least" in lines[2]


def test_of_very_many_statements_nothing_follows_together():
    assert "nothing follows" in standing([part(Measured("intervals", SURE, 100))])[-1]


def test_thresholds_have_a_sum_of_their_own_where_they_use_a_part_of_what_is_measured():
    used, other = Measured("radii", Fraction(999, 1000), judged=True), Measured("shares", SURE, 3)
    lines = standing([part(used), part(other)])
    assert "what the thresholds about samples rest on" in lines[-1]
    assert "confidence 0.999 at least" in lines[-1]
    assert "confidence 0.969 at least" in lines[-2]
    assert "thresholds" not in " ".join(standing([part(used)]))


def test_a_confidence_is_never_rounded_up():
    assert in_words(Measured("x", 1 - Fraction(1, 3 * 10**9))).endswith("confidence 0.99999999")


@pytest.mark.parametrize("kind", [BY_EVIDENCE, BY_EVALUATION, BY_SAMPLES])
def test_every_kind_is_said_where_it_occurs_and_only_there(kind):
    lines = standing([Part("a", (), basis=(kind,))])
    assert [line.partition(":")[0] for line in lines] == [kind]
    assert set(WORDS) == set(BASES)


def test_page_text_and_json_say_the_same(monkeypatch):
    monkeypatch.setattr(plots, "available", lambda: False)
    whole = outcome()
    lines = standing([part for own in whole.parts.values() for part in own])
    page, text, data = as_html(whole), "\n".join(as_text(whole)), as_json(whole)
    data = json.loads(json.dumps(data))
    assert len(lines) == 7
    for line in lines:
        assert line in page
        assert line in text
    assert data["standing"] == list(lines)
    (sampled,) = data["sections"]["s"]
    assert sampled["basis"] == ["sampled"]
    assert sampled["measured"][0]["confidence"] == "99/100"
    assert "Samples (sampled)" in text
    assert '<span class="tag">sampled</span>' in page
    assert "measured" not in data["sections"]["robustness"][0]


def test_a_part_without_a_basis_is_refused():
    with pytest.raises(TypeError, match="basis"):
        Part("a", ())
    assert replace(part(), title="b").basis == (BY_EVIDENCE,)
