"""CIFAR-10: both published forms, packed and unpacked; a pickle runs nothing."""

import os
import pickle
import tarfile

import numpy as np
import pytest
from data_layouts import write_cifar

from jaxdefense.data import load
from jaxdefense.errors import DataError


@pytest.mark.parametrize("form", ["binary", "python"])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "cifar10"])
def test_every_form(tmp_path, form, packed, below):
    batches = write_cifar(tmp_path / "d" / below, form=form, packed=packed)
    data = load("cifar10", data_dir=tmp_path / "d")
    rows = np.concatenate([batches[f"data_batch_{i}"][0] for i in range(1, 6)])
    labels = np.concatenate([batches[f"data_batch_{i}"][1] for i in range(1, 6)])
    # Rows hold three colour planes; images have the colours last.
    np.testing.assert_array_equal(data.x_train[7, 5, 9], rows[7].reshape(3, 32, 32)[:, 5, 9])
    np.testing.assert_array_equal(data.x_train.transpose(0, 3, 1, 2).reshape(len(rows), -1), rows)
    np.testing.assert_array_equal(data.y_train, labels)
    np.testing.assert_array_equal(data.y_test, batches["test_batch"][1])
    assert data.class_names[3] == "cat"
    assert f"the {form} version" in data.provenance


def test_the_folder_itself(tmp_path):
    write_cifar(tmp_path, form="binary", packed=False)
    assert load("cifar10", data_dir=tmp_path / "cifar-10-batches-bin").image_shape == (32, 32, 3)


@pytest.mark.parametrize("form", ["binary", "python"])
def test_a_truncated_archive(tmp_path, form):
    write_cifar(tmp_path, form=form)
    (path,) = tmp_path.glob("*.tar.gz")
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match=r"damaged|does not hold") as error:
        load("cifar10", data_dir=tmp_path)
    assert str(path) in str(error.value)


def test_another_archive(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(__file__, "readme")
    with pytest.raises(DataError, match="does not hold"):
        load("cifar10", data_dir=tmp_path)


def test_a_truncated_batch(tmp_path):
    write_cifar(tmp_path, form="binary", packed=False)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin.*not a whole number of records"):
        load("cifar10", data_dir=tmp_path)


def test_a_label_out_of_range(tmp_path):
    write_cifar(tmp_path, form="binary", packed=False)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin"
    path.write_bytes(b"\x63" + path.read_bytes()[1:])
    with pytest.raises(DataError, match="labels from 2 to 99"):
        load("cifar10", data_dir=tmp_path)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path):
    write_cifar(tmp_path, form="python", packed=False)
    path, target = tmp_path / "cifar-10-batches-py" / "data_batch_1", tmp_path / "ran"
    path.write_bytes(pickle.dumps({b"data": Bomb(target), b"labels": []}, protocol=2))
    with pytest.raises(DataError, match="mkdir, which is not allowed") as error:
        load("cifar10", data_dir=tmp_path)
    assert str(path) in str(error.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ({b"data": np.zeros((2, 3072), np.uint8)}, "labels"),
        ({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, "not uint8"),
        ({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}, "float64"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "1 labels for 2"),
        ([], "damaged"),
    ],
)
def test_a_pickle_of_something_else(tmp_path, batch, says):
    write_cifar(tmp_path, form="python", packed=False)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=says) as error:
        load("cifar10", data_dir=tmp_path)
    assert str(path) in str(error.value)
