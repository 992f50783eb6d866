"""Black-box marks: questions about them, what is drawn, and rates of chance matches."""

from fractions import Fraction

import marks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.errors import InputError
from specs.watermarks.key import Key
from specs.watermarks.points import digest_of, drawn_classes, drawn_points
from specs.watermarks.rates import FRACTION_BITS, upper_rates

CLAIM = 'kind = "answers"\nat_least = 1'
TRIGGERS = f'scheme = "triggers"\nseed = "{marks.SEED}"\nclasses = 5\n'
BLACKMARKS = (
    f'scheme = "blackmarks"\nseed = "{marks.SEED}"\npoints = "keys.npy"\n'
    "clusters = [0, 1, 1, 0, 0]\nhits = [0, 1, 3, 0]\nmodels = 3\n"
)


@pytest.fixture
def folder(tmp_path):
    draw = np.random.default_rng(5)
    marks.model(tmp_path / "net.onnx", draw.normal(size=(6, 5)))
    np.save(tmp_path / "keys.npy", draw.uniform(size=(4, 2, 3)).astype(np.float32))
    return tmp_path


def test_drawn_triggers_follow_from_the_seed(folder):
    mark = marks.question(folder, CLAIM, TRIGGERS + "count = 40\nsize = 6").mark
    assert mark.points.shape == (40, 6)
    assert np.all(mark.points * 256 == np.rint(mark.points * 256))
    assert 0 <= mark.points.min() < mark.points.max() < 1
    assert set(mark.labels.tolist()) <= set(range(5))
    assert mark.null == (Fraction(1, 5),) * 40
    assert mark.matching(mark.labels) == [True] * 40
    assert mark.matching((mark.labels + 1) % 5) == [False] * 40
    again = marks.question(folder, CLAIM, TRIGGERS + "count = 40\nsize = 6").mark
    assert np.array_equal(mark.points, again.points)
    assert np.array_equal(mark.labels, again.labels)


def test_classes_depend_on_every_input(folder):
    wanted = TRIGGERS + 'points = "keys.npy"'
    before = marks.question(folder, CLAIM, wanted).mark
    points = np.load(folder / "keys.npy")
    assert np.array_equal(before.points, points.reshape(4, 6))
    points = np.tile(points, (20, 1, 1))
    digests = {before.text}
    labels = set()
    for entry in range(3):
        points[-1, -1, -1] += np.float32(2.0**-20) * entry
        np.save(folder / "keys.npy", points)
        after = marks.question(folder, CLAIM, wanted).mark
        digests.add(after.text)
        labels.add(tuple(after.labels.tolist()))
    assert len(digests) == 4
    assert len(labels) == 3


def test_a_digest_tells_shapes_apart():
    points = np.zeros((2, 6))
    assert digest_of(points) != digest_of(points.reshape(3, 4))


def test_blackmarks_match_by_cluster(folder):
    mark = marks.question(folder, CLAIM, BLACKMARKS).mark
    clusters = np.array([0, 1, 1, 0, 0])
    for answers in ([0, 1, 2, 3], [4, 4, 4, 4], [1, 0, 1, 0]):
        assert mark.matching(answers) == (clusters[answers] == mark.bits).tolist()
    assert mark.null == upper_rates((0, 1, 3, 0), 3, Fraction(1, 1000))
    assert mark.null[2] == 1
    sharper = marks.question(folder, CLAIM, BLACKMARKS + "doubt = 0.5").mark
    assert all(a <= b for a, b in zip(sharper.null, mark.null, strict=True))
    assert "1/1000" in mark.assumptions[0]


def test_marks_commit_to_what_they_depend_on(folder):
    found = {marks.question(folder, CLAIM, BLACKMARKS).mark.commitment.hash}
    other = BLACKMARKS.replace("[0, 1, 1, 0, 0]", "[1, 1, 1, 0, 0]")
    found.add(marks.question(folder, CLAIM, other).mark.commitment.hash)
    np.save(folder / "keys.npy", np.zeros((4, 6)))
    found.add(marks.question(folder, CLAIM, BLACKMARKS).mark.commitment.hash)
    assert len(found) == 3


def test_the_false_claim_covers_the_rates(folder):
    claim = 'kind = "false_claim"\nat_least = 4\nlevel = 1'
    first = marks.question(folder, claim, BLACKMARKS).digest
    assert first != marks.question(folder, claim, BLACKMARKS + "doubt = 0.5").digest
    assert first == marks.question(folder, claim, BLACKMARKS).digest
    near = marks.question(folder, claim, BLACKMARKS + "doubt = 0.00100001")
    assert near.mark.null == marks.question(folder, claim, BLACKMARKS).mark.null
    assert first != near.digest  # what is assumed is another thing


