"""The table [faults]: what it states, and where it is wrong."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from specs.errors import InputError, ModelError, QuestionError
from specs.faults.formats import FLOAT16, FixedFormat
from specs.faults.memory import Quantised
from specs.faults.models import (
    ActivationFaults,
    BitFlips,
    Pruning,
    Spared,
    StuckAt,
    WeightBox,
    Where,
)
from specs.faults.schema import load_faults
from specs.question import load_question
from tests.faulty_models import conv_model

REGION = """
[region]
lower = 0
upper = 1
[statement]
kind = "robust"
label = 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("faults")
    (made / "net.onnx").write_bytes(conv_model())
    return made


def load(folder, faults: str, rest: str = "", models: str = '[models]\nnet = "net.onnx"\n'):
    path = folder / "question.toml"
    path.write_text(f"{models}[faults]\n{faults}\n{rest}")
    return load_faults(path)


@pytest.mark.parametrize(
    ("faults", "model"),
    [
        ('model = "bit_flips"', BitFlips()),
        (
            'model = "bit_flips"\nk = 4\nper_word = true\nformat = "int8"\naxis = 0',
            BitFlips(4, Quantised(8, axis=0), per_word=True),
        ),
        (
            'model = "bit_flips"\nformat = "uint8"\nscale = 0.1\nzero = 7\ntensors = ["k0"]',
            BitFlips(1, Quantised(8, False, (float(np.float32(0.1)),), (7,)), Where(("k0",))),
        ),
        (
            'model = "bit_flips"\nformat = "int4"\nscale = [1, 2]\nzero = [0, 1]\naxis = 1',
            BitFlips(1, Quantised(4, True, (1.0, 2.0), (0, 1), 1)),
        ),
        (
            'model="bit_flips"\nformat="int16"\nscale=[1, 0.5]\naxis=1\nlayers=["a", "n"]',
            BitFlips(1, Quantised(16, True, (1.0, 0.5), (0, 0), 1), Where(layers=("a", "n"))),
        ),
        ('model = "bit_flips"\nformat = "Q15.16"', BitFlips(1, FixedFormat(15, 16))),
        ('model = "bit_flips"\nformat = "float16"', BitFlips(1, FLOAT16)),
        (
            'model = "stuck_at"\nk = 2\nreads = 0\nbits = [7, 6]\nchannels = [1]',
            StuckAt(2, None, Where(channels=(1,), bits=(7, 6)), reads=0),
        ),
        (
            'model = "bit_flips"\nexcept = [["w", 3, 7], ["b", 0, 1], ["w", 3, 7]]',
            BitFlips(spared=Spared((("b", 0, 1), ("w", 3, 7)))),
        ),
        (
            'model = "stuck_at"\nreads = 1\nexcept = [["w", 3, 7]]',
            StuckAt(reads=1, spared=Spared((("w", 3, 7),))),
        ),
        (
            'model = "weight_box"\nabsolute = 0.1\nrelative = 1',
            WeightBox(Fraction(1, 10), Fraction(1)),
        ),
        ('model = "pruning"\nk = 3\nchannels = [1]', Pruning(3, Where(channels=(1,)))),
        (
            'model = "activation_faults"\nk = 2\nrange = [-0.5, 6]\nunit = "channel"',
            ActivationFaults(2, Fraction(-1, 2), Fraction(6), unit="channel"),
        ),
    ],
)
def test_what_is_stated(folder, faults, model):
    question = load(folder, faults)
    assert question.model == model
    assert question.property is None
    followed = set(question.placed.parameters)
    if isinstance(model, ActivationFaults):
        assert not followed
    elif model.where.tensors is not None:
        assert followed == set(model.where.tensors)
    else:
        assert {"k0", "gamma", "var", "w", "b"} < followed


def test_region_and_statement_are_read_as_well(folder):
    question = load(folder, 'model = "bit_flips"', REGION)
    assert question.property.input_size == 72
    assert question.property_digest == question.property.digest
    assert question.title == "question.toml"


