"""Explanations are proofs, and minimal; what is neither is refused."""

from __future__ import annotations

import time
from dataclasses import replace
from fractions import Fraction
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proofs.check import check_proof
from proofs.explain import Explanation, _Search, explain_inputs, explain_neurons
from proofs.features import Feature, Frees, layout, single_inputs
from proofs.probe import survey
from proofs.proof import Fact, Proof
from proofs.restate import explicit, resting_on
from proofs.tree import DeadlineError
from specs.errors import EvidenceError, InputError, PropertyError
from specs.network import Input, Linear, Network
from specs.query import Query
from specs.question import load_question
from tests.proofs.helpers import (
    BOTH,
    Net,
    RandomProof,
    at_least,
    at_most,
    box_case,
    builder,
    extremes,
    query,
    random_network,
    with_arrays,
)

F = Fraction
SEEDS = st.integers(0, 2**32)


def small(rng: np.random.Generator) -> tuple[Query, Proof | None] | None:
    """A question with a valid proof of a few leaves, if the first try yields one."""
    network = random_network(rng, int(rng.integers(1, 3)))
    if not any(t not in network.outputs for t in network.nonlinear):
        return None
    size = network.input_size
    plain = box_case([-1] * size, [1] * size)
    low, high, _ = extremes(network, plain)
    threshold = high + (high - low) * F(int(rng.integers(1, 200)), 100) + F(1, 10)
    case = box_case([-1] * size, [1] * size, at_least(0, threshold), at_most(0, low - threshold))
    stated = query(network, [case] * int(rng.integers(1, 3)))
    proof = None
    if rng.random() < 0.7:
        proof = RandomProof(rng, stated, wild=0.0).proof(depth=2)
    return (stated, proof) if check_proof(stated, proof).valid else None


def kept_but(found: Explanation, one: int) -> list[int]:
    return [k for k in found.kept if k != one]


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_neurons_of_every_layer(seed):
    rng = np.random.default_rng(seed)
    made = small(rng)
    if made is None:
        return
    stated, proof = made
    network = stated.network
    for tensor in dict.fromkeys((*network.nonlinear, *network.preactivations)):
        name = network.nodes[tensor].name
        found = explain_neurons(stated, proof, name)
        assert found.minimal
        assert len(found.features) == network.sizes[tensor]
        assert found.slack >= 0
        for arithmetic in BOTH:
            assert check_proof(stated, found.proof, arithmetic=arithmetic).verdict == "valid unsat"
        written = explicit(stated, proof)
        for one, fall in zip(found.kept, found.falls, strict=True):
            less = resting_on(written, name, np.array(kept_but(found, one), dtype=np.int64))
            assert check_proof(stated, less).verdict == "invalid"
            assert fall >= found.slack


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_inputs(seed):
    rng = np.random.default_rng(seed)
    made = small(rng)
    if made is None:
        return
    stated, proof = made
    features, domain = single_inputs(stated.network), (F(-3), F(5, 4))
    found = explain_inputs(stated, proof, features, domain)
    assert found.minimal
    same = found.query.digest == stated.digest
    assert not same or len(found.kept) == len(features)
    for arithmetic in BOTH:
        verdict = check_proof(found.query, found.proof, arithmetic=arithmetic).verdict
        assert verdict == "valid unsat"
    assert same or check_proof(stated, found.proof).verdict == "unreadable"
    assert explicit(stated, proof).arrays.keys() == found.proof.arrays.keys()
    frees = Frees(stated, features, domain)
    for one in found.kept:
        wider, _ = frees.stated(kept_but(found, one))
        again = replace(found.proof, question=wider.digest)
        assert check_proof(wider, again).verdict == "invalid"


def two_paths() -> Query:
    """y = 4 relu(x0) + relu(x1) - relu(x1 - 2), where the last one is never active."""
    net = Net(2)
    hidden = net.relu(net.dense(0, [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0.0, 0.0, -2.0]))
    net.dense(hidden, [[4.0, 1.0, -1.0]])
    return query(net.done(), [box_case([-1, -1], [1, 1], at_least(0, F(11, 2)))])


