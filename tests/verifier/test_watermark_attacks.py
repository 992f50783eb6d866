"""Embedding and attacks: what they do to marks, and that costs are exact."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marked_models import blobs, convolutional, dense

from specs.errors import InputError
from specs.watermarks.key import Key
from specs.watermarks.mark import Commitment
from specs.watermarks.schemes.neuralmark import NeuralMark
from specs.watermarks.schemes.uchida import Uchida
from verifier.watermarks.attacks.cost import change, cost
from verifier.watermarks.attacks.forging import read_matches, searched, shaped
from verifier.watermarks.attacks.inversion import Inversion, inverted, unlearned
from verifier.watermarks.attacks.pruning import pruned
from verifier.watermarks.attacks.quantising import quantised
from verifier.watermarks.attacks.report import judged
from verifier.watermarks.attacks.tuning import fine_tuned, overwritten
from verifier.watermarks.embed import Embedding, embed_answers, embed_bits
from verifier.watermarks.graph import Trainable, accuracy
from verifier.watermarks.parameters import parameters
from verifier.watermarks.training import Training

POINTS, LABELS = blobs()
QUICK = Training(epochs=25, rate=1e-2, batch=30)
STRONG = Embedding(QUICK, weight=3.0)
NONE = Commitment("")


def uchida(tensor, seed=b"owner, sixteen b"):
    return Uchida(Key(seed), tensor, 10, 0, NONE)


def neuralmark(tensor, seed=b"owner, sixteen b"):
    return NeuralMark(Key(seed), tensor, 12, 16, 1, NONE)


def matches(content, mark):
    return read_matches(parameters(content)[mark.tensor].astype(float), mark)


@pytest.fixture(scope="module")
def marked():
    """A convolutional model with a mark, and the mark."""
    mark = uchida("conv2.weight")
    return embed_bits(convolutional(), POINTS, LABELS, mark, STRONG), mark


@pytest.mark.parametrize(
    ("content", "tensor"),
    [(dense(), "fc2.weight"), (convolutional(), "conv2.weight")],
    ids=["dense", "convolutional"],
)
@pytest.mark.parametrize("scheme", [uchida, neuralmark], ids=["uchida", "neuralmark"])
def test_every_bit_is_embedded_and_the_task_is_learnt(content, tensor, scheme):
    mark = scheme(tensor)
    made = embed_bits(content, POINTS, LABELS, mark, STRONG)
    assert matches(content, mark) < mark.size
    assert matches(made, mark) == mark.size
    assert matches(made, scheme(tensor, b"another, 16 byte")) < mark.size
    assert accuracy(made, POINTS, LABELS) > 0.9


def test_answers_to_triggers_are_embedded():
    draw = np.random.default_rng(0)
    triggers, answers = draw.uniform(size=(12, 16)), draw.integers(0, 4, 12)
    made = embed_answers(dense(width=40), POINTS, LABELS, triggers, answers, Embedding(QUICK))
    assert accuracy(made, triggers, answers) == 1
    assert accuracy(made, POINTS, LABELS) > 0.9


def test_a_mark_needs_its_tensor():
    with pytest.raises(InputError, match="no initialiser of float32"):
        embed_bits(dense(), POINTS, LABELS, uchida("conv2.weight"), STRONG)
    with pytest.raises(InputError):
        Embedding(weight=0.0)


def test_attacks_that_train_keep_the_task_and_say_their_cost(marked):
    content, mark = marked
    gentle = Training(epochs=5, rate=1e-3)
    tuned = fine_tuned(content, POINTS, LABELS, gentle)
    second = uchida("conv2.weight", b"a thief, 16 byte")
    over = overwritten(content, POINTS, LABELS, second, STRONG)
    assert matches(over, second) == second.size
    for made in (tuned, over):
        seen = judged(content, made, POINTS, LABELS)
        assert (seen.content, seen.before) == (made, accuracy(content, POINTS, LABELS))
        assert seen.after > 0.9
        found = seen.cost
        assert 0 < found.of("conv2.weight").linf <= found.every.linf
        assert found.every.count == sum(v.size for v in parameters(content).values())
    assert matches(tuned, mark) == mark.size


def test_no_attack_costs_nothing(marked):
    content, _ = marked
    found = cost(content, content).every
    assert (found.changed, found.flipped, found.linf, found.l1, found.l2) == (0, 0, 0, 0, 0.0)
    assert found.inside("linf", Fraction(0))
    with pytest.raises(InputError, match="other initialisers"):
        cost(content, dense())
    with pytest.raises(InputError, match="no float32 initialiser"):
        cost(content, content).of("nothing")
    with pytest.raises(InputError, match="norm 'l3'"):
        found.inside("l3", Fraction(1))
    with pytest.raises(InputError, match="radius"):
        found.inside("l2", Fraction(-1))


FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(max_examples=60)
@given(st.lists(st.tuples(FINITE, FINITE), max_size=5))
def test_costs_are_exact(pairs):
    before = {"w": np.array([a for a, _ in pairs], np.float32)}
    after = {"w": np.array([b for _, b in pairs], np.float32)}
    steps = [abs(Fraction(b) - Fraction(a)) for a, b in pairs]
    found = change(before, after, ["w"])
    assert found.linf == max(steps, default=0)
    assert found.l1 == sum(steps)
    assert found.l2_squared == sum(s * s for s in steps)
    assert found.own_squared == sum(Fraction(a) ** 2 for a, _ in pairs)
    words = [np.array(p, np.float32).view(np.uint32) for p in pairs]
    assert found.flipped == sum((int(a) ^ int(b)).bit_count() for a, b in words)
    assert found.zeroed == sum(a != 0 and b == 0 for a, b in pairs)
    assert found.changed == sum(a != b for a, b in pairs)
    assert found.l2 == pytest.approx(math.sqrt(found.l2_squared), rel=1e-12)
    exact = Fraction(found.l2) if math.isfinite(found.l2) else None
    if exact:
        assert not found.inside("l2", exact * Fraction(999, 1000))
    assert found.inside("l1", found.l1)
    assert not pairs or not found.l1 or not found.inside("l1", found.l1 * Fraction(1, 2))


@pytest.mark.parametrize("order", ["magnitude", "random"])
def test_pruning_zeroes_what_it_says(order, marked):
    content, _ = marked
    for share, wanted in ((Fraction(0), 0), (Fraction(1, 3), 108), (Fraction(1), 324)):
        made = pruned(content, ["conv2.weight"], share, order)
        found = cost(content, made)
        assert found.of("conv2.weight").zeroed == found.every.changed == wanted
        left = parameters(made)["conv2.weight"]
        assert np.sum(left == 0) == wanted
    both = pruned(content, ["conv2.weight", "fc.weight"], Fraction(1, 2), "magnitude")
    stored, kept = parameters(content), parameters(both)
    gone = max(np.abs(stored[n][kept[n] == 0]).max() for n in ("conv2.weight", "fc.weight"))
    least = min(np.abs(kept[n][kept[n] != 0]).min() for n in ("conv2.weight", "fc.weight"))
    assert gone <= least


@pytest.mark.parametrize("name", ["int2", "int8", "int16", "float16", "bfloat16"])
def test_quantised_numbers_are_those_of_the_format(name, marked):
    content, _ = marked
    made = quantised(content, ["conv2.weight"], name)
    before, after = (parameters(c)["conv2.weight"] for c in (content, made.content))
    again = quantised(made.content, ["conv2.weight"], name)
    assert np.allclose(parameters(again.content)["conv2.weight"], after, rtol=1e-6)
    if name.startswith("int"):
        step = made.steps["conv2.weight"]
        assert np.abs(after - before).max() <= step / 2 * (1 + 1e-6)
        assert len(np.unique(after)) < 2 ** int(name[3:])
    else:
        assert np.abs(after - before).max() <= np.abs(before).max() * 2.0**-8
        words = after.view(np.uint32)
        assert np.all(words & (0x1FFF if name == "float16" else 0xFFFF) == 0)
    assert cost(content, made.content).every.changed == int(np.sum(before != after))


@pytest.mark.parametrize(
    "attack",
    [
        lambda c: pruned(c, ["conv2.weight"], Fraction(2), "magnitude"),
        lambda c: pruned(c, ["conv2.weight"], Fraction(1, 2), "size"),
        lambda c: pruned(c, [], Fraction(1, 2), "random"),
        lambda c: pruned(c, ["x"], Fraction(1, 2), "random"),
        lambda c: quantised(c, ["x"], "int8"),
        lambda c: quantised(c, ["conv2.weight"], "int1"),
        lambda c: searched(c, lambda key: uchida("conv2.weight", key.seed), b"16 bytes of seed", 0),
        lambda c: Inversion(count=0),
        lambda c: Inversion(low=1.0),
    ],
    ids=range(9),
)
def test_attacks_that_make_no_sense(attack, marked):
    with pytest.raises(InputError):
        attack(marked[0])


def test_more_keys_match_better_and_a_shaped_key_matches_always(marked):
    content, _ = marked

    def other(key):
        return neuralmark("conv2.weight", key.seed)

    one, many = (searched(content, other, b"16 bytes of seed", n) for n in (1, 60))
    assert one.matches <= many.matches < 12
    assert many.matches == matches(content, other(many.key))
    values = parameters(content)["conv2.weight"].astype(float)
    system = other(one.key).system(values.shape)
    entries = values.reshape(-1)[system.positions]
    rows = shaped(system, entries)
    assert np.array_equal(rows @ entries > 0, system.bits)
    assert np.array_equal(np.abs(rows), np.abs(system.rows))


def test_inversion_finds_inputs_far_from_data_and_unlearns_them():
    draw = np.random.default_rng(0)
    triggers, answers = draw.uniform(size=(8, 16)), draw.integers(0, 4, 8)
    content = embed_answers(dense(width=40), POINTS, LABELS, triggers, answers, Embedding(QUICK))
    plan = Inversion(count=24, steps=30, unlearning=QUICK)
    found, classes = inverted(Trainable(content), POINTS, plan)
    assert len(found) == len(classes) > 0
    scores = Trainable(content).scores(found)
    assert np.array_equal(np.argmax(scores, axis=1), classes)
    assert np.min(np.abs(found[:, None] - POINTS[None]).max(axis=2)) >= plan.distance
    made = unlearned(content, POINTS, LABELS, plan)
    assert np.array_equal(made.inverted, found)
    assert accuracy(made.content, POINTS, LABELS) > 0.85
    assert accuracy(made.content, found, classes) < 0.3
    twice = unlearned(content, POINTS, LABELS, replace(plan, rounds=2))
    assert np.array_equal(twice.inverted[: len(found)], found)
    assert len(twice.inverted) > len(found)
    nothing = Inversion(count=4, steps=1, distance=2.0)
    assert unlearned(content, POINTS, LABELS, nothing).content == content
