"""Pictures of explanations and trees: what is in them, and what is refused."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from proofs.explain import Explanation, explain_inputs, explain_neurons
from proofs.features import layout, single_inputs
from proofs.probe import survey
from proofs.proof import Proof, Side
from proofs.restate import explicit
from specs.errors import InputError, MissingExtraError
from specs.query import Query
from tests.proofs.helpers import Net, at_least, box_case, builder, query
from verifier import pictures
from verifier.pictures.tree import COLOURS, DRAWN, tree_svg

F = Fraction
SVG = "{http://www.w3.org/2000/svg}"


def table() -> Query:
    net = Net(2)
    hidden = net.relu(net.dense(0, [[1.0, 0.0], [0.0, 1.0]]))
    net.dense(hidden, [[4.0, 1.0]])
    return query(net.done(), [box_case([-1, -1], [1, 1], at_least(0, F(11, 2)))])


def image() -> Query:
    rng = np.random.default_rng(1)
    net = Net(64)
    net.dense(net.relu(net.dense(0, rng.normal(size=(6, 64)))), rng.normal(size=(1, 6)))
    case = box_case([0.4] * 64, [0.5] * 64, at_least(0, F(40)))
    return query(net.done(), [case])


def deep(levels: int, sweeps: bool = True) -> tuple[Query, Proof]:
    """A comb: the upper side is split again and again."""
    stated = table()
    made = builder(stated)
    made.begin_tree()
    for level in range(levels):
        made.split_input(0, 1.0 - 2.0 ** (1 - level))
        if sweeps:
            made.sweep()
        made.close()
    made.close()
    return stated, made.finish()


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def drawn(svg: str, kind: str) -> int:
    return sum(1 for _ in ElementTree.fromstring(svg).iter(f"{SVG}{kind}"))


# --------------------------------------------------------------------------------- trees


def test_a_tree_with_its_splits_and_slacks():
    stated, proof = deep(2)
    svg = tree_svg(stated, proof, survey(stated, proof))
    found = texts(svg)
    assert {"x0 at -1", "x0 at 0", "3 leaves", "≤", "≥", "slack of a leaf (logarithmic)"} <= set(
        found
    )
    slacks = sorted(survey(stated, proof).slacks.values())
    assert {f"{s:.3g}" for s in slacks} <= set(found)
    assert COLOURS[-1] in svg  # the largest slack is at the end of the scale
    assert drawn(svg, "circle") == 3


def test_neurons_are_named_and_texts_escaped():
    net = Net(1)
    net.dense(net.relu(net.dense(0, [[1.0]])), [[1.0]])
    stated = query(net.done(), [box_case([-1], [1], at_least(0, F(2)))])
    object.__setattr__(stated, "title", "<a> & b")
    made = builder(stated)
    made.begin_tree()
    made.split_neuron(1, 0)
    made.close()
    made.close()
    proof = made.finish()
    found = texts(tree_svg(stated, proof, survey(stated, proof)))
    assert {"n1[0] at 0", "<a> & b"} <= set(found)


def test_large_trees_are_summarised():
    stated, proof = deep(600, sweeps=False)
    svg = tree_svg(stated, proof, survey(stated, proof))
    assert "601 leaves" in " ".join(texts(svg))
    assert any("subtrees as triangles" in text for text in texts(svg))
    height = float(ElementTree.fromstring(svg).get("height") or 0)
    assert height < 18 * DRAWN + 200
    assert len(svg) < 200_000


def test_leaves_that_no_bound_closes_are_told_apart():
    stated = table()
    made = builder(stated)
    form = made.form([(0, 0, 1.0)], 0.0)
    made.begin_tree([(form, Side.LOWER)])
    made.close()
    made.begin_tree()
    made.split_form(form)
    made.cite(0)
    made.split_input(0, -0.5)  # nothing is left below
    made.close()
    made.close()
    proof = made.finish()
    svg = tree_svg(stated, proof, survey(stated, proof))
    found = texts(svg)
    assert {"tree 0", "cites a lemma", "no point is left"} <= set(found)


def test_a_single_leaf_is_a_tree():
    stated = table()
    proof = explicit(stated, None)
    svg = tree_svg(stated, proof, survey(stated, proof))
    assert "1 leaf" in texts(svg)
    assert drawn(svg, "circle") == 1


# -------------------------------------------------------------------------- explanations


def panels(stated: Query, found: Explanation, with_image: bool):
    pytest.importorskip("matplotlib")
    from verifier.pictures.explanation import figure

    shown = layout(stated.network) if with_image else None
    return figure(stated, found, shown)


def test_neurons_on_an_image_have_three_panels():
    stated = image()
    found = explain_neurons(stated, None)
    made = panels(stated, found, True)
    titles = [axes.get_title() for axes in made.axes]
    assert titles[:2] == ["centre of the region", "what each input can change"]
    assert f"{len(found.kept)} of 6 neurons" in made.get_suptitle()
    np.testing.assert_allclose(
        made.axes[1].images[0].get_array(),
        (found.sensitivity * 0.1).reshape(8, 8),
        rtol=1e-6,
    )


def test_regions_on_an_image_are_grey_where_free():
    stated = image()
    shown = layout(stated.network)
    assert shown is not None
    found = explain_inputs(stated, None, shown.features(4, 4), (F(0), F(2)))
    assert 0 < len(found.kept) < 4
    made = panels(stated, found, True)
    heat = made.axes[1].images[0].get_array()
    assert np.ma.count_masked(heat) == 16 * (4 - len(found.kept))
    assert heat.max() == pytest.approx(max(found.falls))


def test_tables_have_bars():
    stated = table()
    found = explain_inputs(stated, None, single_inputs(stated.network), (F(-1), F(5, 4)))
    made = panels(stated, found, False)
    (axes,) = made.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x0[0]"]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(list(found.falls))


def test_pictures_are_the_same_every_time():
    pytest.importorskip("matplotlib")
    from verifier.pictures.explanation import draw

    stated = table()
    found = explain_neurons(stated, None)
    made = []
    for _ in range(2):
        stream = io.BytesIO()
        draw(stated, found, None, stream, "svg")
        made.append(stream.getvalue())
    assert made[0] == made[1]
    assert b"intervals alone suffice" in made[0]


def test_what_cannot_be_drawn_is_refused(monkeypatch):
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        pictures.require_matplotlib(Path("x.gif"))
    monkeypatch.setattr(pictures.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"farkas\[pictures\]"):
        pictures.require_matplotlib(Path("x.png"))
