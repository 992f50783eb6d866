"""Small marked models, questions about them, and their evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from proofs.watermarks.evidence import MarkEvidence
from specs.watermarks.question import MarkQuestion, load_mark_question

SEED = "000102030405060708090a0b0c0d0e0f"


def model(path: Path, weight: np.ndarray, *, used: bool = True) -> Path:
    """``y = Relu(x w) + 1``, or with another tensor in place of ``w``, which no output reads."""
    weight = np.asarray(weight, dtype=np.float32)
    held = {"w": weight, "one": np.ones(weight.shape[1], np.float32)}
    if not used:
        held["other"] = weight
    nodes = [
        helper.make_node("MatMul", ["x", "w" if used else "other"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "one"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "marked",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weight.shape[1]])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(made, path)
    return path


def question_file(folder: Path, claim: str, mark: str = "", net: str = "net.onnx") -> Path:
    """A question file with the keys of a claim, and of a mark in place of the usual one."""
    mark = mark or f'scheme = "uchida"\nseed = "{SEED}"\ntensor = "w"\nbits = 8'
    path = folder / "question.toml"
    path.write_text(f'[models]\nnet = "{net}"\n[watermark]\n{mark}\n[claim]\n{claim}\n')
    return path


def question(folder: Path, claim: str, mark: str = "") -> MarkQuestion:
    """The same, loaded."""
    return load_mark_question(question_file(folder, claim, mark))


def evidence(asked: MarkQuestion, claims: str = "unsat", **arrays: np.ndarray) -> MarkEvidence:
    """Evidence for a question."""
    return MarkEvidence(asked.digest, claims, arrays)
