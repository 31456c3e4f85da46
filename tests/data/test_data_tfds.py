"""TFDS builders and prepared TFDS folders, without TensorFlow and without a network."""

import json
import sys

import numpy as np
import pytest
from data_layouts import (
    write_cifar,
    write_ct,
    write_fingers,
    write_gtsrb,
    write_idx,
    write_tfrecord,
    write_tmnist,
)

from jaxdefense.data import load
from jaxdefense.errors import DataError, UnknownNameError

WRITERS = {
    "mnist": write_idx,
    "fashion_mnist": write_idx,
    "cifar10": write_cifar,
    "tmnist": write_tmnist,
    "fingers": write_fingers,
    "gtsrb": write_gtsrb,
    "sars_cov2_ct": write_ct,
}
SHUFFLED = {"mnist", "fashion_mnist", "cifar10"}  # TFDS's own sets, by its own rule


@pytest.fixture
def prepare(tmp_path):
    from jaxdefense.data.tfds_builders import prepare_tfds

    def run(name):
        WRITERS[name](tmp_path / "raw" / name)
        return prepare_tfds(name, tmp_path / "raw" / name, tmp_path / "tfds")

    return run


def ordered(x, y):
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


@pytest.mark.parametrize("name", WRITERS)
def test_prepared_folder_equals_the_raw_files(tmp_path, prepare, name):
    folder = prepare(name)
    assert folder.parent == tmp_path / "tfds" / name
    raw = load(name, data_dir=tmp_path / "raw")
    data = load(name, data_dir=tmp_path / "tfds")
    assert "a prepared TFDS folder (array_record)" in data.provenance
    assert data.class_names == raw.class_names
    for split in ("train", "test"):
        got, want = ((getattr(d, f"x_{split}"), getattr(d, f"y_{split}")) for d in (data, raw))
        assert ordered(*got) == ordered(*want)
        if name not in SHUFFLED:
            np.testing.assert_array_equal(got[0], want[0])
            groups = getattr(raw, f"groups_{split}")
            np.testing.assert_array_equal(getattr(data, f"groups_{split}"), groups)
    assert "tensorflow" not in sys.modules


def test_tfds_itself_finds_them(tmp_path, prepare):
    import tensorflow_datasets as tfds

    prepare("mnist")
    prepare("tmnist")
    source = tfds.data_source("mnist", data_dir=tmp_path / "tfds", split="train", download=False)
    assert len(source) == 20
    assert source[0]["image"].shape == (28, 28, 1)
    ours = tfds.data_source("tmnist", data_dir=tmp_path / "tfds", split="test", download=False)
    assert ours[0]["group"].startswith(b"Font")


def test_tfds_default_folder(tmp_path, prepare, monkeypatch):
    prepare("mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    assert len(load("mnist").y_train) == 20
    # A data folder that was named comes before TFDS's own folder, which was not.
    (tmp_path / "d").mkdir()
    x, y = np.zeros((4, 28, 28, 1), np.uint8), np.zeros(4, int)
    np.savez(tmp_path / "d" / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert len(load("mnist", data_dir=tmp_path / "d").y_train) == 4


def test_raw_before_tfds_before_npz(tmp_path, prepare):
    prepare("mnist")
    x = np.zeros((4, 28, 28, 1), np.uint8)
    y = np.zeros(4, int)
    np.savez(tmp_path / "tfds" / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert "TFDS" in load("mnist", data_dir=tmp_path / "tfds").provenance
    write_idx(tmp_path / "tfds", n=(30, 10), seed=5)
    assert "idx files" in load("mnist", data_dir=tmp_path / "tfds").provenance


def as_tfrecord(folder):
    """What an ordinary TFDS with TensorFlow would have written: the same records, framed."""
    from array_record.python.array_record_module import ArrayRecordReader

    for path in list(folder.glob("*.array_record-*")):
        reader = ArrayRecordReader(str(path))
        target = path.with_name(path.name.replace("array_record", "tfrecord"))
        write_tfrecord(target, reader.read_all())
        reader.close()
        path.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))


@pytest.mark.parametrize("name", ["mnist", "tmnist"])
def test_tfrecord_folders_are_read_in_plain_python(tmp_path, prepare, name):
    folder = prepare(name)
    before = load(name, data_dir=tmp_path / "tfds")
    as_tfrecord(folder)
    data = load(name, data_dir=tmp_path / "tfds")
    assert "(tfrecord)" in data.provenance
    np.testing.assert_array_equal(data.x_train, before.x_train)
    np.testing.assert_array_equal(data.y_test, before.y_test)
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("cut", [1, 5, 300])
def test_a_tfrecord_cut_short(tmp_path, prepare, cut):
    folder = prepare("mnist")
    as_tfrecord(folder)
    path = next(folder.glob("*train.tfrecord*"))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match="cut short inside a record") as error:
        load("mnist", data_dir=tmp_path / "tfds")
    assert str(path) in str(error.value)


def test_records_missing_or_garbled(tmp_path, prepare):
    folder = prepare("mnist")
    as_tfrecord(folder)
    path = next(folder.glob("*train.tfrecord*"))
    whole = path.read_bytes()
    size = 16 + int.from_bytes(whole[:8], "little")
    path.write_bytes(whole[size:])
    with pytest.raises(DataError, match="19 records where its info announces 20"):
        load("mnist", data_dir=tmp_path / "tfds")
    path.write_bytes(whole[:40] + b"\xff" * 60 + whole[100:])
    with pytest.raises(DataError, match="cannot be read"):
        load("mnist", data_dir=tmp_path / "tfds")


def test_what_is_wrong_with_a_folder_is_said(tmp_path, prepare):
    folder = prepare("mnist")
    info = folder / "dataset_info.json"
    text = info.read_text()
    info.write_text(text.replace('"array_record"', '"parquet"'))
    with pytest.raises(DataError, match="parquet, which loses rows"):
        load("mnist", data_dir=tmp_path / "tfds")
    about = json.loads(text)
    about["splits"] = about["splits"][:1]
    info.write_text(json.dumps(about))
    with pytest.raises(DataError, match="has no test split"):
        load("mnist", data_dir=tmp_path / "tfds")
    info.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        load("mnist", data_dir=tmp_path / "tfds")


def test_the_newest_version(tmp_path):
    from jaxdefense.data.tfds_folders import find

    for version in ("3.0.1", "3.0.10", "2.9.9"):
        (tmp_path / "mnist" / version).mkdir(parents=True)
        (tmp_path / "mnist" / version / "dataset_info.json").write_text("{}")
    (tmp_path / "mnist" / "9.0.0").mkdir()  # nothing prepared inside
    assert find("mnist", [tmp_path]).name == "3.0.10"


@pytest.mark.parametrize("name", WRITERS)
def test_missing_files_give_the_manual_instructions(tmp_path, name):
    from jaxdefense.data.tfds_builders import BUILDERS, prepare_tfds

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("not the data")
    with pytest.raises(DataError) as error:
        prepare_tfds(name, tmp_path / "other", tmp_path / "tfds")
    assert BUILDERS[name].MANUAL_DOWNLOAD_INSTRUCTIONS in str(error.value)
    assert not (tmp_path / "tfds").exists()


def test_a_damaged_file_is_named(tmp_path):
    from jaxdefense.data.tfds_builders import prepare_tfds

    write_idx(tmp_path / "raw")
    path = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged") as error:
        prepare_tfds("mnist", tmp_path / "raw", tmp_path / "tfds")
    assert str(path) in str(error.value)
    with pytest.raises(UnknownNameError, match="did you mean 'mnist'"):
        prepare_tfds("mnits", tmp_path, tmp_path)
