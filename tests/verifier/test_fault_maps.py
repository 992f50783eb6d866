"""Maps of single faults, against exact evaluation of every fault and against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from specs.errors import InputError
from specs.faults.formats import BFLOAT16, FLOAT16, FixedFormat
from specs.faults.memory import Quantised, store
from specs.faults.models import BitFlips, StuckAt, Where
from specs.faults.placed import place_model
from specs.faults.sites import cells
from tests.faulty_models import (
    conv_model,
    dense_model,
    floats,
    graph_bytes,
    model_file,
    node,
    quantised_model,
)
from verifier.faults.judge import exact_outputs, exact_verdict
from verifier.faults.maps import single_fault_maps
from verifier.faults.runtime import FaultyModel


def twice_model():
    """One initialiser in two layers."""
    rng = np.random.default_rng(7)
    nodes = [node("MatMul", "x w", "a"), node("LeakyRelu", "a", "h"), node("MatMul", "h w", "y")]
    return graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 3)})


def smooth_model():
    rng = np.random.default_rng(8)
    nodes = [node("MatMul", "x w", "a"), node("Tanh", "a", "h"), node("MatMul", "h v", "y")]
    return graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 3), "v": floats(rng, 3, 3)})


def product_model():
    rng = np.random.default_rng(9)
    nodes = [node("MatMul", "x w", "a"), node("Mul", "a x", "y")]
    return graph_bytes(nodes, (1, 3), {"w": floats(rng, 3, 3)})


def residual_model():
    """A shortcut around a layer, and rows of several positions."""
    rng = np.random.default_rng(10)
    stored = {"w": floats(rng, 3, 3), "b": floats(rng, 3), "s": np.array([1, 6], dtype=np.int64)}
    nodes = [
        node("MatMul", "x w", "a"),
        node("Add", "a b", "c"),
        node("Relu", "c", "h"),
        node("Add", "h x", "r"),
        node("Reshape", "r s", "y"),
    ]
    return graph_bytes(nodes, (2, 3), stored)


WHOLE = {
    "dense": (dense_model((4, 3, 3, 2)), None),
    "shallow": (dense_model((3, 4, 3)), None),
    "twice": (twice_model(), None),
    "smooth": (smooth_model(), None),
    "product": (product_model(), None),
    "residual": (residual_model(), None),
    "quantised": (quantised_model(), ("q", "b")),
}


def points_for(placed, count=3, seed=0):
    points = np.random.default_rng(seed).normal(size=(count, placed.network.input_size))
    points = points.astype(np.float32).astype(np.float64)
    points[:, 1] = 0.0
    return points


def brute(memory, points, labels, name, entry, value):
    """Verdicts of one fault at all points, by the network that the changed word makes."""
    values = memory.values[name].copy()
    values[entry] = value
    network = memory.placed.with_values({**memory.values, name: values})
    return [
        exact_verdict(exact_outputs(network, point), int(label))
        for point, label in zip(points, labels, strict=True)
    ]


def check(memory, found, maps, points, every=1):
    seen = {True: 0, False: 0}
    for name, each in maps.maps.items():
        for index in range(0, len(each.faults), every):
            if not each.number[index]:
                continue
            entry, value = int(each.faults.entry[index]), float(each.faults.value[index])
            verdicts = brute(memory, points, maps.labels, name, entry, value)
            assert each.critical[index] == verdicts.count(False), (name, index)
            assert each.undecided[index] == verdicts.count(None)
            if False in verdicts:
                assert each.first[index] == verdicts.index(False)
            else:
                assert each.first[index] == -1
            seen[bool(each.benign[index])] += 1
    return seen


CHOICES = [None, Quantised(8), FixedFormat(3, 4)]
PAIRS = [(name, choice) for name in WHOLE for choice in CHOICES if name != "quantised"]


@pytest.mark.parametrize(("name", "choice"), [*PAIRS, ("quantised", None)])
def test_every_fault_is_decided_as_the_exact_network_says(name, choice):
    content, tensors = WHOLE[name]
    placed = place_model(model_file(content), tensors)
    points = points_for(placed)
    memory = store(placed, choice)
    found = cells(memory, BitFlips())
    maps = single_fault_maps(found, points)
    assert maps.totals["faults"] == found.count == memory.bits
    assert maps.totals["undecided"] == 0
    seen = check(memory, found, maps, points, 3 if choice is None else 1)
    assert seen[True] > 10
    assert seen[False] > 3
    tally = maps.tally
    numbers = sum(int(each.number.sum()) for each in maps.maps.values())
    assert tally.small + tally.floats + tally.exact == numbers * len(points)
    assert maps.rate > 0


@pytest.mark.parametrize("choice", [None, Quantised(8, axis=0), FLOAT16, BFLOAT16])
def test_convolutions_and_normalisations(choice):
    placed = place_model(model_file(conv_model()))
    points = points_for(placed, 2)
    memory = store(placed, choice)
    found = cells(memory, BitFlips())
    maps = single_fault_maps(found, points)
    assert maps.totals["undecided"] == 0
    assert set(maps.maps) == set(placed.parameters)
    seen = check(memory, found, maps, points, 23)
    assert min(seen.values()) > 5
    variance = maps.maps["var"]
    sign = variance.faults.bit == memory.stored["var"].format.bits - 1
    assert not variance.number[sign].any()
    assert not variance.benign[sign].any()


@pytest.mark.parametrize("name", ["dense", "residual", "conv"])
def test_onnxruntime_contradicts_nothing(name):
    content = conv_model() if name == "conv" else WHOLE[name][0]
    placed = place_model(model_file(content))
    points = points_for(placed, 2)
    memory = store(placed)
    maps = single_fault_maps(cells(memory, BitFlips()), points)
    rng = np.random.default_rng(1)
    compared = {True: 0, False: 0}
    for tensor, each in maps.maps.items():
        for index in rng.choice(len(each.faults), size=80):
            if not each.number[index]:
                continue
            entry, value = int(each.faults.entry[index]), float(each.faults.value[index])
            runtime = FaultyModel(memory, {tensor: {entry: value}})
            outputs = np.array([runtime.run(point) for point in points])
            if not np.all(np.isfinite(outputs)):
                continue
            kept = np.argmax(outputs, axis=1) == maps.labels
            assert (~kept).sum() == each.critical[index]
            compared[bool(each.benign[index])] += 1
    assert compared[True] > 40
    assert compared[False] > 3


def test_a_word_that_is_no_number_is_neither_benign_nor_critical():
    stored = {"w": np.array([[1.5, -1.25]], dtype=np.float32)}
    placed = place_model(model_file(graph_bytes([node("Add", "x w", "y")], (1, 2), stored)))
    maps = single_fault_maps(cells(store(placed), BitFlips()), np.array([[3.0, 1.0]]))
    each = maps.maps["w"]
    top = each.faults.bit == 30
    assert not each.number[top].any()
    assert not each.benign[top].any()
    assert not each.critical[top].any()
    assert maps.totals["not a number"] == 2


def test_a_tie_is_critical_and_is_found_exactly():
    """With 0.5 for 0.75 both outputs are 1.5, which no bound of an error tells apart."""
    stored = {"w": np.array([[0.75, 0.5]], dtype=np.float32)}
    placed = place_model(model_file(graph_bytes([node("Add", "x w", "y")], (1, 2), stored)))
    memory = store(placed, FixedFormat(1, 2))
    maps = single_fault_maps(cells(memory, BitFlips()), np.array([[1.0, 1.0]]))
    each = maps.maps["w"]
    value = dict(
        zip(zip(each.faults.entry, each.faults.bit, strict=True), each.faults.value, strict=True)
    )
    assert value[0, 0] == 0.5
    critical = {
        (e, b)
        for e, b, c in zip(each.faults.entry, each.faults.bit, each.critical, strict=True)
        if c
    }
    assert (0, 0) in critical
    assert maps.tally.exact >= 1


def test_stuck_cells_that_read_what_was_written_are_benign():
    placed = place_model(model_file(WHOLE["dense"][0]))
    points = points_for(placed)
    memory = store(placed, Quantised(8))
    maps = single_fault_maps(cells(memory, StuckAt()), points)
    flips = single_fault_maps(cells(memory, BitFlips()), points)
    for name, each in maps.maps.items():
        words = memory.stored[name].words[each.faults.entry]
        same = each.faults.word == words
        assert same.sum() * 2 == len(each.faults)
        assert each.benign[same].all()
        assert np.array_equal(each.critical[~same], flips.maps[name].critical)


def test_only_what_is_exposed_is_mapped():
    placed = place_model(model_file(WHOLE["dense"][0]))
    where = Where(tensors=("w1",), bits=(7,), channels=(0,))
    maps = single_fault_maps(
        cells(store(placed, Quantised(8)), BitFlips(where=where)), points_for(placed)
    )
    assert list(maps.maps) == ["w1"]
    assert maps.maps["w1"].faults.entry.tolist() == [0, 1, 2]


def test_what_is_not_read_is_benign():
    stored = {"w": floats(np.random.default_rng(0), 1, 2), "idle": np.float32([[1.0, 2.0]])}
    placed = place_model(model_file(graph_bytes([node("Add", "x w", "y")], (1, 2), stored)))
    maps = single_fault_maps(cells(store(placed), BitFlips()), np.array([[3.0, 1.0]]))
    idle = maps.maps["idle"]
    assert np.array_equal(idle.benign, idle.number)


def test_progress_is_told():
    placed = place_model(model_file(WHOLE["shallow"][0]))
    told = []
    single_fault_maps(
        cells(store(placed, Quantised(8)), BitFlips()),
        points_for(placed),
        lambda *t: told.append(t),
    )
    assert told[0] == ("w0", 0, 3)
    assert len(told) == 4 * 3


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((2, 5)), r"points of shape \(2, 5\) for 3 inputs"),
        (np.zeros(3), "for 3 inputs"),
        (np.array([[1.0, np.nan, 0.0]]), "not finite"),
    ],
)
def test_points_that_do_not_fit(points, message):
    placed = place_model(model_file(WHOLE["shallow"][0]))
    with pytest.raises(InputError, match=message):
        single_fault_maps(cells(store(placed), BitFlips()), points)


def test_networks_and_points_without_a_prediction():
    single = graph_bytes([node("Add", "x w", "y")], (1, 1), {"w": np.float32([[1.0]])})
    with pytest.raises(InputError, match="two outputs"):
        single_fault_maps(
            cells(store(place_model(model_file(single))), BitFlips()), np.ones((1, 1))
        )
    tied = graph_bytes([node("Add", "x w", "y")], (1, 2), {"w": np.float32([[1.0, 1.0]])})
    with pytest.raises(InputError, match="point 1: no output exceeds"):
        single_fault_maps(
            cells(store(place_model(model_file(tied))), BitFlips()),
            np.array([[1.0, 0.0], [1.0, 1.0]]),
        )
