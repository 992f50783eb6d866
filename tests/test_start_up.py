"""Generated queries load, mean what they say, and are answered without contradiction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import start_up
from specs.question import load_question
from tests.networks import evaluate
from verifier.bench import read_list
from verifier.bench_table import Row
from verifier.options import Options
from verifier.verify import verify


def test_answers_agree_with_sampling(tmp_path: Path) -> None:
    balls = start_up.write_queries(tmp_path, 3)
    listed = read_list(tmp_path)
    assert [one.limit for one in listed] == [start_up.LIMIT] * 3
    random = np.random.default_rng(1)
    answers = []
    for ball, one in zip(balls, listed, strict=True):
        query = load_question(one.folder / one.onnx, one.folder / one.vnnlib)
        assert (query.network.input_size, query.network.neurons) == (5, 300)
        (case,) = query.property.cases
        low, high = case.box()
        np.testing.assert_allclose(low, ball.centre - ball.radius, atol=1e-8)
        np.testing.assert_allclose(high, ball.centre + ball.radius, atol=1e-8)
        points = np.concatenate([random.uniform(low, high, (5000, 5)), ball.centre[None]])
        outputs = evaluate(query.network, points)
        wrong = outputs[:, 1 - ball.label] >= outputs[:, ball.label]
        assert not wrong[-1]
        verdict = verify(query, Options(timeout=start_up.LIMIT))
        answers.append(verdict.answer)
        assert verdict.answer in ("unsat", "sat")
        assert not (verdict.answer == "unsat" and wrong.any())
        if ball is balls[0]:  # its radius is one that the kernel decides
            assert [stage.name for stage in verdict.stages][-1] == "kernel"
        elif verdict.answer == "unsat":
            assert any(stage.name == "search" for stage in verdict.stages)
    assert answers[0] == "unsat"


def test_the_report_counts() -> None:
    def row(number: int, answer: str, cpu: float, searched: bool) -> Row:
        key = f"b n.onnx {number}.vnnlib"
        return Row(key, "b", "", 20.0, answer, cpu=cpu, searched=searched, torch=searched)

    rows = [row(0, "unsat", 0.1, False), row(1, "unsat", 0.4, True), row(2, "sat", 0.7, True)]
    lines = start_up.report(rows, 4.2, [(rows[0], 1.1), (rows[2], 3.7)]).splitlines()
    assert lines[0] == "3 queries: 2 unsat, 1 sat"
    assert lines[1] == "searched: 67%; torch needed: 67%"
    assert "median 0.400, sum 1.2; of those searched: median 0.550, sum 1.1" in lines[2]
    assert "over its queries: 1.400; outside of queries 3.0 in all" in lines[3]
    assert lines[7] == "| 0.vnnlib | unsat | no | 0.100 | 1.10 | 1.00 |"
    assert lines[-1] == "median difference 2.00"


def test_a_process_of_its_own_is_timed(tmp_path: Path) -> None:
    start_up.write_queries(tmp_path, 1)
    key = "b 0.onnx 0.vnnlib"
    row = Row(key, "b", "", 20.0, "unsat")
    assert start_up.alone(tmp_path, row) > 0.05  # an interpreter alone takes that
