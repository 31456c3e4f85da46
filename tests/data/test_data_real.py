"""The real files, where a folder of them is at hand (JAXDEFENSE_DATA); else skipped."""

import pytest

from jaxdefense.data import load


def need(folder, *names):
    if not any((folder / name).exists() for name in names):
        pytest.skip(f"{folder} has none of {', '.join(names)}")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx(real_data, name):
    need(real_data, name)
    data = load(name, data_dir=real_data)
    if "idx files" not in data.provenance:
        pytest.skip("not the idx files")
    assert data.provenance.endswith(f"official split, read from idx files ({name})")
    assert (len(data.y_train), len(data.y_test)) == (60_000, 10_000)
    assert data.y_test[0] == {"mnist": 7, "fashion_mnist": 9}[name]
    other = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}[name]
    from jaxdefense.errors import DataError

    with pytest.raises(DataError, match="those of another set"):
        load(other, data_dir=real_data / name)


def test_prepared_arrays_say_what_they_are(real_data):
    need(real_data, "gtsrb_32.npz")
    data = load("gtsrb", data_dir=real_data)
    assert data.num_classes == 43
    if "prepared arrays" in data.provenance:
        assert "the original has 39,209 + 12,630" in data.provenance


def test_prepared_fingers(real_data):
    need(real_data, "fingers_32.npz")
    data = load("fingers", data_dir=real_data)
    assert data.num_classes == 6
    assert "mirrored" in data.provenance


def test_jpeg_quality_is_in_the_title(real_data):
    need(real_data, "cifar10_jpeg.npz")
    import numpy as np

    from jaxdefense.data.readers.npz import jpeg_quality

    with np.load(real_data / "cifar10_jpeg.npz") as file:
        start, stop = file["test_offsets"][:2]
        first = file["test_jpeg"][start:stop].tobytes()
    assert jpeg_quality(first) == 75


def test_typeface_by_stem(real_data):
    need(real_data, "typeface_284.npz")
    assert load("typeface_284", data_dir=real_data).image_shape == (28, 28, 1)
