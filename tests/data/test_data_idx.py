"""MNIST's idx files: every spelling, and every way to be damaged."""

import gzip

import numpy as np
import pytest
from data_layouts import write_idx, write_idx_file

from jaxdefense.data import load
from jaxdefense.errors import DataError


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("dotted", [True, False])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_every_spelling(tmp_path, packed, dotted, below):
    arrays = write_idx(tmp_path / "d" / below, packed=packed, dotted=dotted)
    data = load("mnist", data_dir=tmp_path / "d")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        x, y = arrays[prefix]
        np.testing.assert_array_equal(getattr(data, f"x_{split}")[..., 0], x)
        np.testing.assert_array_equal(getattr(data, f"y_{split}"), y)
    assert data.num_classes == 10
    assert data.y_train.dtype == np.int32
    assert "20 train + 10 test images (the original has 60,000 + 10,000)" in data.provenance


def test_unpacked_under_the_packed_name(tmp_path):
    arrays = write_idx(tmp_path)
    for path in tmp_path.glob("*.gz"):
        path.write_bytes(gzip.decompress(path.read_bytes()))
    np.testing.assert_array_equal(
        load("mnist", data_dir=tmp_path).x_train[..., 0], arrays["train"][0]
    )


def cut(data):
    return data[: len(data) // 2]


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("stem", "damage", "says"),
    [
        ("train-images-idx3-ubyte", cut, "cut short|announces"),
        ("t10k-labels-idx1-ubyte", cut, "cut short|announces"),
        ("train-images-idx3-ubyte", lambda data: b"", "not an idx file"),
        ("train-images-idx3-ubyte", lambda data: b"<html>404</html>", "not an idx file"),
    ],
)
def test_damage_names_the_file(tmp_path, packed, stem, damage, says):
    write_idx(tmp_path, packed=packed)
    path = tmp_path / (stem + (".gz" if packed else ""))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=says) as error:
        load("mnist", data_dir=tmp_path)
    assert str(path) in str(error.value)


def test_one_flipped_byte_of_a_packed_file(tmp_path):
    write_idx(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(DataError, match="damaged") as error:
        load("mnist", data_dir=tmp_path)
    assert str(path) in str(error.value)


def test_header_cut_short(tmp_path):
    write_idx(tmp_path, packed=False)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:9])
    with pytest.raises(DataError, match="inside its header"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("stem", "array", "says"),
    [
        ("train-labels-idx1-ubyte", np.zeros(19, np.uint8), "19 labels for 20 images"),
        ("train-labels-idx1-ubyte", np.full(20, 10, np.uint8), "labels from 10 to 10"),
        ("train-images-idx3-ubyte", np.zeros(20, np.uint8), "1 axes"),
        ("train-images-idx3-ubyte", np.zeros((20, 27, 27), np.uint8), "one shape"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path, stem, array, says):
    write_idx(tmp_path, packed=False)
    write_idx_file(tmp_path, stem, array, packed=False)
    with pytest.raises(DataError, match=says) as error:
        load("mnist", data_dir=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_another_set_of_the_same_names_is_not_taken(tmp_path, monkeypatch):
    from hashlib import sha256

    from jaxdefense.data.readers import idx

    write_idx(tmp_path, packed=False)
    labels = (tmp_path / "t10k-labels-idx1-ubyte").read_bytes()
    monkeypatch.setitem(idx.TEST_LABELS, sha256(labels).hexdigest(), "fashion_mnist")
    assert load("fashion_mnist", data_dir=tmp_path).class_names[0] == "T-shirt/top"
    with pytest.raises(DataError, match="are those of another set"):
        load("mnist", data_dir=tmp_path)
