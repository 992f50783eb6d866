"""The page of a report: what it says, without a browser."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.verifier.page_outcome import asked, outcome
from verifier.certify import page, plots
from verifier.certify.counterexamples import pair_html, png
from verifier.certify.data import Pixels
from verifier.certify.delivery import (
    BY_SAMPLES,
    Asked,
    Measured,
    Pair,
    Sweep,
    Swept,
    image_shape,
    told_apart,
)
from verifier.certify.report import as_html, as_json
from verifier.certify.run import Outcome
from verifier.certify.section import Judged, Part, Rows

VOID = {"meta", "img", "br", "input"}


class Seen(HTMLParser):
    """Elements of a page; an end that closes nothing open is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.targets += [given["href"]] if "href" in given else []
        self.sources += [given["src"]] if "src" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def full() -> str:
    return as_html(outcome())


def test_the_page_is_well_formed_and_needs_nothing_beside_it(full):
    seen = Seen(full)
    assert len(seen.ids) == len(set(seen.ids))
    assert all(source.startswith("data:image/png;base64,") for source in seen.sources)
    for target in seen.targets:
        inside = target.startswith("#") and target[1:].partition("?")[0] in seen.ids
        assert inside or re.match(r"(evidence/|data:image/png;base64,)", target), target
    assert "http" not in full.replace("http-equiv", "")
    assert set(re.findall(r"url\(#(.*?)\)", full)) <= set(seen.ids)


def test_thresholds_come_first_and_missed_ones_before_met_ones(full):
    body = full.partition("<main>")[2]
    words = re.findall(r"<strong>((?:met|missed|undecided).*?)</strong>", body)
    assert words == ["missed: refuted", "undecided", "met: sampled", "met: proved", "met: proved"]
    assert body.index("thresholds") < body.index("What it cost") < body.index("All questions")
    assert "5 thresholds, 1 missed: refuted, 1 undecided, 1 met: sampled, 2 met: proved" in full
    assert "found: at least 0.1, at most 0.4" in full
    assert '<a href="#questions?part=p0&amp;verdict=refuted">10 refuted</a>' in full


