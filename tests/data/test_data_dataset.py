"""`Dataset`: checks, conversions, subsets; `as_images`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxdefense.data import Dataset, as_images
from jaxdefense.errors import InputError


def make(n=20, m=10, shape=(8, 6, 3), classes=5, **changes):
    random = np.random.default_rng(0)
    values = {
        "name": "made",
        "x_train": random.integers(0, 256, (n, *shape), dtype=np.uint8),
        "y_train": (np.arange(n) % classes).astype(np.int32),
        "x_test": random.integers(0, 256, (m, *shape), dtype=np.uint8),
        "y_test": (np.arange(m) % classes).astype(np.int32),
        "class_names": tuple("abcdefg"[:classes]),
        "provenance": "Made (by hand), all of it",
        "groups_train": np.arange(n),
    }
    return Dataset(**(values | changes))


def test_properties():
    data = make()
    assert (data.num_classes, data.image_shape) == (5, (8, 6, 3))
    assert data.title == "Made (by hand)"
    assert "20 train + 10 test" in repr(data)
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.name = "other"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"x_train": np.zeros((20, 8, 6, 3), np.float32)}, "x_train must be uint8"),
        ({"x_test": np.zeros((10, 8, 6), np.uint8)}, "x_test must be uint8"),
        ({"x_test": np.zeros((0, 8, 6, 3), np.uint8)}, "x_test is empty"),
        ({"x_test": np.zeros((10, 9, 6, 3), np.uint8)}, "one shape"),
        ({"y_train": np.zeros(19, np.int32)}, "y_train must be int32"),
        ({"y_train": np.zeros(20, np.int64)}, "y_train must be int32"),
        ({"y_test": np.full(10, 5, np.int32)}, "labels run from 0 to 4"),
        ({"y_test": np.full(10, -1, np.int32)}, "labels from -1"),
        ({"groups_train": np.arange(3)}, "groups_train has 3"),
    ],
)
def test_what_is_wrong_is_said(changes, says):
    with pytest.raises(InputError, match=says):
        make(**changes)


def test_resize_and_channels_say_so():
    small = make().resize(4).to_channels(1)
    assert small.image_shape == (4, 4, 1)
    assert small.provenance.endswith("resized from 8x6 to 4x4, RGB turned to grey")
    assert make(shape=(8, 8, 3)).resize(8).provenance == make().provenance
    wide = small.to_channels(3)
    assert (wide.x_train == small.x_train).all()
    assert wide.image_shape == (4, 4, 3)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resize_is_pillows(channels):
    data = make(shape=(9, 9, channels))
    got = data.resize(5).x_train[3]
    for c in range(channels):
        plane = Image.fromarray(np.ascontiguousarray(data.x_train[3, ..., c]))
        want = np.asarray(plane.resize((5, 5), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(got[..., c], want)


def test_grey_is_pillows():
    data = make()
    want = np.asarray(Image.fromarray(data.x_train[0]).convert("L"))
    np.testing.assert_array_equal(data.to_channels(1).x_train[0, ..., 0], want)


def test_impossible_conversions():
    with pytest.raises(InputError, match="2-channel"):
        make(shape=(8, 8, 2)).to_channels(3)
    with pytest.raises(InputError, match="only 1"):
        make().to_channels(4)
    for size in (0, 2.5, True):
        with pytest.raises(InputError, match="size must be a whole number"):
            make().resize(size)


def test_subset_is_random_repeatable_and_nested():
    data = make()
    part, again, other = data.subset(8, 4), data.subset(8, 4), data.subset(8, 4, seed=1)
    assert len(part.y_train) == 8
    assert len(part.y_test) == 4
    np.testing.assert_array_equal(part.groups_train, again.groups_train)
    assert not np.array_equal(part.groups_train, other.groups_train)
    np.testing.assert_array_equal(data.subset(5).groups_train, part.groups_train[:5])
    np.testing.assert_array_equal(part.x_train, data.x_train[part.groups_train])
    np.testing.assert_array_equal(part.y_train, data.y_train[part.groups_train])
    assert "random subset of 8 train and 4 test (seed 0)" in part.provenance


def test_subset_beyond_the_set_is_the_set():
    data = make()
    assert data.subset() is data
    assert data.subset(100, 10) is data
    with pytest.raises(InputError, match="n_test must be a whole number"):
        data.subset(n_test=0)


def test_validation_is_disjoint_and_complete():
    data = make()
    smaller, x_val, y_val = data.split_validation(0.25, seed=3)
    assert len(y_val) == 5
    assert len(smaller.y_train) == 15
    np.testing.assert_array_equal(smaller.x_test, data.x_test)
    rows = {image.tobytes() for image in data.x_train}
    kept, held = ({image.tobytes() for image in x} for x in (smaller.x_train, x_val))
    assert kept | held == rows
    assert not kept & held
    for image, label in zip(x_val, y_val, strict=True):
        row = next(i for i in range(20) if (data.x_train[i] == image).all())
        assert data.y_train[row] == label
    assert "5 training images held out" in smaller.provenance
    np.testing.assert_array_equal(data.split_validation(0.25, seed=3)[1], x_val)


def test_validation_keeps_one_on_each_side():
    assert len(make().split_validation(0.001)[2]) == 1
    assert len(make().split_validation(0.999)[0].y_train) == 1
    for fraction in (0, 1, -0.5):
        with pytest.raises(InputError, match="fraction"):
            make().split_validation(fraction)
    with pytest.raises(InputError, match="one training image"):
        make(n=1, classes=1, y_test=np.zeros(10, np.int32)).split_validation()


def test_as_images_gives_the_same_bits_everywhere():
    levels = np.arange(256, dtype=np.uint8)
    here = as_images(levels)
    assert here.dtype == np.float32
    assert here[0] == 0
    assert here[255] == 1
    assert (np.diff(here) > 0).all()
    np.testing.assert_array_equal(here, np.asarray(as_images(jnp.asarray(levels))))
    np.testing.assert_array_equal(here, np.asarray(jax.jit(as_images)(levels)))


@pytest.mark.parametrize("x", [np.zeros(3, np.float32), np.zeros(3, np.int32), [1, 2]])
def test_as_images_wants_bytes(x):
    with pytest.raises(InputError, match="takes uint8"):
        as_images(x)
