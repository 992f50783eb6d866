"""Memories, the cells of a model, its single faults, and what each parameter can become."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from specs.errors import QuestionError
from specs.faults.formats import BFLOAT16, FLOAT16, FLOAT32, FixedFormat
from specs.faults.memory import Quantised, store
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    Pruning,
    StuckAt,
    WeightBox,
    Where,
    followed,
)
from specs.faults.placed import place_model
from specs.faults.sites import activation_groups, cells, weight_intervals
from tests.faulty_models import (
    conv_model,
    dense_model,
    floats,
    graph_bytes,
    model_file,
    node,
    quantised_model,
)


@pytest.fixture(scope="module")
def dense():
    return place_model(model_file(dense_model((3, 2, 2))))


@pytest.fixture(scope="module")
def conv():
    return place_model(model_file(conv_model()))


@pytest.mark.parametrize(
    "choice", [None, FLOAT16, BFLOAT16, Quantised(8), Quantised(5, axis=0), FixedFormat(3, 12)]
)
def test_the_network_in_question_has_the_stored_values(conv, choice):
    memory = store(conv, choice)
    for place in memory.placed.places:
        if place.function != "linear":
            continue
        node = memory.network.nodes[place.node]
        found = node.offset if place.term is None else node.terms[place.term].map.weight
        held = place.entries >= 0
        values = memory.stored[place.tensor].values[place.entries]
        expected = (values * place.factor.value)[held]
        np.testing.assert_array_equal(found.value.reshape(-1)[held], expected)
    exact = all(
        np.array_equal(memory.stored[name].values, p.values) for name, p in conv.parameters.items()
    )
    assert exact == (choice is None)
    size = sum(p.size for p in conv.parameters.values())
    assert memory.bits == size * next(iter(memory.stored.values())).format.bits


def test_each_parameter_may_have_a_format_of_its_own(conv):
    memory = store(conv, {"k0": Quantised(8, axis=0), "w": FLOAT16})
    assert memory.stored["k0"].format.channels == 4
    assert memory.stored["w"].format == FLOAT16
    assert memory.stored["c0"].format == FLOAT32
    with pytest.raises(QuestionError, match="no parameter 'k9'"):
        store(conv, {"k9": FLOAT16})


def test_integers_of_the_file_are_their_own_words():
    placed = place_model(model_file(quantised_model()), ("q", "b"))
    memory = store(placed)
    assert memory.stored["q"].format.name == "int8"
    assert np.array_equal(memory.stored["q"].values, placed.parameters["q"].values)
    with pytest.raises(QuestionError, match="parameter 'q': it is stored in int8 already"):
        store(placed, FLOAT16)


def test_what_cannot_be_stored_is_named():
    stored = {"w": np.array([[1e30, 1.0]], dtype=np.float32)}
    content = graph_bytes([node("Add", "x w", "y")], (1, 2), stored)
    placed = place_model(model_file(content))
    with pytest.raises(QuestionError, match="parameter 'w': a value is beyond the range"):
        store(placed, FLOAT16)
    wide = {"w": np.zeros((1, 2))}
    content = graph_bytes([node("Identity", "w", "v"), node("Relu", "x", "y")], (1, 2), wide)
    with pytest.raises(QuestionError, match="words of float64"):
        store(place_model(model_file(content), ("w",)))


def test_cells_are_counted(dense):
    memory = store(dense, Quantised(8))
    entries = 6 + 2 + 4 + 2
    assert cells(memory, BitFlips()).count == 8 * entries == memory.bits
    some = cells(memory, BitFlips(2, where=Where(tensors=("w0",), bits=(7, 0))))
    assert (some.count, some.combinations) == (12, 1 + 12 + 66)
    assert cells(memory, BitFlips(3, where=Where(bits=(7,)), per_word=True)).combinations == 15
    words = cells(memory, BitFlips(2, per_word=True))
    assert words.combinations == 1 + entries * (8 + 28)
    stuck = cells(memory, StuckAt(1))
    assert (stuck.count, stuck.faults, stuck.combinations) == (112, 224, 225)
    assert cells(memory, StuckAt(1, reads=1)).faults == 112


@pytest.mark.parametrize("size", [1, 40, 1 << 16])
@pytest.mark.parametrize("choice", [None, Quantised(8)])
def test_every_single_fault_is_listed_once(dense, choice, size):
    memory = store(dense, choice)
    found = cells(memory, BitFlips(where=Where(bits=(0, 3, 7))))
    listed = []
    for name in found.exposed:
        for batch in found.batches(name, size):
            stored = memory.stored[name]
            before = stored.words[batch.entry]
            expected = before ^ (np.uint32(1) << batch.bit.astype(np.uint32))
            assert np.array_equal(batch.word, expected)
            value, number = stored.decode(batch.entry, batch.word)
            assert np.array_equal(batch.number, number)
            assert np.array_equal(batch.value[number], value[number])
            assert np.array_equal(batch.reads, (batch.word >> batch.bit.astype(np.uint32)) & 1)
            listed += [(name, e, b) for e, b in zip(batch.entry, batch.bit, strict=True)]
    expected = [
        (name, e, b)
        for name, p in dense.parameters.items()
        for e in range(p.size)
        for b in (0, 3, 7)
    ]
    assert listed == expected


@pytest.mark.parametrize("reads", [None, 0, 1])
def test_stuck_cells_read_what_they_read(dense, reads):
    memory = store(dense, Quantised(8))
    found = cells(memory, StuckAt(reads=reads))
    seen = set()
    for batch in found.batches("w0"):
        before = memory.stored["w0"].words[batch.entry]
        place = batch.bit.astype(np.uint32)
        assert np.array_equal((batch.word >> place) & 1, batch.reads)
        assert np.array_equal(batch.word & ~(np.uint32(1) << place), before & ~(1 << place))
        seen |= set(
            zip(batch.entry.tolist(), batch.bit.tolist(), batch.reads.tolist(), strict=True)
        )
    values = (0, 1) if reads is None else (reads,)
    assert seen == set(itertools.product(range(6), range(8), values))
    hull = found.hull("w0", 8)
    stored = memory.stored["w0"]
    words = stored.words.astype(np.int64)
    for entry in range(6):
        own = [w for w in range(256) if reads is None or _only(int(words[entry]), w, reads)]
        reached = stored.decode(np.full(len(own), entry), np.array(own, np.uint32))[0]
        assert (hull.lower[entry], hull.upper[entry]) == (reached.min(), reached.max())


def _only(word: int, other: int, reads: int) -> bool:
    return (word | other) == other if reads == 1 else (word & other) == other


def test_where_selects_layers_and_channels(conv):
    memory = store(conv)
    only = cells(memory, BitFlips(where=Where(layers=("n",), channels=(1, 3))))
    assert set(only.exposed) == {"gamma", "beta", "mean", "var"}
    assert all(w.tolist() == [0, 2**32 - 1, 0, 2**32 - 1] for w in only.exposed.values())
    kernel = cells(memory, BitFlips(where=Where(tensors=("k1",), channels=(2,))))
    assert np.flatnonzero(kernel.exposed["k1"]).tolist() == list(range(36, 54))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (Where(tensors=("k9",)), "no tensor 'k9'; known: 'b', 'beta'"),
        (Where(layers=("r",)), "no layer 'r'; known: 'a', 'd', 'm', 'n', 'y'"),
        (Where(channels=(4,)), "no parameter stands in channel 4"),
        (Where(bits=(32,)), "float32 has bits 0 to 31"),
        (Where(tensors=("k1",), layers=("a",)), "no stored bit is left"),
    ],
)
def test_what_is_not_there_is_refused(conv, where, message):
    with pytest.raises(QuestionError, match=message):
        cells(store(conv), BitFlips(where=where))


def test_weight_intervals_hold_exact_ends(dense):
    model = WeightBox(Fraction(1, 10), Fraction(1, 3), Where(tensors=("w0",), channels=(1,)))
    (low, high) = weight_intervals(dense, model)["w0"]
    for entry, value in enumerate(dense.parameters["w0"].values):
        radius = 0 if entry < 3 else Fraction(1, 10) + abs(Fraction(value)) / 3
        ends = Fraction(low[entry]), Fraction(high[entry])
        assert ends[0] <= Fraction(value) - radius <= ends[0] + Fraction(1, 2**50)
        assert ends[1] - Fraction(1, 2**50) <= Fraction(value) + radius <= ends[1]


def test_activations_are_grouped():
    span = (Fraction(0), Fraction(1))

    def grouped(where=None, unit="neuron", content=None):
        model = ActivationFaults(1, *span, where or Where(), unit)
        placed = place_model(model_file(content or conv_model()), *followed(model))
        groups = activation_groups(placed, model)
        return {placed.network.nodes[number].name: found for number, found in groups.items()}

    assert {name: len(groups) for name, groups in grouped().items()} == {"h": 36, "r": 36}
    where = Where(tensors=("h",), channels=(1, 2))
    found = grouped(where, "channel")["h"]
    assert [group.tolist() for group in found] == [list(range(9, 18)), list(range(18, 27))]
    assert all(len(group) == 1 for group in grouped(where)["h"])
    for bad, message in (
        (Where(tensors=("nobody",)), "no tensor 'nobody'"),
        (Where(tensors=("k0",)), "no tensor 'k0'"),
        (Where(tensors=("x",)), "'x' is an input"),
        (Where(channels=(4,)), "no activation stands in channel 4"),
    ):
        with pytest.raises(QuestionError, match=message):
            grouped(bad)
    with pytest.raises(QuestionError, match="no activation is left"):
        grouped(content=graph_bytes([node("Neg", "x", "y")], (1, 2), {}))


def test_activations_that_were_not_kept_apart_are_refused(conv):
    model = ActivationFaults(1, Fraction(0), Fraction(1), Where(tensors=("h",)))
    with pytest.raises(QuestionError, match="'h' was not kept apart"):
        activation_groups(conv, model)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BitFlips(0), "k = 0"),
        (lambda: StuckAt(-1), "k = -1"),
        (lambda: StuckAt(1, reads=2), "0 or 1, not 2"),
        (lambda: ActivationFaults(1, Fraction(1), Fraction(0)), "is empty"),
        (lambda: ActivationFaults(1, Fraction(0), Fraction(0), unit="row"), "unit 'row'"),
        (lambda: ActivationFaults(1, Fraction(0), Fraction(0), Where(bits=(1,))), "do not apply"),
        (lambda: WeightBox(Fraction(-1)), "negative"),
        (lambda: WeightBox(Fraction(1), where=Where(bits=(1,))), "'bits' does not apply"),
        (lambda: Pruning(0), "k = 0"),
        (lambda: Pruning(1, Where(bits=(1,))), "'bits' does not apply"),
        (lambda: Where(bits=()), "bits is empty"),
        (lambda: Where(tensors=("a", "a")), "tensors is empty, or names something twice"),
        (lambda: Where(channels=(-1,)), "channels holds a negative"),
        (lambda: Quantised(8, signed=False), "signed integers about 0"),
        (lambda: Quantised(8, scale=(1.0, 2.0), zero=(0, 0)), "2 scales without an axis"),
        (lambda: Quantised(17), "integers of 17 bits"),
        (lambda: Quantised(8, scale=(0.1,)), "no positive float32"),
    ],
)
def test_models_that_make_no_sense(make, message):
    with pytest.raises(QuestionError, match=message):
        make()


def test_texts_tell_models_apart():
    models = [
        BitFlips(1),
        BitFlips(2),
        BitFlips(1, per_word=True),
        BitFlips(1, FLOAT16),
        BitFlips(1, Quantised(8)),
        BitFlips(1, Quantised(8, axis=0)),
        BitFlips(1, Quantised(8, scale=(0.5,))),
        BitFlips(1, FixedFormat(7, 8)),
        BitFlips(1, where=Where(bits=(1,))),
        BitFlips(1, where=Where(channels=(1,))),
        BitFlips(1, where=Where(tensors=("a",))),
        BitFlips(1, where=Where(layers=("a",))),
        StuckAt(1),
        StuckAt(1, reads=0),
        StuckAt(1, reads=1),
        WeightBox(Fraction(1)),
        WeightBox(relative=Fraction(1)),
        Pruning(1),
        Pruning(2),
        Pruning(1, Where(channels=(1,))),
        ActivationFaults(1, Fraction(0), Fraction(1)),
        ActivationFaults(1, Fraction(0), Fraction(1), unit="channel"),
    ]
    assert len({model.text for model in models}) == len(models)


def test_words_of_shared_parameters_have_one_budget():
    """Two uses of one initialiser are one word."""
    stored = {"a": floats(np.random.default_rng(0), 1, 3)}
    nodes = [node("Add", "x a", "p"), node("Mul", "p a", "y")]
    placed = place_model(model_file(graph_bytes(nodes, (1, 3), stored)))
    assert cells(store(placed), BitFlips()).count == 3 * 32
    assert len(placed.of["a"]) == 2
