from __future__ import annotations

import hashlib
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from specs import question
from specs.builders import output_range, robustness
from specs.enclosure import Enclosure, zeros
from specs.errors import InputError, PropertyError, QuestionError
from specs.linear import MatMul
from specs.network import Input, Linear, Network, Term
from specs.query import ModelFile, Query
from specs.question import load_question

HALF, TENTH = Fraction(1, 2), Fraction(1, 10)
PROPERTY = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1")) + "".join(
    f"(assert (<= 0.1 X_{i} 0.5))\n" for i in range(2)
)
MODELS = '[models]\nnet = "net.onnx"\n'
BOX = "[region]\nlower = 0.1\nupper = [0.5, 1]\n"
RANGE = '[statement]\nkind = "range"\noutput = 1\nmaximum = 2.5\n'


def model() -> tuple[Network, ModelFile]:
    layer = Linear("out", (1, 2), (Term(0, MatMul(Enclosure(np.eye(2)))),), zeros(2))
    return Network((Input("in", (1, 2)), layer), (1,)), ModelFile(None, b"", "digest")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a property and with ``net.onnx``, whose reading is replaced."""

    def read_model(path: Path, format: object = None) -> tuple[Network, ModelFile]:
        assert path == tmp_path / "net.onnx"
        return model()

    monkeypatch.setattr(question, "read_model", read_model)
    (tmp_path / "box.vnnlib").write_text(PROPERTY)
    (tmp_path / "whole.vnnlib").write_text(PROPERTY + "(assert (<= Y_0 Y_1))\n")
    return tmp_path


def load(folder: Path, text: str) -> Query:
    (folder / "q.toml").write_text(text)
    return load_question(folder / "q.toml")


def test_a_model_and_a_property(folder: Path) -> None:
    query = load_question(folder / "net.onnx", folder / "whole.vnnlib")
    assert query.property.cases[0].lower == (TENTH, TENTH)
    content = (folder / "whole.vnnlib").read_bytes()
    assert query.property_digest == hashlib.sha256(content).hexdigest()
    assert query.title == "net.onnx whole.vnnlib"


def test_a_question_that_names_both_is_the_same_question(folder: Path) -> None:
    direct = load_question(folder / "net.onnx", folder / "whole.vnnlib")
    named = load(folder, MODELS + '[region]\nfile = "whole.vnnlib"\n')
    assert named.digest == direct.digest


def test_a_box_and_an_output_range(folder: Path) -> None:
    query = load(folder, 'semantics = "real"\ntitle = "mine"\n' + MODELS + BOX + RANGE)
    assert query.title == "mine"
    assert query.property.cases[0].upper == (HALF, 1)
    built = output_range(model(), "0.1", ["0.5", 1], 1, maximum="2.5")
    assert query.digest == built.digest


def test_a_clipped_ball_and_robustness(folder: Path) -> None:
    text = "[region]\ncentre = [0.1, 1e-1]\nradius = [0.5, 0.2]\nclip = [0, [1, 0.25]]\n"
    query = load(folder, MODELS + text + '[statement]\nkind = "robust"\nlabel = 0\ntarget = 1\n')
    built = robustness(
        model(), ["0.1"] * 2, 0, ["0.5", "0.2"], target=1, lower=0, upper=[1, "0.25"]
    )
    assert query.digest == built.digest
    assert query.property.cases[0].upper == (Fraction(3, 5), Fraction(1, 4))


def test_a_region_from_a_file_and_a_formula(folder: Path) -> None:
    text = '[region]\nfile = "box.vnnlib"\n[statement]\nkind = "unsafe"\n'
    formula = "formula = '''(or (<= Y_0 0.1)\n (and (>= Y_1 2) (<= Y_0 X_0)))'''\n"
    (case,) = load(folder, MODELS + text + formula).property.cases
    assert case.lower == (TENTH, TENTH)
    assert [len(d) for d in case.unsafe] == [1, 2]


def test_dotted_keys_and_inline_tables(folder: Path) -> None:
    text = 'models = {net = "net.onnx"}\nregion.lower = 0\nregion.upper = 1\n'
    text += 'statement = {kind = "robust", label = 1}\n'
    assert load(folder, text).property.cases[0].upper == (1, 1)


REFUSED = [
    ("x = 1\n" + MODELS + BOX + RANGE, "q.toml:1:1: unknown key 'x'; known here: semantics"),
    (MODELS + BOX + "lowr = 3\n" + RANGE, "q.toml:6:1: unknown key 'lowr'"),
    (MODELS + BOX + RANGE + "[extra]\n", "q.toml:10:1: unknown key 'extra'"),
    (MODELS + BOX + RANGE.replace("1", '"1"'), "q.toml:8:1: 'output' must be an integer"),
    (MODELS + BOX + RANGE.replace("1", "true"), "q.toml:8:1: 'output' must be an integer"),
    (MODELS + BOX + RANGE.replace("1", "1.0"), "q.toml:8:1: 'output' must be an integer"),
    (MODELS + BOX + RANGE.replace("2.5", "inf"), "q.toml:9:1: 'maximum' must be"),
    (MODELS + BOX + RANGE.replace("2.5", "1e9999"), "q.toml:9:1: 'maximum' must be"),
    (MODELS + BOX + RANGE.replace("= 1", "= 2"), "q.toml:8:1: output 2 is out of range"),
    (MODELS + BOX.replace("0.1", "nan") + RANGE, "q.toml:4:1: 'lower' must be"),
    (MODELS + BOX.replace("0.1", "[0, true]") + RANGE, "q.toml:4:1: 'lower' holds true"),
    (MODELS + BOX.replace("0.1", "[0, nan]") + RANGE, "q.toml:4:1: 'lower' holds nan"),
    (MODELS + BOX.replace("0.1", "[0]") + RANGE, "q.toml:4:1: lower: 1 numbers"),
    (MODELS + BOX.replace("0.1", "3") + RANGE, "q.toml:3:1: input 0: the lower bound 3"),
    (MODELS + "[region]\nlower = 0\n" + RANGE, "q.toml:3:1: [region] needs file; or lower, upper"),
    (MODELS + BOX + "radius = 1\n" + RANGE, "q.toml:3:1: [region] needs"),
    (MODELS + RANGE, "[region] needs"),
    (MODELS + BOX, "[statement] is missing"),
    (MODELS + BOX + "[statement]\n", "kind None is none of 'robust', 'range', 'unsafe'"),
    (MODELS + BOX + '[statement]\nkind = "odd"\n', "q.toml:7:1: kind 'odd' is none of"),
    (MODELS + BOX + RANGE + "label = 1\n", "q.toml:6:1: [statement] needs output"),
    (MODELS + BOX + '[statement]\nkind = "robust"\n', "[statement] needs label"),
    (
        MODELS + "[region]\ncentre = [0, 0]\nradius = 1\nclip = [0]\n" + RANGE,
        "q.toml:6:1: 'clip' must be [LOW, HIGH]",
    ),
    (
        MODELS + "[region]\ncentre = [0, 0]\nradius = -1\n" + RANGE,
        "q.toml:5:1: radius -1 is negative",
    ),
    (
        MODELS + "[region]\ncentre = [0, 0]\nradius = 1\nclip = [0, nan]\n" + RANGE,
        "upper: nan is not a finite number",
    ),
    (BOX + RANGE, "[models] must hold one line"),
    ("models = 3\n" + BOX + RANGE, "q.toml:1:1: 'models' must be a table"),
    (MODELS + 'b = "b.onnx"\n' + BOX + RANGE, "q.toml:1:1: [models] must hold one line"),
    (MODELS.replace('"net.onnx"', "3") + BOX + RANGE, "[models] must hold one line"),
    ('semantics = "float8"\n' + MODELS + BOX + RANGE, "1:1: semantics 'float8': use one of real"),
    (MODELS + '[region]\nfile = "whole.vnnlib"\n' + RANGE, "q.toml:4:1: the region's file speaks"),
    (MODELS + BOX + '[statement]\nkind = "unsafe"\nformula = "(<= Z 1)"', "formula:1:5: unknown"),
    (MODELS + "[region\n", "q.toml:3:8: Expected ']'"),
    (MODELS + "x = " + "9" * 5000, "q.toml"),
    (MODELS + "x = " + "[" * 100_000, "q.toml"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_with_the_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        load(folder, text)
    assert message in str(error.value)
    assert "q.toml" in str(error.value)


def test_other_arguments_are_refused(folder: Path) -> None:
    for paths in ((), ("a.onnx",), ("a", "b", "c")):
        with pytest.raises(QuestionError, match="a question is a model and a property"):
            load_question(*paths)
    with pytest.raises(PropertyError, match="no such file"):
        load_question(folder / "absent.toml")
    with pytest.raises(PropertyError, match="no such file"):
        load_question(folder / "net.onnx", folder / "absent.vnnlib")


def test_the_documented_examples_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Linear("out", (1, 4), (Term(0, MatMul(Enclosure(np.eye(4)))),), zeros(4))
    network = Network((Input("in", (1, 4)), layer), (1,))
    monkeypatch.setattr(question, "read_model", lambda *_: (network, model()[1]))
    names = [f"{letter}_{i}" for letter in "XY" for i in range(4)]
    boxes = "".join(f"(declare-const {name} Real)" for name in names)
    boxes += "".join(f"(assert (<= 0 X_{i} 1))" for i in range(1, 4))
    (folder / "boxes.vnnlib").write_text(boxes + "(assert (or (<= 0 X_0 1) (<= 2 X_0 3)))")
    document = Path(__file__).parents[2] / "docs" / "question.md"
    examples = re.findall(r"```toml\n(.*?)```", document.read_text(), re.DOTALL)
    assert len(examples) == 3
    assert [len(load(folder, text).property.cases) for text in examples] == [1, 1, 2]


def test_every_key_is_documented() -> None:
    document = (Path(__file__).parents[2] / "docs" / "question.md").read_text()
    keys = {key for table in question._TABLES.values() for key in table}
    assert {
        key for key in keys if f"`{key}`" not in document and f"`{key} =" not in document
    } == set()
