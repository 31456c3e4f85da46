"""A folder per class of any images."""

import numpy as np
import pytest
from data_layouts import save, write_class_folders

from jaxdefense.data import load
from jaxdefense.data.readers.base import read_images
from jaxdefense.errors import DataError


def test_given_split(tmp_path):
    write_class_folders(tmp_path / "pets" / "train", n=4)
    write_class_folders(tmp_path / "pets" / "test", n=2)
    data = load(tmp_path / "pets")
    assert data.name == "pets"
    assert (len(data.y_train), len(data.y_test)) == (8, 4)
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (10, 10, 3)
    # Class 0 is drawn from 0..127, class 1 from 100..227.
    np.testing.assert_array_equal(data.x_train.max((1, 2, 3)) > 127, data.y_train == 1)
    assert "given split" in data.provenance


def test_hash_split_is_stable(tmp_path):
    write_class_folders(tmp_path, n=20, classes=("a", "b", "c"))
    data = load(str(tmp_path))
    assert len(data.y_train) + len(data.y_test) == 60
    assert 4 <= len(data.y_test) <= 22
    held = {image.tobytes() for image in data.x_test}
    (tmp_path / "a" / "0.png").unlink()
    after = {image.tobytes() for image in load(str(tmp_path)).x_test}
    assert held - after <= {data.x_test[i].tobytes() for i in np.where(data.y_test == 0)[0]}
    assert after <= held
    assert "hash of file name" in data.provenance


def test_by_stem_below_the_data_folder(tmp_path, monkeypatch):
    write_class_folders(tmp_path / "pets", n=20)
    monkeypatch.setenv("JAXDEFENSE_DATA", str(tmp_path))
    assert load("pets").num_classes == 2


def test_grey_only_where_all_are_grey(tmp_path):
    write_class_folders(tmp_path, n=20, shape=(10, 10))
    assert load(tmp_path).image_shape == (10, 10, 1)
    save(tmp_path / "cat" / "colour.png", np.zeros((10, 10, 3), np.uint8))
    assert load(tmp_path).image_shape == (10, 10, 3)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    write_class_folders(tmp_path, n=20, shape=(10, 10))
    levels = np.linspace(0, 65535, 100).astype(np.uint16).reshape(10, 10)
    for i in range(20):
        save(tmp_path / "cat" / f"{i}.png", levels)
    data = load(tmp_path)
    want = np.rint(levels / 257)
    np.testing.assert_array_equal(data.x_train[data.y_train == 0][0, ..., 0], want)


def test_numbered_classes_are_in_the_order_of_their_numbers(tmp_path):
    write_class_folders(tmp_path / "train", classes=("10", "9", "1"), n=1)
    write_class_folders(tmp_path / "test", classes=("10", "9", "1"), n=1)
    assert load(tmp_path).class_names == ("1", "9", "10")


def test_sizes_must_agree_or_be_named(tmp_path):
    write_class_folders(tmp_path, n=20)
    save(tmp_path / "cat" / "wide.png", np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(DataError, match=r"wide\.png is 12x10 pixels; name one size"):
        load(tmp_path)
    assert load(tmp_path, size=6).image_shape == (6, 6, 3)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(DataError, match="no images found"):
        load(tmp_path)
    write_class_folders(tmp_path / "one", classes=("cat",))
    with pytest.raises(DataError, match=r"1 class folder\(s\)"):
        load(tmp_path / "one")
    write_class_folders(tmp_path / "few", n=1, classes=("dog", "owl"))  # both hash to train
    with pytest.raises(DataError, match="too few to split"):
        load(tmp_path / "few")
    write_class_folders(tmp_path / "uneven" / "train", classes=("cat", "dog", "owl"))
    write_class_folders(tmp_path / "uneven" / "test")
    with pytest.raises(DataError, match="different class folders: owl"):
        load(tmp_path / "uneven")
    write_class_folders(tmp_path / "bad", n=20)
    (tmp_path / "bad" / "dog" / "7.png").write_text("not an image")
    with pytest.raises(DataError, match=r"7\.png: not an image"):
        load(tmp_path / "bad")
    (tmp_path / "bad" / "dog" / "7.png").unlink()
    (tmp_path / "bad" / "dog" / "7.png").mkdir()
    with pytest.raises(DataError, match=r"7\.png: cannot be opened as an image"):
        load(tmp_path / "bad")
    write_class_folders(tmp_path / "floats", n=20, shape=(10, 10))
    save(tmp_path / "floats" / "dog" / "f.tif", np.full((10, 10), 0.5, np.float32))
    with pytest.raises(DataError, match=r"f\.tif: cannot be read \(its pixels are floats"):
        load(tmp_path / "floats")


def test_images_of_several_sizes_are_not_stacked(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, width in zip(paths, (4, 5), strict=True):
        save(path, np.zeros((4, width), np.uint8))
    with pytest.raises(DataError, match=r"b\.png is 5x4 pixels while .*a\.png is 4x4"):
        read_images(paths, "L", None)