@pytest.mark.parametrize(
    ("faults", "line", "message"),
    [
        ("", 3, "needs model, one of 'bit_flips', 'stuck_at'"),
        ("model = 3", 4, "needs model"),
        ('model = "row_hammer"', 4, "needs model"),
        ('model = "bit_flips"\nflips = 2', 5, "unknown key 'flips'; known here: k, per_word"),
        ('model = "bit_flips"\nreads = 0', 5, "unknown key 'reads'"),
        ('model = "weight_box"\nk = 1', 5, "unknown key 'k'; known here: absolute, relative"),
        ('model = "bit_flips"\nk = "one"', 5, "'k' must be an integer, not 'one'"),
        ('model = "bit_flips"\nk = true', 5, "'k' must be an integer, not true"),
        ('model = "bit_flips"\nk = 1.5', 5, "'k' must be an integer"),
        ('model = "bit_flips"\nk = 0', 5, "k = 0: at least one fault"),
        ('model = "bit_flips"\nexcept = 3', 5, "'except' must be a list"),
        ('model = "bit_flips"\nexcept = [1]', 5, "cell 0 of 'except' is 1, not"),
        ('model = "bit_flips"\nexcept = [["w", 0, 1], ["w", 1]]', 5, "cell 1 of 'except'"),
        ('model = "bit_flips"\nexcept = [["w", 0, true]]', 5, "cell 0 of 'except'"),
        ('model = "bit_flips"\nexcept = [["w", 0, -1]]', 5, "negative"),
        ('model = "weight_box"\nabsolute = 1\nexcept = []', 6, "unknown key 'except'"),
        ('model = "bit_flips"\nper_word = 1', 5, "'per_word' must be true or false"),
        ('model = "bit_flips"\nformat = "fp8"', 5, "format 'fp8': use stored, float32"),
        ('model = "bit_flips"\nformat = "int17"', 5, "integers of 17 bits"),
        ('model = "bit_flips"\nformat = "Q40.2"', 5, "Q40.2: 2 to 32 bits"),
        ('model = "bit_flips"\nscale = 0.5', 5, "'scale' goes with an integer format"),
        ('model = "bit_flips"\nformat = "Q3.4"\naxis = 0', 6, "'axis' goes with an integer"),
        ('model = "bit_flips"\nformat = "uint8"', 3, "need a scale"),
        ('model = "bit_flips"\nformat = "int8"\nzero = 3', 3, "need a scale"),
        ('model = "bit_flips"\nformat = "int8"\nscale = [1, 2]', 6, "2 scales without an axis"),
        ('model = "bit_flips"\nformat = "int8"\nscale = -1', 6, "no positive float32"),
        ('model = "bit_flips"\nformat = "int8"\nscale = 1\nzero = [0.5]', 7, "are integers"),
        ('model = "bit_flips"\nformat = "int8"\naxis = -1', 6, "axis -1 is negative"),
        ('model = "bit_flips"\nbits = 3', 5, "'bits' must be a list, not 3"),
        ('model = "bit_flips"\nbits = []', 5, "bits is empty"),
        ('model = "bit_flips"\nbits = [1, 1]', 5, "names something twice"),
        ('model = "bit_flips"\nbits = [0.5]', 5, "must be a list of integers"),
        ('model = "bit_flips"\nbits = ["a"]', 5, "holds 'a', not a number"),
        ('model = "bit_flips"\nchannels = [-1]', 5, "channels holds a negative number"),
        ('model = "bit_flips"\ntensors = [1]', 5, "must be a list of strings"),
        ('model = "stuck_at"\nreads = 2', 5, "a cell reads 0 or 1, not 2"),
        ('model = "pruning"\nbits = [1]', 5, "unknown key 'bits'"),
        ('model = "pruning"\nk = 0', 5, "k = 0: at least one fault"),
        ('model = "weight_box"', 4, "needs absolute, relative or both"),
        ('model = "weight_box"\nabsolute = -1', 5, "is negative"),
        ('model = "weight_box"\nabsolute = inf', 5, "must be an integer or a number"),
        ('model = "activation_faults"', 3, "need range"),
        ('model = "activation_faults"\nrange = [1]', 5, "need range"),
        ('model = "activation_faults"\nrange = [2, 1]', 5, r"the range \[2, 1\] is empty"),
        ('model = "activation_faults"\nrange = [0, 1]\nunit = "row"', 6, "unit 'row'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder, faults, line, message):
    with pytest.raises(QuestionError, match=message) as caught:
        load(folder, faults)
    assert f"question.toml:{line}:" in str(caught.value)


@pytest.mark.parametrize(
    ("models", "rest", "message"),
    [
        ("", "", r"\[models\] must hold one line"),
        ('[models]\na = "net.onnx"\nb = "net.onnx"\n', "", "must hold one line"),
        ('semantics = "float32"\n[models]\nnet = "net.onnx"\n', "", "real semantics only"),
        ('[models]\nnet = "net.onnx"\n', "[region]\nlower = 0\n", r"\[region\] needs file; or"),
        ('[models]\nnet = "net.onnx"\n', "[extra]\nkey = 1\n", "unknown key 'extra'"),
        ('faults = 3\n[models]\nnet = "net.onnx"\n', "", "question.toml"),
    ],
)
def test_the_rest_of_the_file_is_checked(folder, models, rest, message):
    with pytest.raises(QuestionError, match=message):
        load(folder, 'model = "bit_flips"', rest, models)


def test_parts_that_do_not_fit_the_model(folder):
    with pytest.raises(ModelError, match="no initialiser 'k9'"):
        load(folder, 'model = "bit_flips"\ntensors = ["k9"]')
    with pytest.raises(InputError, match="no such file"):
        load(folder, 'model = "bit_flips"', models='[models]\nnet = "none.onnx"\n')


def test_a_question_with_faults_is_no_question_without(folder):
    """Its digest covers the faults, and its network has nodes that are struck."""
    digests = set()
    for faults in ('model = "bit_flips"', 'model = "bit_flips"\nk = 2', 'model = "stuck_at"'):
        load(folder, faults, REGION)
        query = load_question(folder / "question.toml")
        assert query.network.struck
        digests.add(query.digest)
    assert len(digests) == 3


def test_what_no_proof_speaks_of_is_refused(folder):
    for faults, rest, message in (
        (
            'model = "weight_box"\nabsolute = 100',
            REGION,
            "3:1: .*'var' may take values for which the network is not defined",
        ),
        (
            'model = "bit_flips"',
            "",
            r"\[faults\] without \[region\] and \[statement\] asks nothing",
        ),
    ):
        load(folder, faults, rest)
        with pytest.raises(QuestionError, match=message):
            load_question(folder / "question.toml")
