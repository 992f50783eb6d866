"""``farkas reach`` and its parts: files, projections, pictures, what ends it early."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highspy")

import farkas
from specs.errors import InputError, QuestionError
from specs.network import Univariate
from specs.property import constraint
from specs.query import Query
from specs.question import load_question
from specs.vnnlib_writer import vnnlib
from tests.networks import evaluate
from tests.proofs.helpers import Net, at_least, box_case, query
from tests.verifier.small import box_query, random_mlp
from verifier import reach_cli
from verifier.progress import Progress
from verifier.stars import reach as reaching
from verifier.stars.files import read_stars, write_stars
from verifier.stars.planes import area, covered, half_spaces, hull, projected
from verifier.stars.reach import Reached, ranges, reach
from verifier.stars.sets import Solver
from verifier.stars.walk import OUTPUT, Budget


@pytest.fixture
def stated() -> Query:
    """A network with some hundred cells, over two regions of two inputs."""
    network, model = random_mlp([2, 8, 8, 2], 3)
    unsafe = at_least(0, 1000)
    cases = [box_case([-1, -1], [1, 1], unsafe), box_case([1, -1], [2, 1], unsafe)]
    made = query(network, cases)
    return Query(network, made.property, (model,), made.property.digest)


def write_question(folder: Path, stated: Query) -> list[str]:
    (folder / "net.onnx").write_bytes(stated.models[0].content)
    (folder / "p.vnnlib").write_text(vnnlib(stated.property))
    return [str(folder / "net.onnx"), str(folder / "p.vnnlib")]


def held(found: Reached, outputs: np.ndarray, dims: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Which outputs lie in the projection of some star."""
    inside = np.zeros(len(outputs), dtype=bool)
    for part in found.parts:
        rows = projected(part.star, OUTPUT, dims, Solver()).rows
        inside |= np.all(outputs[:, list(dims)] @ rows[:, :-1].T <= rows[:, -1] + 1e-7, axis=1)
    return inside


def samples(stated: Query) -> np.ndarray:
    rng = np.random.default_rng(0)
    drawn = [rng.uniform(*case.box(), (100, 2)) for case in stated.property.cases]
    return evaluate(stated.network, np.concatenate(drawn))


@pytest.mark.parametrize("splits", [None, 2, 0])
def test_sampled_outputs_are_reached(stated: Query, splits: int | None) -> None:
    found = reach(stated, Budget(splits))
    outputs = samples(stated)
    assert held(found, outputs).all()
    assert not held(found, outputs + 100.0).any()
    assert found.exact == (splits is None)
    ends = ranges(found.parts, 2)
    assert np.all(ends[:, 0] <= outputs.min(axis=0) + 1e-9)
    assert np.all(outputs.max(axis=0) <= ends[:, 1] + 1e-9)
    if splits is None:
        assert np.all(ends[:, 1] - ends[:, 0] <= 2.0 * np.ptp(outputs, axis=0))