def test_what_intervals_do_is_not_kept():
    """The bound 5 is the intervals' already: nothing is needed of any neuron."""
    found = explain_neurons(two_paths(), None)
    assert (found.layer, found.kept, found.minimal) == ("n2", (), True)
    assert found.slack == pytest.approx(0.5)


def test_a_set_that_lacks_a_needed_feature_is_no_proof():
    net = Net(1)
    hidden = net.relu(net.dense(0, [[1.0], [-1.0], [1.0]]))
    net.dense(hidden, [[1.0, 1.0, 0.001]])
    stated = query(net.done(), [box_case([-1], [1], at_least(0, F(3, 2)))])
    found = explain_neurons(stated, None)
    assert found.kept == (0, 1)
    for lacking in ([], [0], [1], [0, 2], [1, 2]):
        wrong = resting_on(explicit(stated, None), "n2", np.array(lacking, dtype=np.int64))
        assert check_proof(stated, wrong).verdict == "invalid"
    assert found.falls == pytest.approx((1.0 - 0.001, 1.0), abs=2e-3)


def test_input_that_does_not_matter_is_freed():
    net = Net(2)
    net.dense(net.relu(net.dense(0, [[1.0, 0.25]])), [[1.0]])
    stated = query(net.done(), [box_case([-1, -1], [1, 1], at_least(0, F(2)))])
    found = explain_inputs(stated, None, single_inputs(stated.network), (F(-1), F(3)))
    assert found.kept == (0,)
    assert list(found.query.property.cases[0].upper) == [1, 3]
    assert found.slack == pytest.approx(0.25)
    both = explain_inputs(
        stated, None, (Feature("both", (0, 1)),), (F(-5), F(1))
    )  # nothing above is freed, and below does no harm
    assert both.kept == ()


def test_the_default_domain_is_that_of_all_cases():
    net = Net(1)
    net.dense(net.relu(net.dense(0, [[1.0]])), [[1.0]])
    parts = [box_case([a], [a + 1], at_least(0, F(5))) for a in (0, 1)]
    stated = query(net.done(), parts)
    found = explain_inputs(stated, None, single_inputs(stated.network))
    assert found.kept == ()
    assert [list(case.upper) for case in found.query.property.cases] == [[2], [2]]
    assert found.text is None  # a file would state the two cases as one
    assert check_proof(found.query, found.proof).verdict == "valid unsat"
    alone = query(net.done(), parts[:1])
    with pytest.raises(InputError, match="--domain"):
        explain_inputs(alone, None, single_inputs(stated.network))
    with pytest.raises(InputError, match="is empty"):
        explain_inputs(alone, None, single_inputs(stated.network), (F(1), F(0)))


# -------------------------------------------------------------------------- the search


