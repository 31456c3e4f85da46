"""TMNIST, Fingers, GTSRB and SARS-CoV-2 CT in their published layouts."""

import csv

import numpy as np
import pytest
from data_layouts import save, write_ct, write_fingers, write_gtsrb, write_tmnist
from PIL import Image

from jaxdefense.data import load
from jaxdefense.errors import DataError


def test_tmnist_is_split_by_font(tmp_path):
    write_tmnist(tmp_path / "tmnist")
    data = load("tmnist", data_dir=tmp_path)
    assert len(data.y_train) + len(data.y_test) == 120
    assert not set(data.groups_train) & set(data.groups_test)
    assert "Font0-Regular,x" in {*data.groups_train, *data.groups_test}
    np.testing.assert_array_equal(data.y_train[:10], np.arange(10))
    with (tmp_path / "tmnist" / "TMNIST_Data.csv").open(newline="") as file:
        rows = [row for row in csv.reader(file) if row[0] == data.groups_train[0]]
    np.testing.assert_array_equal(data.x_train[0].ravel(), np.array(rows[0][2:], np.uint8))


def test_tmnist_split_does_not_depend_on_the_other_fonts(tmp_path):
    write_tmnist(tmp_path / "few", fonts=8)
    write_tmnist(tmp_path / "many", fonts=14)
    few, many = (load("tmnist", data_dir=tmp_path / name) for name in ("few", "many"))
    assert set(few.groups_test) == set(many.groups_test) & {*few.groups_train, *few.groups_test}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda text: text.replace("names,labels", "label,name"), "header"),
        (lambda text: "", "header"),
        (lambda text: text.splitlines()[0], "no rows"),
        (lambda text: text[: len(text) - 100], "line 121: .* columns"),
        (lambda text: text + "F,1," + ",".join(["256"] * 784) + "\n", "line 122: .*0 to 255"),
        (lambda text: text + "F,x," + ",".join(["1"] * 784) + "\n", "line 122: .*whole number"),
        (lambda text: text + "F,10," + ",".join(["1"] * 784) + "\n", "labels from 0 to 10"),
        (lambda text: "\n".join(text.splitlines()[:11]), "1 fonts are too few"),
    ],
)
def test_tmnist_damage(tmp_path, damage, says):
    write_tmnist(tmp_path)
    path = tmp_path / "TMNIST_Data.csv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(DataError, match=says) as error:
        load("tmnist", data_dir=tmp_path)
    assert str(tmp_path) in str(error.value)


def test_fingers(tmp_path):
    write_fingers(tmp_path)
    data = load("fingers", data_dir=tmp_path)
    assert data.image_shape == (128, 128, 1)
    assert (len(data.y_train), len(data.y_test), data.num_classes) == (12, 6, 6)
    first = sorted((tmp_path / "train").glob("*.png"))[0]
    np.testing.assert_array_equal(data.x_train[0, ..., 0], np.asarray(Image.open(first)))
    assert data.y_train[0] == int(first.stem[-2])
    assert data.groups_train[0] == first.stem[-1]
    assert "mirrored" in data.provenance
    small = load("fingers", data_dir=tmp_path, size=32)
    assert small.image_shape == (32, 32, 1)
    assert "at 32x32 instead of 128x128" in small.provenance


def test_fingers_damage(tmp_path):
    write_fingers(tmp_path)
    odd = tmp_path / "test" / "hand.png"
    save(odd, np.zeros((128, 128), np.uint8))
    with pytest.raises(DataError, match=r"hand\.png: its name should end"):
        load("fingers", data_dir=tmp_path)
    odd.unlink()
    path = sorted((tmp_path / "train").glob("*.png"))[3]
    whole = path.read_bytes()
    for data, says in ((b"<html>", "not an image"), (b"", "not an image"), (whole[:900], "read")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=says) as error:
            load("fingers", data_dir=tmp_path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("train", ["Train", "train"])
def test_gtsrb(tmp_path, train):
    write_gtsrb(tmp_path / "GTSRB", train=train)
    data = load("gtsrb", data_dir=tmp_path)
    assert data.image_shape == (32, 32, 3)
    assert data.num_classes == 43
    np.testing.assert_array_equal(data.y_train, np.repeat(np.arange(3), 4))
    np.testing.assert_array_equal(data.y_test, np.arange(6) % 3)
    assert len(set(data.groups_train)) == 6
    image = Image.open(tmp_path / "GTSRB" / "Test" / "00002.png")
    want = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(data.x_test[2], want)
    # Decoded straight to the size asked for, not by way of 32 x 32.
    bigger = load("gtsrb", data_dir=tmp_path, size=48).x_test[2]
    want = np.asarray(image.resize((48, 48), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(bigger, want)


def test_gtsrb_damage(tmp_path):
    write_gtsrb(tmp_path)
    table = tmp_path / "Test.csv"
    text = table.read_text()
    cases = (
        (text.replace("ClassId", "Class"), "needs the columns ClassId and Path"),
        (text.splitlines()[0], "lists no images"),
        (text.replace("Test/00001", "Test/99999"), "1 of its 6 images are not there"),
        (text.replace(",2,Test", ",many,Test"), "Test.csv: cannot be read"),
        (text.replace(",2,Test", ",43,Test"), "0 to 42"),
    )
    for damaged, says in cases:
        table.write_text(damaged)
        with pytest.raises(DataError, match=says):
            load("gtsrb", data_dir=tmp_path)
    table.write_text(text)
    (tmp_path / "Train" / "2").rename(tmp_path / "Train" / "stop")
    with pytest.raises(DataError, match="should be a class number"):
        load("gtsrb", data_dir=tmp_path)


def test_ct(tmp_path):
    write_ct(tmp_path)
    data = load("sars_cov2_ct", data_dir=tmp_path, size=40)
    assert data.image_shape == (40, 40, 3)
    assert data.class_names[1] == "COVID"
    assert len(data.y_train) + len(data.y_test) == 24
    assert int(data.y_train.sum() + data.y_test.sum()) == 12
    assert 0 < data.y_train[:10].mean() < 1  # the classes are mixed, not one after the other
    assert "slices of one patient on both sides" in data.provenance
    assert load("sars_cov2_ct", data_dir=tmp_path).image_shape == (224, 224, 3)


def test_ct_too_few(tmp_path):
    write_ct(tmp_path, n=1)
    with pytest.raises(DataError, match="2 slices are too few"):
        load("sars_cov2_ct", data_dir=tmp_path)