WRONG = {
    "classes": ('scheme = "triggers"\nseed = "S"\ncount = 2\nsize = 6', "needs 'classes'"),
    "one class": (
        'scheme = "triggers"\nseed = "S"\ncount = 2\nsize = 6\nclasses = 1',
        "from 2 to 65536",
    ),
    "count": (TRIGGERS + "size = 6", "needs 'count'"),
    "much": (TRIGGERS + "count = 65536\nsize = 1048576", "are too many"),
    "both": (TRIGGERS + 'points = "keys.npy"\nsize = 6', "is of drawn inputs"),
    "inputs": (TRIGGERS + "count = 2\nsize = 7", "7 inputs and 5 classes, the model has 6"),
    "outputs": (
        f'scheme = "triggers"\nseed = "{marks.SEED}"\nclasses = 4\ncount = 2\nsize = 6',
        "4 classes, the model has 6 inputs and 5 outputs",
    ),
    "file": (TRIGGERS + 'points = "none.npy"', "no .npy file that can be read"),
    "no array": (TRIGGERS + 'points = "net.onnx"', "no .npy file that can be read"),
    "vector": (TRIGGERS + 'points = "vector.npy"', "wanted: an array of numbers"),
    "words": (TRIGGERS + 'points = "words.npy"', "wanted: an array of numbers"),
    "objects": (TRIGGERS + 'points = "objects.npy"', "no .npy file that can be read"),
    "nan": (TRIGGERS + 'points = "nan.npy"', "not finite"),
    "long": (TRIGGERS + 'points = "long.npy"', "float64 does not"),
    "huge": (TRIGGERS + 'points = "huge.npy"', "no .npy file that can be read"),
    "empty": (TRIGGERS + 'points = "empty.npy"', "empty, or too large"),
    "cluster": (BLACKMARKS.replace("[0, 1, 1", "[0, 2, 1"), "a 0 or a 1 for each class"),
    "one cluster": (BLACKMARKS.replace("[0, 1, 1", "[0, 0, 0"), "and both"),
    "hits": (BLACKMARKS.replace("[0, 1, 3, 0]", "[0, 1, 3]"), "3 'hits' of 4 key inputs"),
    "many hits": (BLACKMARKS.replace("[0, 1, 3", "[0, 1, 4"), "from 0 to 3, 'models'"),
    "half a hit": (BLACKMARKS.replace("[0, 1, 3", "[0, 0.5, 3"), "must be whole numbers"),
    "no models": (BLACKMARKS.replace("models = 3", "models = 0"), "from 1 to 4096"),
    "doubt": (BLACKMARKS + "doubt = 0.0", "between 0 and 1"),
    "white box": (
        f'scheme = "uchida"\nseed = "{marks.SEED}"\ntensor = "w"\nbits = 8',
        "is not read from answers",
    ),
    "commitment": (
        TRIGGERS + f'count = 2\nsize = 6\ncommitment = "{"0" * 64}"',
        "have the commitment",
    ),
}


@pytest.mark.parametrize(("mark", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(folder, mark, message):
    np.save(folder / "vector.npy", np.zeros(3))
    np.save(folder / "words.npy", np.array([["a"]]))
    np.save(folder / "objects.npy", np.array([[None]]), allow_pickle=True)
    np.save(folder / "nan.npy", np.full((2, 6), np.nan))
    np.save(folder / "long.npy", np.full((2, 6), 2**60 + 1))
    np.save(folder / "empty.npy", np.zeros((0, 6)))
    content = (folder / "vector.npy").read_bytes()
    (folder / "huge.npy").write_bytes(
        content.replace(b"(3,), }   ", b"(9999, 9999), }")[: len(content)]
    )
    with pytest.raises(InputError, match=rf"question.toml:\d+:\d+: .*{message}"):
        marks.question(folder, CLAIM, mark.replace('"S"', f'"{marks.SEED}"'))


def test_a_black_box_mark_is_not_read_from_parameters(folder):
    with pytest.raises(InputError, match="is not read from parameters"):
        marks.question(folder, 'kind = "extraction"\nat_least = 1', BLACKMARKS)


@given(st.integers(2, 1 << 16), st.binary(min_size=16, max_size=16))
def test_drawn_classes_are_classes(classes, seed):
    found = drawn_classes(Key(seed), "a", 30, classes)
    assert found.shape == (30,)
    assert 0 <= found.min() <= found.max() < classes
    assert np.array_equal(found[:7], drawn_classes(Key(seed), "a", 7, classes))


def test_drawn_classes_are_spread():
    found = drawn_classes(Key.of(marks.SEED), "a", 30_000, 3)
    assert np.all(np.abs(np.bincount(found) - 10_000) < 400)
    points = drawn_points(Key.of(marks.SEED), "a", 10, 1000)
    assert abs(points.mean() - 255 / 512) < 0.02
    for classes in (0, 1, (1 << 16) + 1):
        with pytest.raises(InputError, match="classes"):
            drawn_classes(Key.of(marks.SEED), "a", 3, classes)


def at_most(hit, models, p):
    """``P[Bin(models, p) <= hit]`` by Pascal's recursion."""
    chances = [Fraction(1)]
    for _ in range(models):
        chances = [a * (1 - p) + b * p for a, b in zip([*chances, 0], [0, *chances], strict=True)]
    return sum(chances[: hit + 1])


@given(st.data(), st.integers(1, 12), st.fractions(Fraction(1, 1000), Fraction(999, 1000)))
def test_rates_are_the_least_upper_bounds(data, models, doubt):
    hits = data.draw(st.lists(st.integers(0, models), min_size=1, max_size=4))
    each, unit = doubt / len(hits), Fraction(1, 1 << FRACTION_BITS)
    for hit, rate in zip(hits, upper_rates(hits, models, doubt), strict=True):
        if hit < models:
            assert at_most(hit, models, rate) <= each < at_most(hit, models, rate - unit)


def test_a_position_that_never_matched_may_match():
    (rate,) = upper_rates([0], 20, Fraction(1, 20))
    assert abs(float(rate) - (1 - 0.05 ** (1 / 20))) < 2e-5


@pytest.mark.parametrize(
    ("hits", "models", "doubt"),
    [
        ([0], 0, Fraction(1, 2)),
        ([0], 5000, Fraction(1, 2)),
        ([6], 5, Fraction(1, 2)),
        ([-1], 5, Fraction(1, 2)),
        ([1], 5, Fraction(0)),
        ([1], 5, Fraction(1)),
    ],
    ids=["no-models", "many-models", "many-hits", "few-hits", "no-doubt", "all-doubt"],
)
def test_rates_that_make_no_sense(hits, models, doubt):
    with pytest.raises(InputError):
        upper_rates(hits, models, doubt)
