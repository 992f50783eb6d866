"""Folders of arrays and images, with the preparation that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from specs.document import read_document
from specs.errors import InputError
from verifier.certify.data import read_data
from verifier.certify.table import Table


def data_of(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(f"[data]\n{text}\n")
    return read_data(Table.of(read_document(path), "data"))


def pictures(tmp_path, names, mode="RGB"):
    """Images of 3 rows and 2 columns; returns their pixels."""
    rng, made = np.random.default_rng(0), {}
    for name in names:
        shape = (3, 2, 3) if mode == "RGB" else (3, 2)
        made[name] = rng.integers(0, 256, shape).astype(np.uint8)
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[name]).save(tmp_path / "d" / name)
    return made


def test_images_by_folder(tmp_path):
    made = pictures(tmp_path, ["cat/a.png", "dog/a.png", "cat/b.png"])
    data = data_of(tmp_path, 'folder = "d"')
    assert data.labels.tolist() == [0, 0, 1]
    assert data.shape == (3, 3, 2)
    expected = made["cat/b.png"].transpose(2, 0, 1).reshape(-1)
    assert data.points[1].tolist() == expected.tolist()


def test_numbers_of_folders_are_labels(tmp_path):
    pictures(tmp_path, ["7/a.png", "3/a.png"])
    assert data_of(tmp_path, 'folder = "d"').labels.tolist() == [3, 7]


def test_a_class_without_samples_shifts_no_label(tmp_path):
    pictures(tmp_path, ["bird/a.png", "cat/a.png", "dog/a.png"])
    (tmp_path / "d/bird/a.png").unlink()
    with pytest.raises(InputError, match="bird holds no sample"):
        data_of(tmp_path, 'folder = "d"')


def test_the_preparation_that_is_stated(tmp_path):
    made = pictures(tmp_path, ["a.png", "b.png"])
    text = 'folder = "d"\nlayout = "HWC"\nscale = 255\nmean = [0.5, 0, 0.25]\nstd = 2\nstart = 1'
    data = data_of(tmp_path, text)
    expected = (made["b.png"] / 255.0 - np.array([0.5, 0, 0.25])) / 2.0
    assert data.points.tolist() == [expected.reshape(-1).tolist()]
    assert data.numbers.tolist() == [1]
    assert data.labels is None
    seen = data.pixels.of(data.points[0])
    assert seen == pytest.approx((made["b.png"] / 255.0).reshape(-1), abs=1e-12)


def test_grey_images(tmp_path):
    made = pictures(tmp_path, ["a.png"], "L")
    data = data_of(tmp_path, 'folder = "d"\nmode = "grey"')
    assert data.shape == (1, 3, 2)
    assert data.points[0].tolist() == made["a.png"].reshape(-1).tolist()


def test_labels_by_a_list_and_folders_of_arrays(tmp_path):
    (tmp_path / "d").mkdir()
    for k, name in enumerate("ab"):
        np.save(tmp_path / f"d/{name}.npy", np.full((2, 2), k, np.float32))
    (tmp_path / "y.csv").write_text("\ufefffile,label\nb.npy,1\na.npy,4\n")  # as Excel does
    data = data_of(tmp_path, 'folder = "d"\nlabels = "y.csv"')
    assert data.points.tolist() == [[0] * 4, [1] * 4]
    assert data.labels.tolist() == [4, 1]


def test_mean_and_std_of_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(8.0).reshape(2, 2, 2, 1))
    data = data_of(tmp_path, 'points = "x.npy"\nmean = [1, 2]\nstd = [2, 4]')
    assert data.points.tolist() == [[-0.5, 0, 0, 0.25], [1.5, 2, 1, 1.25]]


WRONG = {
    "no folder": ('folder = "e"', "no such folder"),
    "empty": ('folder = "."', "holds no .npy file"),
    "both": ('folder = "d"\npoints = "x"', "stands for itself"),
    "mode": ('folder = "d"\nmode = "cmyk"', "must be one of"),
    "mode of arrays": ('points = "x.npy"\nmode = "rgb"', "is of images"),
    "layout": ('folder = "d"\nlayout = "WHC"', "must be one of"),
    "mean": ('folder = "d"\nmean = [1, 2]', "holds 2 numbers"),
    "std": ('folder = "d"\nstd = [1, 0, 1]', "must be positive"),
    "first": ('folder = "d"\nstart = 9', "no sample is left of 1"),
    "list": ('folder = "d"\nlabels = "y.csv"', "no label for a.png"),
    "list, malformed": ('folder = "d"\nlabels = "z.csv"', "z.csv:2: wanted"),
    "list, absent": ('folder = "d"\nlabels = "w.csv"', "cannot be read"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_said_with_its_line(name, tmp_path):
    text, words = WRONG[name]
    pictures(tmp_path, ["a.png"])
    (tmp_path / "y.csv").write_text("file,label\nb.png,1\n")
    (tmp_path / "z.csv").write_text("file,label\na.png,one\n")
    if name == "empty":
        (tmp_path / "d/a.png").unlink()
    with pytest.raises(InputError, match=words) as error:
        data_of(tmp_path, text)
    assert "c.toml:" in str(error.value)


@pytest.mark.parametrize("kind", ["shapes", "mixed", "damaged", "transparent", "palette"])
def test_files_that_do_not_fit(kind, tmp_path):
    pictures(tmp_path, ["a.png"])
    if kind == "shapes":
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "d/b.png")
    elif kind == "mixed":
        np.save(tmp_path / "d/b.npy", np.zeros(3))
    elif kind == "damaged":
        (tmp_path / "d/b.png").write_bytes((tmp_path / "d/a.png").read_bytes()[:30])
    elif kind == "palette":
        palette = Image.fromarray(np.zeros((3, 2, 3), np.uint8)).convert("P")
        palette.save(tmp_path / "d/b.png", transparency=0)
    else:
        Image.fromarray(np.zeros((3, 2, 4), np.uint8)).save(tmp_path / "d/b.png")
    with pytest.raises(InputError, match=r"c\.toml:2"):
        data_of(tmp_path, 'folder = "d"')


def test_flat_samples_get_the_shape_that_is_stated(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(3, 4))
    data = data_of(tmp_path, 'points = "x.npy"\nshape = [2, 2]\nfirst = 2')
    assert data.shape == data.part(1, 2).shape == (2, 2)
    assert data.points.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("shape", ["[4, 2]", "[0.5, 8]", "[-2, -2]"])
def test_a_shape_that_does_not_fit_is_refused(shape, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(3, 4))
    with pytest.raises(InputError, match="extents of a sample, 4 in all"):
        data_of(tmp_path, f'points = "x.npy"\nshape = {shape}')