def test_ranges_by_programs_are_those_of_corners(
    stated: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = reach(stated, Budget())
    ends = ranges(known.parts, 2)
    monkeypatch.setattr("verifier.stars.sets.CORNERED", 0)
    found = reach(stated, Budget())
    assert len(found.parts) == len(known.parts)
    assert found.programs > 0 == known.programs
    np.testing.assert_allclose(ranges(found.parts, 2), ends, atol=1e-7)
    shapes = [
        sorted(area(projected(p.star, OUTPUT, (0, 1), Solver()).corners) for p in r.parts)
        for r in (known, found)
    ]
    np.testing.assert_allclose(shapes[0], shapes[1], rtol=2e-3, atol=1e-6)


def test_processes_share_the_work(stated: Query) -> None:
    alone = reach(stated, Budget())
    shared = reach(stated, Budget(), processes=2)
    assert len(shared.parts) == len(alone.parts)
    assert shared.splits == alone.splits
    np.testing.assert_allclose(ranges(shared.parts, 2), ranges(alone.parts, 2), atol=1e-9)


def test_when_time_is_short_the_rest_is_covered(
    stated: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relaxed while there is time for it, and boxes otherwise."""
    clock = iter(range(10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    found = reach(stated, Budget(), deadline=60.0)
    assert found.stopped == "timeout"
    assert any(part.star.exact for part in found.parts)
    assert not found.exact
    assert held(found, samples(stated)).all()
    found = reach(stated, Budget(), deadline=0.0)
    assert found.boxes == len(found.parts) == 2
    assert held(found, samples(stated)).all()


def test_an_interruption_loses_nothing(stated: Query) -> None:
    def stop(finished: int, _: int) -> None:
        if finished == 5:
            raise KeyboardInterrupt

    found = reach(stated, Budget(), progress=stop)
    assert found.stopped == "interrupted"
    assert found.boxes > 0
    assert sum(part.star.exact for part in found.parts) >= 5
    assert held(found, samples(stated)).all()


def test_trouble_of_the_solver_costs_a_box(stated: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    from verifier.stars.lp import SolverError

    def fail(*_: object) -> None:
        raise SolverError("trouble")

    monkeypatch.setattr("verifier.stars.sets.CORNERED", 0)
    monkeypatch.setattr("verifier.stars.sets.Solver.minimise", fail)
    found = reach(stated, Budget())
    assert found.troubled > 0
    assert not found.exact
    whole = reach(stated, Budget(0))
    rough, box = ranges(whole.parts, 2), projected(whole.parts[0].star, OUTPUT, (0, 1), Solver())
    monkeypatch.undo()
    assert held(found, samples(stated)).all()
    fine = ranges(reach(stated, Budget(0)).parts, 2)
    assert np.all(rough[:, 0] <= fine[:, 0] + 1e-9)
    assert np.all(fine[:, 1] <= rough[:, 1] + 1e-9)
    assert len(box.rows) == 4


def test_what_is_not_piecewise_linear_has_no_exact_set() -> None:
    net = Net(1)
    net.nodes.append(Univariate("s", (1,), 0, "sigmoid"))
    smooth = query(net.done(), [box_case([0], [1])])
    with pytest.raises(QuestionError, match=r"'s' \(sigmoid\) is not piecewise linear"):
        reach(smooth, Budget())
    square = Net(1)
    square.product(0, 0)
    with pytest.raises(QuestionError, match="a product"):
        reach(query(square.done(), [box_case([0], [1])]), Budget())
    assert not reach(smooth, Budget(0)).exact


def test_rounding_errors_are_refused(stated: Query, tmp_path: Path) -> None:
    question = load_question(*map(Path, write_question(tmp_path, stated)), semantics="float32")
    with pytest.raises(QuestionError, match="rounding errors"):
        reach(question, Budget(0))


def test_stars_are_read_as_written(stated: Query, tmp_path: Path) -> None:
    found = reach(stated, Budget(2))
    shown = [projected(part.star, OUTPUT, (1, 0), Solver()) for part in found.parts]
    path = tmp_path / "s.npz"
    with path.open("wb") as stream:
        write_stars(stream, stated, found.parts, ranges(found.parts, 2), (1, 0), shown)
    stored = read_stars(path)
    assert len(stored) == len(found.parts)
    for star, part, projection in zip(stored, found.parts, shown, strict=True):
        assert (star.case, star.exact) == (part.case, part.star.exact)
        image = part.star.image(OUTPUT)
        np.testing.assert_array_equal(star.centre, image[0])
        np.testing.assert_array_equal(star.basis, image[1:])
        np.testing.assert_array_equal(star.rows, part.star.predicates.rows)
        np.testing.assert_array_equal(star.limits, part.star.predicates.limits)
        np.testing.assert_array_equal(star.lower, part.star.predicates.lower)
        np.testing.assert_array_equal(star.upper, part.star.predicates.upper)
        np.testing.assert_array_equal(star.corners, projection.corners)
        assert sorted(set(star.inputs)) in ([0, 1], [-1, 0, 1])


def test_damaged_files_are_refused(stated: Query, tmp_path: Path) -> None:
    found = reach(stated, Budget(0))
    path = tmp_path / "s.npz"
    with path.open("wb") as stream:
        write_stars(stream, stated, found.parts, ranges(found.parts, 2))
    assert len(read_stars(path)) == 2
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in (
        {"version": np.array(2)},
        {"predicates": arrays["predicates"][:-1]},
        {"constraints": arrays["constraints"] + 1},
    ):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(InputError, match=r"s\.npz"):
            read_stars(path)
    del arrays["basis"]
    np.savez(path, **arrays)
    with pytest.raises(InputError, match="basis"):
        read_stars(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not a file of stars"):
        read_stars(path)
    with pytest.raises(InputError, match="not a file of stars"):
        read_stars(tmp_path / "absent.npz")


def test_hulls_and_areas() -> None:
    rng = np.random.default_rng(0)
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2.0]])
    points = np.concatenate([square, rng.uniform(0, 2, (50, 2))])
    corners = hull(points)
    assert sorted(map(tuple, corners)) == sorted(map(tuple, square))
    assert area(corners) == pytest.approx(4.0)
    rows = half_spaces(corners)
    assert np.all(points @ rows[:, :2].T <= rows[:, 2] + 1e-12)
    assert not np.all(np.array([2.1, 1.0]) @ rows[:, :2].T <= rows[:, 2])
    assert area(np.array([[1.0], [4.0]])) == 3.0
    flat = hull(np.array([[0, 0], [1, 1], [0.5, 0.5]]))
    assert len(flat) == 2
    rows = half_spaces(flat)
    assert np.all(flat @ rows[:, :2].T <= rows[:, 2] + 1e-12)
    assert not np.all(np.array([0.5, 0.6]) @ rows[:, :2].T <= rows[:, 2])
    assert not np.all(np.array([1.1, 1.1]) @ rows[:, :2].T <= rows[:, 2])


def test_areas_of_unions_are_counted() -> None:
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    assert covered([square]) == pytest.approx(1.0)
    assert covered([square, square + 0.5]) == pytest.approx(1.75, rel=0.02)
    assert covered([square, square + np.array([3, 0])]) == pytest.approx(2.0, rel=0.02)
    assert covered([np.array([[0.0], [1.0]]), np.array([[3.0], [4.0]])]) == pytest.approx(
        2, rel=0.02
    )
    rng = np.random.default_rng(1)
    for _ in range(20):
        polygon = hull(rng.normal(size=(12, 2)))
        assert covered([polygon]) == pytest.approx(area(polygon), rel=0.02)
    assert covered([]) == 0.0
    assert covered([square[:1]]) == 0.0


# ------------------------------------------------------------------------ the command line


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, list[str], str]:
    code = farkas.main(["reach", *map(str, argv)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


@pytest.mark.parametrize(
    ("option", "says"),
    [(["--exact"], "exact"), ([], "over-approximate"), (["--over"], "over-approximate")],
)
def test_first_lines(
    option: list[str],
    says: str,
    stated: Query,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = write_question(tmp_path, stated)
    out, report = tmp_path / "o.npz", tmp_path / "o.json"
    code, lines, _ = run(capsys, *question, *option, "-o", out, "--json", report)
    assert (code, lines[0]) == (0, says)
    assert any("no certificate" in line for line in lines)
    data = json.loads(report.read_text())
    assert data["answer"] == says
    assert data["certificate"] is None
    assert data["stars"] == len(read_stars(out))
    assert data["areas_summed"] >= 0.97 * data["area_of_the_union_on_a_grid"] > 0
    inside = [
        low <= value <= high
        for (low, high), value in zip(data["ranges"], samples(stated)[0], strict=True)
    ]
    assert all(inside)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures(
    suffix: str, stated: Query, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    question = write_question(tmp_path, stated)
    sizes = []
    for dims in ("0,1", "1"):
        path = tmp_path / f"p{dims}.{suffix}"
        code, *_ = run(capsys, *question, "--picture", path, "--project", dims)
        assert code == 0
        sizes.append(path.stat().st_size)
    assert min(sizes) > 1000
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)


def test_time_is_over_at_once(
    stated: Query, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = write_question(tmp_path, stated)
    out = tmp_path / "o.npz"
    code, lines, _ = run(capsys, *question, "--exact", "--timeout", "1e-9", "-o", out)
    assert (code, lines[0]) == (2, "timeout")
    assert [star.exact for star in read_stars(out)] == [False, False]


def test_an_interruption_writes_what_there_is(
    stated: Query,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question = write_question(tmp_path, stated)

    class Stopped(Progress):
        def leaves(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("verifier.progress.Progress", Stopped)
    out = tmp_path / "o.npz"
    code, lines, err = run(capsys, *question, "--exact", "-o", out)
    assert (code, lines[0]) == (130, "interrupted")
    assert "interrupted" in err
    assert any(star.exact for star in read_stars(out))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--project", "0,5"], "outputs are numbered from 0 to 1"),
        (["--project", "0,0"], "one output or two"),
        (["--project", "-1"], "one output or two"),
        (["--project", "0,1,2"], "one output or two"),
        (["--exact", "--over"], "not allowed with"),
        (["-o", "stars.json"], "written as .npz"),
        (["-o", "absent/stars.npz"], "no folder"),
        (["--picture", "p.gif"], "drawn as"),
        (["--timeout", "0"], "positive"),
        (["--processes", "0"], "1 to 1024"),
    ],
)
def test_usage(
    options: list[str],
    says: str,
    stated: Query,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question = write_question(tmp_path, stated)
    code, lines, err = run(capsys, *question, *options)
    assert (code, lines) == (3, [])
    assert says in err
    assert "Traceback" not in err


def test_a_missing_model_is_the_input_s_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], examples: Path
) -> None:
    code, lines, err = run(capsys, tmp_path / "absent.onnx", examples / "holds.vnnlib")
    assert (code, lines) == (3, [])
    assert err.startswith("farkas: ")


def test_empty_regions_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = constraint({0: Fraction(1), 1: Fraction(1)}, {}, Fraction(3))
    made = box_query(random_mlp([2, 4, 1], 0), [-1, -1], [1, 1], [at_least(0, 0)], [outside])
    code, lines, _ = run(
        capsys, *write_question(tmp_path, made), "--exact", "-o", tmp_path / "e.npz"
    )
    assert (code, lines[0]) == (0, "exact")
    assert "1 regions are empty" in lines
    assert read_stars(tmp_path / "e.npz") == []


def test_parcels_are_more_than_processes() -> None:
    assert reaching.SHARE > 1
    assert 0 < reaching.SPLITTING < reaching.CLOSING < 1
    assert reach_cli.SPLITS > 0
