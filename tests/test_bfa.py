"""The table of flips in one parameter: what is proved holds, what is violated has a witness."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from benchmarks import bfa
from proofs.check import check_witness
from proofs.evaluate import evaluate
from specs.faults.exact import WordFault, faulted_network
from specs.faults.placed import place_model
from tests.faulty_models import dense_model, model_file

K = 2


@pytest.fixture(scope="module")
def placed():
    return place_model(model_file(dense_model((4, 5, 10), 3)))


def stated(placed, layer, radius=Fraction(0)):
    image = np.array([0.25, 0.5, 0.75, 0.125])
    return bfa.asked(placed, bfa.stored_layers(placed), image, radius, K, layer)


def changes(asked, name: str, entry: int) -> bool:
    """Whether some flips of a parameter change the class of the image, by enumeration."""
    for count in range(1, K + 1):
        for bits in itertools.combinations(range(8), count):
            network = faulted_network(asked.faults, [WordFault(name, entry, bits)])
            scores = [c for c, _ in evaluate(network, [Fraction(x) for x in asked.centre])]
            rivals = [s for j, s in enumerate(scores) if j != asked.label]
            if scores[asked.label] <= max(rivals):
                return True
    return False


@pytest.mark.parametrize("layer", [0, 1])
def test_answers_are_those_of_enumeration(placed, layer):
    asked = stated(placed, layer)
    places = [(n, e) for n in asked.faults.parameters for e in range(asked.faults.values(n).size)]
    chosen = list(range(0, len(places), 4))
    kept = bfa.proved(asked, chosen)
    seen = set()
    for word in chosen:
        witness = bfa.violation(asked, *places[word])
        found = changes(asked, *places[word])
        assert witness is None or check_witness(asked.query, witness).valid
        assert not (found and word in kept)
        assert found or witness is None
        seen.add((witness is not None, word in kept))
    assert seen >= {(True, False), (False, True)}


def test_more_is_violated_and_less_is_proved_in_a_region(placed):
    rows = [
        bfa.answers(stated(placed, 1, radius), np.random.default_rng(0), 12)
        for radius in (Fraction(0), Fraction(1, 4))
    ]
    assert all(sum(row.values()) == 12 for row in rows)
    assert rows[1]["proved"] <= rows[0]["proved"]
    assert rows[1]["violated"] >= rows[0]["violated"]


def test_a_proof_closes_the_leaves_that_are_asked_for(placed):
    asked = stated(placed, 1)
    groups = [(0, 3), (3, 4), (4, 60)]
    proof, nodes = bfa.written(asked.query, groups, frozenset({3}))
    assert set(nodes) == {3}
    assert proof.arrays["node_kind"].size == 2 + 2 + 2  # two splits, two holes, one closed leaf


def test_an_unknown_network_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bfa", "--out", "nowhere", "--nets", "2x2"])
    with pytest.raises(SystemExit):
        bfa.main()
    assert "no network '2x2'" in capsys.readouterr().err
