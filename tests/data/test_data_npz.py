"""Prepared arrays: plain and JPEG bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxdefense.data import load
from jaxdefense.errors import DataError

RANDOM = np.random.default_rng(0)


def arrays(**changes):
    values = {
        "x_train": RANDOM.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8),
        "y_train": np.arange(6) % 3,
        "x_test": RANDOM.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8),
        "y_test": np.arange(3),
    }
    return values | changes


def write(path, **changes):
    np.savez(path, **{k: v for k, v in arrays(**changes).items() if v is not None})
    return path


def test_plain(tmp_path):
    path = write(tmp_path / "mine.npz")
    data = load(path)
    assert data.name == "mine"
    assert data.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(data.x_train, np.load(path)["x_train"])
    assert data.provenance == "mine, read from prepared arrays (mine.npz)"
    assert not list((tmp_path / "cache").glob("*"))  # as fast to read as a cache file would be


def test_compressed_is_cached(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", **arrays())
    first, second = load(tmp_path / "mine.npz"), load(tmp_path / "mine.npz")
    np.testing.assert_array_equal(first.x_train, second.x_train)
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1


def test_forms_that_are_understood(tmp_path):
    grey = arrays()["x_train"]
    data = load(
        write(
            tmp_path / "keras.npz",
            x_train=grey[..., 0],
            x_test=grey[:3, ..., 0].astype(np.int64),
            y_train=(np.arange(6) % 3)[:, None].astype(np.uint8),
            y_test=np.array([0.0, 1.0, 2.0]),
            class_names=np.array(["a", "b", "c"]),
        )
    )
    np.testing.assert_array_equal(data.x_train, grey)
    np.testing.assert_array_equal(data.x_test, grey[:3])
    assert data.class_names == ("a", "b", "c")


def test_floats_are_rounded_and_it_is_said(tmp_path):
    x = arrays()["x_train"]
    floats = {"x_train": x / np.float32(255), "x_test": x[:3] / np.float32(255)}
    data = load(write(tmp_path / "floats.npz", **floats))
    np.testing.assert_array_equal(data.x_train, x)
    assert data.title == "floats (floats rounded to 8 bits)"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y_test": None}, "needs the keys"),
        ({"x_train": np.full((6, 8, 8, 1), 3.5)}, "float64 from 3.5"),
        ({"x_train": np.full((6, 8, 8, 1), np.nan)}, "not finite"),
        ({"x_train": np.full((6, 8, 8, 1), -1)}, "from -1"),
        ({"x_train": np.full((6, 8, 8, 1), "a")}, "pixels are uint8"),
        ({"x_train": np.zeros((6, 64), np.uint8)}, "has the shape"),
        ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, "channels first"),
        ({"x_train": np.zeros((0, 8, 8, 1), np.uint8)}, "has the shape"),
        ({"y_train": np.arange(5)}, "one label per image"),
        ({"y_train": np.eye(6, dtype=int)}, "labels are whole numbers"),
        ({"y_train": np.arange(6) + 0.5}, "labels are whole numbers"),
        ({"y_train": np.arange(6) - 1}, "out of range"),
        ({"class_names": np.array(["a", "b"])}, "labels run from 0 to 1"),
        ({"x_train": np.array([{}])}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, changes, says):
    path = write(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError, match=says) as error:
        load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 10, 700])
def test_damage(tmp_path, keep):
    path = write(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.npz: cannot be read"):
        load(path)


def test_one_flipped_byte(tmp_path):
    path = write(tmp_path / "flip.npz")
    data = bytearray(path.read_bytes())
    data[400] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"flip\.npz: cannot be read"):
        load(path)


def test_a_bare_array_and_another_ending(tmp_path):
    np.save(tmp_path / "bare.npy", np.zeros(3))
    (tmp_path / "bare.npy").rename(tmp_path / "bare.npz")
    with pytest.raises(DataError, match="one bare array"):
        load(tmp_path / "bare.npz")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"not an \.npz and not a folder"):
        load(tmp_path / "notes.txt")
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.npz")


def jpegs(n, quality=75, seed=0):
    smooth = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    pictures, blobs = [], []
    for small in smooth:
        buffer = io.BytesIO()
        Image.fromarray(small).resize((32, 32)).save(buffer, "JPEG", quality=quality)
        blobs.append(buffer.getvalue())
        pictures.append(np.asarray(Image.open(io.BytesIO(blobs[-1]))))
    offsets = np.cumsum([0, *map(len, blobs)])
    return np.stack(pictures), np.frombuffer(b"".join(blobs), np.uint8), offsets


def write_jpeg(path, quality=75, **changes):
    x_train, train, train_at = jpegs(4, quality)
    x_test, test, test_at = jpegs(2, quality, seed=1)
    values = {
        "train_jpeg": train,
        "train_offsets": train_at,
        "train_labels": np.arange(4, dtype=np.uint8),
        "test_jpeg": test,
        "test_offsets": test_at,
        "test_labels": np.arange(2, dtype=np.uint8),
    }
    np.savez(path, **(values | changes))
    return x_train, x_test


@pytest.mark.parametrize("quality", [75, 40])
def test_jpeg_bytes_as_a_named_set(tmp_path, quality):
    x_train, x_test = write_jpeg(tmp_path / "cifar10_jpeg.npz", quality)
    data = load("cifar10", data_dir=tmp_path)
    np.testing.assert_array_equal(data.x_train, x_train)
    np.testing.assert_array_equal(data.x_test, x_test)
    assert data.title == f"CIFAR-10 (JPEG quality {quality})"
    assert data.class_names[0] == "airplane"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train_offsets": np.array([0, 5, 3, 9, 10])}, "do not cut"),
        ({"train_offsets": np.array([0, 10, 20, 30, 10**9])}, "do not cut"),
        ({"train_labels": np.zeros(3, np.uint8)}, "3 train_labels for 4 images"),
        ({"test_jpeg": np.zeros(100_000, np.uint8)}, "cannot be read"),
    ],
)
def test_jpeg_damage(tmp_path, changes, says):
    write_jpeg(tmp_path / "cifar10_jpeg.npz", **changes)
    with pytest.raises(DataError, match=says):
        load("cifar10", data_dir=tmp_path)
