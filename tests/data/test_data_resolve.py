"""Which place a data set is read from, the cache, and the one error when there is none."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from data_layouts import write_fingers, write_idx

from jaxdefense.data import cache, load, names
from jaxdefense.errors import DataError, InputError, UnknownNameError


def write_npz(path, value, count=4):
    x = np.full((count, 28, 28, 1), value, np.uint8)
    np.savez_compressed(
        path, x_train=x, y_train=np.arange(count), x_test=x, y_test=np.arange(count)
    )


def cached(tmp_path):
    return sorted((tmp_path / "cache").glob("*.npz"))


def test_raw_files_come_before_prepared_arrays(tmp_path):
    write_npz(tmp_path / "mnist_small.npz", 7)
    prepared = load("mnist", data_dir=tmp_path)
    assert prepared.x_train.max() == 7
    assert "prepared arrays (mnist_small.npz)" in prepared.provenance
    arrays = write_idx(tmp_path / "mnist")
    raw = load("mnist", data_dir=tmp_path)  # although the cache holds the prepared arrays
    np.testing.assert_array_equal(raw.x_train[..., 0], arrays["train"][0])


def test_the_better_fitting_prepared_file(tmp_path):
    write_npz(tmp_path / "tmnist_64.npz", 1)
    write_npz(tmp_path / "tmnist_28.npz", 2)
    assert load("tmnist", data_dir=tmp_path).x_test.max() == 2
    assert load("tmnist", data_dir=tmp_path, size=64).x_test.max() == 1
    write_npz(tmp_path / "tmnist.npz", 3)
    assert load("tmnist", data_dir=tmp_path, size=64).x_test.max() == 3


def test_a_second_load_reads_the_cache_and_nothing_else(tmp_path, monkeypatch):
    write_fingers(tmp_path / "d")
    first = load("fingers", data_dir=tmp_path / "d")
    monkeypatch.setattr("jaxdefense.data.readers.fingers.read_images", None)
    second = load("fingers", data_dir=tmp_path / "d")
    for field in ("x_train", "y_train", "x_test", "y_test", "groups_train", "groups_test"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
        assert getattr(first, field).dtype == getattr(second, field).dtype
    assert (first.provenance, first.class_names) == (second.provenance, second.class_names)


@pytest.mark.parametrize("change", ["content", "mtime", "added"])
def test_a_changed_source_is_read_anew(tmp_path, change):
    folder = tmp_path / "d"
    write_fingers(folder)
    before = load("fingers", data_dir=folder)
    if change == "content":
        write_fingers(folder, seed=0)
        (path, *_) = sorted((folder / "train").glob("*.png"))
        path.write_bytes(sorted((folder / "test").glob("*.png"))[0].read_bytes())
        assert not np.array_equal(load("fingers", data_dir=folder).x_train, before.x_train)
    elif change == "mtime":
        (path, *_) = sorted((folder / "train").glob("*.png"))
        stamp = cached(tmp_path)[0].stat().st_mtime_ns
        os.utime(path, ns=(1, 1))
        load("fingers", data_dir=folder)
        assert cached(tmp_path)[0].stat().st_mtime_ns > stamp
    else:
        write_fingers(folder, n=(6, 6), seed=1)
        assert len(load("fingers", data_dir=folder).y_train) == 18
    assert len(cached(tmp_path)) == 1


def test_a_gone_source_is_an_error_not_a_memory(tmp_path):
    write_idx(tmp_path / "d")
    load("mnist", data_dir=tmp_path / "d")
    next((tmp_path / "d").glob("t10k*")).unlink()
    with pytest.raises(DataError, match="no data for 'mnist'"):
        load("mnist", data_dir=tmp_path / "d")


def test_two_folders_do_not_share_a_cache_file(tmp_path):
    one, two = (write_idx(tmp_path / str(seed), seed=seed) for seed in (1, 2))
    for _ in range(2):
        for seed, arrays in ((1, one), (2, two)):
            got = load("mnist", data_dir=tmp_path / str(seed)).x_train[..., 0]
            np.testing.assert_array_equal(got, arrays["train"][0])


def test_sizes_and_channels(tmp_path):
    write_idx(tmp_path)
    plain = load("mnist", data_dir=tmp_path)
    data = load("mnist", data_dir=tmp_path, size=32, channels=3)
    np.testing.assert_array_equal(data.x_test, plain.resize(32).to_channels(3).x_test)
    assert data.provenance == plain.resize(32).to_channels(3).provenance


@pytest.mark.parametrize("damage", [lambda d: d[:-400], lambda d: b"", lambda d: b"x" * 900])
def test_a_damaged_cache_file_is_rebuilt_with_a_warning(tmp_path, damage):
    arrays = write_idx(tmp_path / "d")
    load("mnist", data_dir=tmp_path / "d")
    (path,) = cached(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match="is damaged .*rebuilding it"):
        data = load("mnist", data_dir=tmp_path / "d")
    np.testing.assert_array_equal(data.x_train[..., 0], arrays["train"][0])
    load("mnist", data_dir=tmp_path / "d")  # sound again: no warning


def test_a_flipped_pixel_in_the_cache_is_noticed(tmp_path):
    write_idx(tmp_path / "d")
    load("mnist", data_dir=tmp_path / "d")
    (path,) = cached(tmp_path)
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        load("mnist", data_dir=tmp_path / "d")


def test_a_cache_of_an_older_format_is_rebuilt(tmp_path, monkeypatch):
    write_idx(tmp_path / "d")
    monkeypatch.setattr(cache, "FORMAT", 0)
    load("mnist", data_dir=tmp_path / "d")
    before = cached(tmp_path)[0].read_bytes()
    monkeypatch.undo()
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path / "cache"))
    load("mnist", data_dir=tmp_path / "d")
    assert cached(tmp_path)[0].read_bytes() != before


def test_a_cache_that_cannot_be_written_costs_nothing_but_a_warning(tmp_path, monkeypatch):
    write_idx(tmp_path / "d")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JAXDEFENSE_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot keep mnist in the array cache"):
        assert len(load("mnist", data_dir=tmp_path / "d").y_train) == 20


def test_a_failed_write_leaves_no_part_behind(tmp_path, monkeypatch):
    write_idx(tmp_path / "d")

    def full(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match="No space left"):
        load("mnist", data_dir=tmp_path / "d")
    assert not list((tmp_path / "cache").iterdir())


def test_cache_folder_defaults_to_home(monkeypatch, tmp_path):
    monkeypatch.delenv("JAXDEFENSE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache" / "jaxdefense"


def test_the_environment_names_the_data_folder(tmp_path, monkeypatch):
    write_idx(tmp_path / "env", seed=1)
    own = write_idx(tmp_path / "own", seed=2)
    monkeypatch.setenv("JAXDEFENSE_DATA", str(tmp_path / "env"))
    assert len(load("mnist").y_train) == 20
    got = load("mnist", data_dir=tmp_path / "own").x_train[..., 0]
    np.testing.assert_array_equal(got, own["train"][0])
    monkeypatch.setenv("JAXDEFENSE_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match=r"JAXDEFENSE_DATA is .*none, which is not a folder"):
        load("mnist")
    assert load("digits").num_classes == 10  # needs no folder


@pytest.mark.parametrize("name", ["mnist", "cifar10", "tmnist", "fingers", "gtsrb", "sars_cov2_ct"])
def test_missing_data_is_one_quick_error(tmp_path, name):
    start = time.perf_counter()
    with pytest.raises(DataError) as error:
        load(name, data_dir=tmp_path)
    assert time.perf_counter() - start < 1
    message = str(error.value)
    assert f"no data for '{name}'" in message
    for part in (str(tmp_path), "dataset_info.json", f"{name}_*.npz", "--data-dir"):
        assert part in message
    assert "JAXDEFENSE_DATA" in message
    assert ("--download" in message) == (name in ("mnist", "cifar10"))
    assert ("Kaggle" in message) == (name not in ("mnist", "cifar10"))
    assert "tensorflow_datasets" not in (type(error.value).__module__)


def test_missing_data_without_a_folder_says_so():
    with pytest.raises(DataError, match="No data folder was named"):
        load("gtsrb")


def test_unknown_names_and_bad_arguments(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'mnist'"):
        load("mnits")
    with pytest.raises(DataError, match="no such file or folder"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"data_dir is .* not a folder"):
        load("mnist", data_dir=tmp_path / "nothing")
    with pytest.raises(InputError, match="channels must be 1"):
        load("digits", channels=2)
    with pytest.raises(InputError, match="size must be"):
        load("digits", size=-1)
    with pytest.raises(InputError, match="seed must be"):
        load("digits", seed=-1)
    with pytest.raises(InputError, match="fonts adds faces"):
        load("digits", fonts=tmp_path)


def test_no_permission_is_a_data_error(tmp_path, monkeypatch):
    write_idx(tmp_path)

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("jaxdefense.data.cache.fingerprint", refuse)
    with pytest.raises(DataError, match=r"cannot read the data set 'mnist': .*Permission denied"):
        load("mnist", data_dir=tmp_path)


def test_names():
    assert set(names()) == {
        *("typeface", "digits", "mnist", "fashion_mnist", "cifar10"),
        *("tmnist", "fingers", "gtsrb", "sars_cov2_ct"),
        *("synthetic_signs", "synthetic_fingers", "synthetic_ct"),
    }


def test_digits():
    data = load("digits")
    assert (len(data.y_train), len(data.y_test)) == (1348, 449)
    assert data.image_shape == (8, 8, 1)
    assert data.x_train.max() == 255
    assert not data.synthetic
    rows = np.concatenate([data.x_train, data.x_test]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    want = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, want))
    assert (load("digits", seed=1).y_train != data.y_train).any()
    np.testing.assert_array_equal(load("digits").y_train, data.y_train)
    assert load("digits", size=28, channels=3).image_shape == (28, 28, 3)


def test_importing_the_package_imports_neither_tfds_nor_matplotlib():
    code = (
        "import sys, jaxdefense.data as d; d.load('digits');"
        "bad = {'tensorflow_datasets', 'matplotlib', 'tensorflow'} & set(sys.modules);"
        "sys.exit(f'imported: {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