@given(seed=SEEDS)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_search_ends_where_nothing_more_can_go(seed):
    """Whatever the predicate is: it need not be monotone."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(0, 7))
    subsets = chain.from_iterable(combinations(range(size), n) for n in range(size + 1))
    good = {frozenset(s) for s in subsets if rng.random() < 0.4} | {frozenset(range(size))}
    search = _Search(rng.permutation(size).tolist(), lambda s: frozenset(s) in good, _ignore)
    assert search.run()
    left = frozenset(search.kept)
    assert left in good
    assert not any(left - {one} in good for one in left)


def test_a_search_that_is_cut_off_says_so():
    asked = []

    def holds(kept):
        asked.append(kept)
        if len(asked) > 4:
            raise DeadlineError("over")
        return len(kept) >= 3

    search = _Search(range(8), holds, _ignore)
    assert not search.run()
    assert len(search.kept) >= 3
    assert list(range(8)) != search.kept


def _ignore(*_: object) -> None:
    pass


def test_without_time_for_a_check_there_is_no_explanation():
    with pytest.raises(DeadlineError):
        explain_neurons(two_paths(), None, deadline=time.monotonic() - 1)


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("nowhere", "no tensor 'nowhere'"),
        ("n3", "no bounds are kept"),
        (0, "no layer 0"),
        (2, "1 to 1"),
    ],
)
def test_layers_that_there_are_not(layer, says):
    with pytest.raises(InputError, match=says):
        explain_neurons(two_paths(), None, layer)


def test_layers_by_number():
    for layer in (1, -1, "n2", None):
        assert explain_neurons(two_paths(), None, layer).layer == "n2"
    assert explain_neurons(two_paths(), None, "n1").layer == "n1"


def test_a_linear_network_has_no_layer():
    net = Net(1)
    net.dense(0, [[1.0]])
    stated = query(net.done(), [box_case([0], [1], at_least(0, 2))])
    with pytest.raises(InputError, match="no layer of neurons"):
        explain_neurons(stated, None)


def test_only_valid_proofs_are_explained():
    stated = replace(two_paths(), property_digest="other")
    made = builder(stated)
    made.begin_tree()
    made.hole()
    with pytest.raises(InputError, match="incomplete"):
        explain_neurons(stated, made.finish())
    with pytest.raises(InputError, match="another question"):
        explain_neurons(two_paths(), made.finish())
    with pytest.raises(InputError, match="incomplete"):
        explain_inputs(stated, made.finish(), single_inputs(stated.network), (F(-2), F(2)))


# ------------------------------------------------------------------- restating, and slack


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_proof_written_out_says_the_same(seed):
    """Whether it is valid or not: the same leaves fail by the same amounts."""
    rng = np.random.default_rng(seed)
    network = random_network(rng, 1)
    cases = [box_case([-1], [1], at_least(0, F(k))) for k in range(3)]
    stated = query(network, cases)
    chosen = [k for k in range(3) if rng.random() < 0.5]
    proof = None
    if network.nonlinear and chosen:
        proof = RandomProof(rng, stated, wild=0.0).proof(depth=2, cases=chosen)
    written = explicit(stated, proof)
    assert written.arrays["case_number"].tolist() == [0, 1, 2]
    assert explicit(stated, written) is written
    before, after = check_proof(stated, proof), check_proof(stated, written)
    assert after.verdict in (before.verdict, "valid unsat")  # magnitudes may be smaller
    assert {r.case for r in after.rejected} <= {r.case for r in before.rejected}


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_resting_on_everything_leaves_bound_steps_alone(seed):
    rng = np.random.default_rng(seed)
    network = random_network(rng, 1)
    if not network.nonlinear:
        return
    stated = query(network, [box_case([-1], [1], at_least(0, F(1)))])
    proof = explicit(stated, RandomProof(rng, stated, wild=0.0).proof(depth=3))
    tensor = network.nonlinear[-1]
    name, count = network.nodes[tensor].name, network.sizes[tensor]
    whole = resting_on(proof, name, np.arange(count))
    for array in ("step_target", "step_sides", "step_set", "node_kind", "tree_ptr"):
        assert np.array_equal(proof.arrays[array], whole.arrays[array])
    assert check_proof(stated, whole).verdict != "unreadable"
    again = resting_on(whole, name, np.arange(0))  # an explanation may be explained
    assert check_proof(stated, again).verdict != "unreadable"
    assert again.arrays["sub_stop"].size == whole.arrays["sub_stop"].size


def test_slack_is_what_is_left_above_zero():
    """4 relu(x0) + relu(x1) is at most 5, and twice the constraint is no better."""
    stated = two_paths()
    for weights, facts in (((), ()), ((2.0,), ()), ((), ((Fact.UNSAFE, 0, 3.0),))):
        made = builder(stated)
        made.begin_tree()
        made.split_input(0)
        for _ in range(2):
            made.sweep()
            made.close(made.substitution((), facts, weights))
        seen = survey(stated, made.finish())
        assert seen.slacks == pytest.approx({2: 4.5, 4: 0.5})
        assert {node: split.point for node, split in seen.splits.items()} == {0: 0.0}


def test_slack_is_negative_where_a_leaf_stays_open():
    stated = query(two_paths().network, [box_case([-1, -1], [1, 1], at_least(0, F(4)))])
    seen = survey(stated, explicit(stated, None))
    found = check_proof(stated, None)
    assert list(seen.slacks.values()) == pytest.approx([-found.rejected[0].shortfall])


# ------------------------------------------------------------------------------- images


def shaped(*shape: int) -> Network:
    net = Net(int(np.prod(shape)))
    net.dense(0, np.ones((1, net.size(0))))
    network = net.done()
    first = Input("x", shape)
    return Network((first, *network.nodes[1:]), network.outputs)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 1, 4, 6), (1, 4, 6)),
        ((1, 3, 4, 4), (3, 4, 4)),
        ((1, 4, 6, 3), (3, 4, 6)),
        ((64,), (1, 8, 8)),
        ((1, 784), (1, 28, 28)),
        ((1, 1, 1, 64), (1, 1, 64)),
        ((3 * 256,), (3, 16, 16)),
        ((5,), None),
        ((25,), None),
        ((1, 65), None),
        ((8, 8), None),
    ],
)
def test_images_are_told_by_their_shapes(shape, image):
    found = layout(shaped(*shape))
    assert (None if found is None else found.index.shape) == image
    assert found is None or sorted(found.index.reshape(-1)) == list(range(int(np.prod(shape))))


def test_regions_are_a_partition_of_the_inputs():
    found = layout(shaped(1, 4, 6, 3))
    assert found is not None
    parts = found.features(3, 4)
    assert [part.name for part in parts][:2] == [
        "rows 0-2, columns 0-3",
        "rows 0-2, columns 4-5",
    ]
    assert parts[-1].name == "rows 3, columns 4-5"
    assert sorted(chain.from_iterable(part.entries for part in parts)) == list(range(72))
    assert parts[-1].entries == (66, 69, 67, 70, 68, 71)
    for size in ((0, 1), (1, -1)):
        with pytest.raises(InputError, match="positive"):
            found.features(*size)


def test_shapes_that_do_not_fit_are_refused():
    assert layout(shaped(12), (1, 3, 4)) is not None
    for shape in ((1, 3, 5), (0, 3, 4), (-1, -3, 4)):
        with pytest.raises(InputError, match="12 inputs"):
            layout(shaped(12), shape)


def test_the_example(examples: Path):
    stated = load_question(examples / "digits.onnx", examples / "holds.vnnlib")
    nodes = stated.network.nodes
    assert isinstance(nodes[stated.network.outputs[0]], Linear)
    narrow = replace(stated.property, cases=[_shrunk(stated)])
    easy = replace(stated, property=narrow, property_digest=narrow.digest)
    found = explain_neurons(easy, None)
    assert found.minimal
    assert 0 < len(found.kept) < len(found.features) == 16
    assert check_proof(easy, found.proof, arithmetic="exact").verdict == "valid unsat"
    assert found.sensitivity is not None
    assert found.sensitivity.shape == (64,)
    image = layout(stated.network)
    assert image is not None
    freed = explain_inputs(easy, None, image.features(2, 2), (F(0), F(1)))
    assert freed.minimal
    assert 0 < len(freed.kept) < len(freed.features) == 16


def _shrunk(stated: Query):
    """The example's region with a quarter of its radius."""
    (case,) = stated.property.cases
    pairs = list(zip(case.lower, case.upper, strict=True))
    low = [a + (b - a) * F(3, 8) for a, b in pairs]
    return replace(case, lower=low, upper=[b - (b - a) * F(3, 8) for a, b in pairs])


def test_errors_are_of_the_kinds_that_callers_tell_apart():
    assert issubclass(EvidenceError, InputError)
    assert issubclass(PropertyError, InputError)
    stated, proof = two_paths(), explicit(two_paths(), None)
    with pytest.raises(InputError, match="unreadable"):
        explain_neurons(stated, with_arrays(proof, node_kind=np.array([99], np.uint8)))
