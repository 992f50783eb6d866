"""Derivatives as networks, and Lipschitz constants that the kernel proves or refutes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import farkas
from proofs.format import write_arrays
from proofs.partitions.check import check_partition
from specs.derivative import Derivative, Transposed, transposed
from specs.enclosure import Enclosure
from specs.errors import InputError, UnsupportedOperatorError
from specs.linear import Gather, Identity, MatMul, Scale, Scatter
from specs.lipschitz import LipschitzQuestion, load_lipschitz_question
from specs.network import Network, Univariate
from specs.property import Case
from specs.query import ModelFile
from tests.partition_models import model, partition
from tests.proofs.helpers import BOTH, Net
from verifier.attack_forward import NumpyEvaluator


def ask(network: Network, low, high, at_most, norm="linf", rows=None) -> LipschitzQuestion:
    case = Case(tuple(map(Fraction, low)), tuple(map(Fraction, high)), ())
    rows = np.eye(network.output_size) if rows is None else np.asarray(rows, dtype=float)
    file = ModelFile(None, b"", "0")
    return LipschitzQuestion(file, network, case, norm, rows, Fraction(at_most), "f", "built")


def verdict(asked, text, *splits, claims="unsat", arithmetic="outward") -> str:
    made = partition(asked, text, *splits, claims=claims)
    return check_partition(asked, made, arithmetic=arithmetic).checked.verdict


def fold() -> Network:
    """``Relu(x0 + x1) - 2 Relu(-x0)``: gradients (0, 0), (1, 1), (2, 0), (3, 1)."""
    net = Net(2)
    return net.done(net.dense(net.relu(net.dense(0, [[1.0, 1.0], [-1.0, 0.0]])), [[1.0, -2.0]]))


@pytest.mark.parametrize("arithmetic", BOTH)
@pytest.mark.parametrize(
    ("norm", "constant"), [("linf", 4), ("l2", Fraction(3163, 1000)), ("l1", 3)], ids=str
)
def test_the_constant_of_a_small_network(arithmetic, norm, constant):
    asked = ask(fold(), [-1, -1], [1, 1], constant + Fraction(1, 1000), norm)
    above = replace(asked, at_most=Fraction(constant) - Fraction(1, 50))
    assert verdict(asked, "s", arithmetic=arithmetic) == "valid unsat"
    assert verdict(above, "s", arithmetic=arithmetic) == "invalid"
    # Below x0 = 0 and above x0 + x1 = 0 all gradients are (3, 1).
    inside = ask(fold(), [Fraction(-1, 2), Fraction(3, 4)], [Fraction(-1, 4), 1], 0, norm)
    inside = replace(inside, at_most=above.at_most)
    assert verdict(inside, "u", claims="sat", arithmetic=arithmetic) == "valid sat"
    assert verdict(inside, "s", arithmetic=arithmetic) == "invalid"
    assert verdict(above, "u", claims="sat", arithmetic=arithmetic) == "invalid"
    splits = (0, -0.5), (1, 0.75), (0, -0.25)
    assert verdict(above, "/o/o/uo", *splits, claims="sat") == "valid sat"


def test_every_leaf_counts():
    asked = ask(fold(), [-1, -1], [1, 1], Fraction(2001, 1000))
    # Above x0 = 0 the gradient is (1, 1) or (0, 0), below it may be (3, 1).
    assert verdict(asked, "/ss", (0, 0.0)) == "invalid"
    right = ask(fold(), [Fraction(1, 8), -1], [1, 1], Fraction(2001, 1000))
    assert verdict(right, "/ss", (0, 0.5)) == "valid unsat"
    assert verdict(right, "/so", (0, 0.5)) == "invalid"
    assert verdict(right, "/su", (0, 0.5)) == "invalid"
    assert verdict(right, "u", claims="sat") == "invalid"
    assert verdict(right, "o", claims="sat") == "invalid"


def test_inputs_that_are_points_do_not_count():
    third = Fraction(1, 3)
    asked = ask(fold(), [-1, third], [1, third], Fraction(3001, 1000))
    assert asked.free == (0,)
    assert verdict(asked, "s") == "valid unsat"
    assert verdict(asked, "/ss", (1, float(third))) == "invalid"
    assert verdict(ask(fold(), [-1, third], [1, third], 2), "s") == "invalid"


def gradient(network: Network, row, x) -> np.ndarray:
    made = Derivative(network)
    tensor = made.gradient(np.asarray(row, dtype=float), "g")
    whole = Network(tuple(made.nodes), (tensor,))
    return NumpyEvaluator(whole).values(x)[tensor]


def smooth(*functions: str) -> Network:
    net = Net(3)
    rng = np.random.default_rng(len(functions))
    last = net.dense(0, rng.normal(size=(3, 3)) / 2, [3.0, 4.0, 5.0])
    for function in functions:
        parameters = (2.0,) if function == "power" else ()
        made = Univariate(f"n{len(net.nodes)}", (3,), last, function, parameters)
        net.nodes.append(made)
        last = len(net.nodes) - 1
    twice = net.product(last, 1)
    return net.done(net.dense(twice, rng.normal(size=(2, 3))), net.add(last, twice))


@pytest.mark.parametrize(
    "functions",
    [
        ("relu",), ("sigmoid",), ("tanh",), ("exp",), ("sin",), ("cos",), ("reciprocal",),
        ("power",), ("sin", "tanh"), ("sigmoid", "relu", "power"),
    ],
    ids="-".join,
)  # fmt: skip
def test_the_network_of_the_derivative_is_the_gradient(functions):
    network = smooth(*functions)
    rng = np.random.default_rng(0)
    x, row = rng.uniform(-0.3, 0.3, size=(5, 3)), rng.normal(size=network.output_size)
    found = gradient(network, row, x)

    def value(at):
        values = NumpyEvaluator(network).values(at)
        return np.concatenate([values[t] for t in network.outputs], axis=1) @ row

    step = 1e-5
    for entry in range(3):
        shift = np.zeros(3)
        shift[entry] = step
        near = (value(x + shift) - value(x - shift)) / (2 * step)
        assert np.allclose(found[:, entry], near, rtol=1e-4, atol=1e-6)


def test_several_inputs_and_outputs_that_are_inputs():
    net = Net(2, 1)
    total = net.linear((0, MatMul(Enclosure(np.ones((2, 1))))), (1, Identity(1)))
    network = net.done(net.relu(total), 1)
    found = gradient(network, [2.0, 5.0], np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]))
    assert found.tolist() == [[2.0, 2.0, 7.0], [0.0, 0.0, 5.0]]


def test_what_has_no_derivative_is_refused():
    net = Net(2)
    net.nodes.append(Univariate("jump", (2,), 0, "sign"))
    with pytest.raises(
        UnsupportedOperatorError, match="tensor 'jump': no derivative is known of sign"
    ):
        Derivative(net.done())


def maps():
    rng = np.random.default_rng(1)
    weight = Enclosure(rng.normal(size=(2, 3)), np.full((2, 3), 0.1))
    return [
        Identity(4), Scale(Enclosure(rng.normal(size=4))), MatMul(weight), MatMul(weight, 2),
        Gather(np.array([1, -1, 0, 1]), 3), Scatter(np.array([0, 2, 2]), 3),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(6))
def test_transposes(number):
    map_ = maps()[number]
    turned, rng = transposed(map_), np.random.default_rng(2)
    x, y = rng.normal(size=(3, map_.source_size)), rng.normal(size=(3, map_.target_size))
    weight, other = (None if m.weight is None else m.weight.value for m in (map_, turned))
    product = np.matmul
    assert (turned.source_size, turned.target_size) == (map_.target_size, map_.source_size)
    left = (turned.forward(y, other, product) * x).sum(axis=1)
    assert np.allclose(left, (map_.forward(x, weight, product) * y).sum(axis=1))
    assert np.allclose(turned.adjoint(x, other, product), map_.forward(x, weight, product))
    assert turned.fan_in == map_.fan_out
    assert isinstance(turned, Transposed) == isinstance(map_, Gather | Scatter)
    if map_.weight is not None and map_.weight.radius is not None:
        assert turned.weight.radius.shape == (3, 2)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["linf", "l2", "l1"]))
@example(204, "linf")  # where parts have a larger bound than the whole
def test_no_gradient_is_above_what_is_proved(seed, norm):
    rng = np.random.default_rng(seed)
    net = Net(3)
    hidden = net.relu(net.dense(0, rng.normal(size=(5, 3)), rng.normal(size=5)))
    hidden = net.relu(net.dense(hidden, rng.normal(size=(4, 5)), rng.normal(size=4)))
    network = net.done(net.dense(hidden, rng.normal(size=(2, 4))))
    from verifier.probability.lipschitz import bound

    asked = ask(network, [-1] * 3, [1] * 3, 0, norm, rows=[[1, -1]])
    found = bound(asked, 5.0, leaves=8)
    for arithmetic in BOTH:
        checked = check_partition(found.question, found.evidence, arithmetic=arithmetic).checked
        assert checked.verdict == "valid unsat", checked.reason
    assert found.found <= found.constant <= found.first * 1.001
    lower = replace(found.question, at_most=Fraction(found.found) * Fraction(99, 100))
    assert verdict(lower, "s") == "invalid" or found.found < 1e-9


def test_files_and_command_line(tmp_path, capsys):
    model(tmp_path / "net.onnx", np.array([[1.0, -1.0], [1.0, 0.0]]), np.array([[1.0], [-2.0]]))
    question = tmp_path / "question.toml"

    def write(claim: str, region: str = "lower = -1\nupper = [1, 1]", rest: str = "") -> Path:
        head = f'[models]\nnet = "net.onnx"\n[region]\n{region}\n'
        question.write_text(f"{head}{rest}[lipschitz]\n{claim}\n")
        return question

    asked = load_lipschitz_question(write("at_most = 4.001"))
    file = tmp_path / "question.farkas"
    write_arrays(file, partition(asked, "/ss", (0, 0.0)))
    assert farkas.main(["check", str(question), str(file), "--json", str(tmp_path / "c.json")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("valid unsat\nproved (the claim holds): the gradient's norm is at most")
    assert "for all x and x'" in out
    (tmp_path / "c.json").unlink()
    assert farkas.main(["check", str(question), str(file), "--arithmetic", "exact"]) == 0
    assert farkas.main(["check", str(tmp_path)]) == 0
    assert farkas.main(["show", str(question), str(file)]) == 0
    assert farkas.main(["verify", str(question)]) == 3
    digests = {asked.digest}
    for claim in ("at_most = 4", 'at_most = 4\nnorm = "l2"', "at_most = 4\noutput = 0"):
        digests.add(load_lipschitz_question(write(claim)).digest)
    digests.add(load_lipschitz_question(write("at_most = 4", "lower = -1\nupper = 1")).digest)
    assert len(digests) == 3  # the one output is each output, the box the same
    bad = [
        ("", {}, "needs 'at_most'"),
        ("at_most = -1", {}, "needs 'at_most'"),
        ('at_most = 1\nnorm = "l3"', {}, "none of linf, l2, l1"),
        ("at_most = 1\noutput = 1", {}, "outputs go to 0"),
        ("at_most = 1\nlabel = 0", {}, "another 'target'"),
        ("at_most = 1\nradius = 1", {}, "unknown key 'radius'"),
        ("at_most = 1", {"region": "lower = 1\nupper = 1"}, "the box is a point"),
        ("at_most = 1", {"rest": '[statement]\nkind = "robust"\nlabel = 0\n'}, "takes the place"),
        ("at_most = 1", {"region": "lower = 2\nupper = 1"}, "upper"),
    ]
    for claim, changes, says in bad:
        with pytest.raises(InputError, match=says):
            load_lipschitz_question(write(claim, **changes))