def test_every_question_has_a_row(full):
    for verdict, count in (("proved", 40), ("refuted", 10), ("undecided", 10)):
        assert full.count(f'data-verdict="{verdict}"') == count


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Plots take time, and many tests are not about them."""
    monkeypatch.setattr(plots, "available", lambda: False)


@pytest.mark.usefixtures("undrawn")
def test_of_very_many_questions_what_is_open_is_listed(monkeypatch):
    monkeypatch.setattr(page, "QUESTIONS", 25)
    text = as_html(outcome())
    assert "25 of 60 are listed" in text
    assert text.count('data-verdict="undecided"') == 10
    assert text.count('data-verdict="refuted"') == 10
    assert text.count('data-verdict="proved"') == 5


@pytest.mark.usefixtures("undrawn")
def test_of_very_many_counterexamples_some_are_shown(monkeypatch):
    monkeypatch.setattr(page, "PAIRS", 2)
    assert "2 of 4 are shown" in as_html(outcome())


@pytest.mark.usefixtures("undrawn")
def test_without_matplotlib_the_page_has_tables_alone():
    text = as_html(outcome())
    Seen(text)
    assert "<svg" not in text
    assert "Certified accuracy, L-infinity" in text


HOSTILE = '"><script>alert(1)</script><b a="&'


def test_names_are_quoted_wherever_they_stand():
    one = Asked(HOSTILE, "refuted", 1.0, HOSTILE, HOSTILE, 7, 0.1, HOSTILE)
    two = replace(one, name="other", verdict="proved")
    rows = Rows(HOSTILE, (HOSTILE,), ((HOSTILE,),))
    pair = Pair(HOSTILE, np.zeros(4), np.ones(4), (1, 2, 2), HOSTILE, HOSTILE)
    flat = replace(pair, shape=None)
    sweep = Sweep(HOSTILE, (Swept(Fraction(1), Fraction(0), Fraction(1)),))

    def draw(figure):
        figure.add_subplot().set_title(HOSTILE)

    whole = Part(
        HOSTILE,
        (HOSTILE,),
        (HOSTILE,),
        (Judged(HOSTILE, HOSTILE, "refuted"),),
        {},
        (rows,),
        ((HOSTILE, draw),),
        (one, two),
        (sweep,),
        (pair, flat),
        basis=(BY_SAMPLES,),
        measured=(Measured(HOSTILE, Fraction(1, 2)),),
    )
    text = as_html(Outcome(HOSTILE, {"x": [whole]}, 1, 0, 1.0))
    Seen(text)
    assert "<script>alert" not in text
    assert text.count("<script>") == 1
    assert "<b a=" not in text


@given(st.lists(st.sampled_from(["a", "a (2)", "b"]), max_size=6))
def test_titles_are_told_apart(titles):
    names = told_apart(titles)
    assert len(set(names)) == len(titles)
    assert all(name.startswith(title) for name, title in zip(names, titles, strict=True))


def test_a_page_of_nothing():
    text = as_html(Outcome("empty", {"x": [Part("nothing", (), basis=())]}, 0, 0, 0.0))
    Seen(text)
    assert "no threshold was stated" in text
    assert 'id="questions"' not in text


def test_programs_get_the_same():
    about = json.loads(json.dumps(as_json(outcome())))
    (part,) = about["sections"]["robustness"]
    assert len(part["questions"]) == 60
    assert part["questions"][0]["bytes"] == asked(1)[0].bytes
    assert part["sweeps"][0]["points"][1] == {
        "radius": "2/255",
        "certified": "7/10",
        "possible": "9/10",
    }
    assert part["sweeps"][0]["clean"] == "97/100"


ANSWERS = {"unsat": "proved", "sat": "refuted", "timeout": "undecided", "unknown": "undecided"}


@pytest.mark.parametrize("answer", list(ANSWERS))
def test_rows_from_results(answer):
    values = {"answer": answer, "seconds": 2, "reason": "r", "evidence": ["a.toml", "a.farkas"]}
    row = Asked.of("q", values | {"bytes": 0, "check_seconds": 0.0})
    assert row == Asked("q", ANSWERS[answer], 2.0, "r", "a.farkas")


def test_the_colours_of_plots_are_those_of_the_page():
    drawn = plots.svg(plots.cactus(asked(12)), "caption", "d7")
    assert "currentColor" in drawn
    assert "var(--series1)" in drawn
    assert not any(colour in drawn for colour in (plots.INK, *plots.SERIES))
    assert all(name.startswith("d7-") for name in re.findall(r' id="(.*?)"', drawn))


SHAPES = {
    (8, 8): (1, 8, 8),
    (1, 8, 8): (1, 8, 8),
    (3, 4, 5): (3, 4, 5),
    (2, 8, 8): None,
    (64,): None,
    (1, 64): None,
    (3, 1, 9): None,
}


@pytest.mark.parametrize("shape", list(SHAPES), ids=str)
def test_which_shapes_are_images(shape):
    assert image_shape(shape) == SHAPES[shape]


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_images_are_read_back(height, width, channels, seed):
    image = pytest.importorskip("PIL.Image")
    levels = np.random.default_rng(seed).integers(0, 256, (channels, height, width))
    read = np.asarray(image.open(io.BytesIO(png(levels / 255))))
    expected = levels[0] if channels == 1 else levels.transpose(1, 2, 0)
    assert np.array_equal(read, expected)


def test_a_counterexample_equal_to_its_original_is_grey():
    pair = Pair("same", np.full(4, 0.5), np.full(4, 0.5), (1, 2, 2))
    text = "".join(pair_html(pair))
    assert "largest 0; orange: more, blue: less" in text
    assert text.count("<img") == 3


def test_of_a_counterexample_that_is_no_image_changes_are_listed():
    changed = np.zeros(30)
    changed[[3, 17]] = 0.25, -0.5
    text = "".join(pair_html(Pair("p", np.zeros(30), changed)))
    cells = re.findall(r'<td class="number">(.*?)</td>', text)
    assert cells == ["17", "0", "-0.5", "-0.5", "3", "0", "0.25", "0.25"]
    assert "that change less" not in text


def test_dollar_signs_of_names_are_no_formulas():
    def draw(figure):
        panel = figure.add_subplot()
        panel.plot([1, 1000], [0, 1], label="$\\frac{x$")
        panel.set_xscale("log")
        panel.set_yticks([0, 1], ["$w_{$", "b"])
        panel.legend()

    drawn = plots.svg(draw, "caption", "d0")
    assert "$\\frac{x$" in drawn
    assert "$w_{$" in drawn
    assert "mathdefault" not in drawn


def test_images_are_shown_as_the_pixels_before_mean_and_std():
    pixels = np.linspace(0, 1, 12)
    known = Pixels((Fraction(1, 2), Fraction(0), Fraction(1, 4)), (Fraction(1, 4),), (3, 2, 2), 0)
    means = np.repeat([0.5, 0.0, 0.25], 4)
    assert known.of((pixels - means) / 0.25) == pytest.approx(pixels)
    changed = pixels + np.eye(12)[5] / 8
    pair = Pair("p", (pixels - means) / 0.25, (changed - means) / 0.25, (3, 2, 2), pixels=known)
    plain = Pair("p", pixels, changed, (3, 2, 2))
    image = re.compile(r"base64,[^\"]*")
    shown, wanted = ("".join(pair_html(each)) for each in (pair, plain))
    assert image.findall(shown) == image.findall(wanted)
    assert "largest 0.125 before mean and std" in shown
