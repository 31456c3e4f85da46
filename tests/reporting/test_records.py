import csv
import dataclasses
import importlib.metadata
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from jaxdefense.errors import DataError, InputError
from jaxdefense.reporting import (
    Record,
    ensure_folder,
    read_json,
    versions,
    write_csv,
    write_json,
)
from jaxdefense.reporting.records import write_atomically


def test_json_round_trip(tmp_path, grid):
    meta = {"command": "make quickstart", "versions": versions(), "wall_seconds": 1.5}
    write_json(tmp_path / "r.json", grid, meta)
    assert read_json(tmp_path / "r.json") == (grid, meta)
    assert json.loads((tmp_path / "r.json").read_text())["schema"] == 1


def test_nan_is_null_in_json_and_empty_in_csv(tmp_path, record):
    unmeasured = record(value=math.nan, low=math.nan, high=math.nan)
    write_json(tmp_path / "r.json", [unmeasured], {"loss": math.nan, "radii": [math.inf, 0.5]})
    found = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert found["records"][0]["value"] is None
    assert found["meta"] == {"loss": None, "radii": [None, 0.5]}
    (read,), _ = read_json(tmp_path / "r.json")
    assert math.isnan(read.value)
    assert math.isnan(read.low)
    assert math.isnan(read.high)
    write_csv(tmp_path / "r.csv", [unmeasured])
    with (tmp_path / "r.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["value"] == row["low"] == row["high"] == ""
    assert row["eps"] == "0.1"


def test_csv_has_one_row_per_record_and_survives_commas_and_line_ends(tmp_path, record):
    note = 'weak, "very"\nweak'
    write_csv(tmp_path / "r.csv", [record(note=note), record(seed=1)])
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0", "1"]
    assert rows[0]["note"] == note
    assert list(rows[0]) == [field.name for field in dataclasses.fields(Record)]


def test_meta_takes_what_experiments_have(tmp_path, record):
    @dataclasses.dataclass
    class Config:
        radii: tuple
        folder: Path

    meta = {"config": Config((0.1, 0.2), Path("runs")), "array": np.arange(2), "one": np.int32(1)}
    write_json(tmp_path / "r.json", [record()], meta)
    assert read_json(tmp_path / "r.json")[1] == {
        "config": {"radii": [0.1, 0.2], "folder": "runs"},
        "array": [0, 1],
        "one": 1,
    }
    with pytest.raises(InputError, match=r"meta\.model is a function"):
        write_json(tmp_path / "r.json", [], {"model": lambda x: x})


def test_numpy_scalars_become_plain_numbers(record):
    made = record(eps=np.float32(0.25), n=np.int64(7), value=np.float64(0.5), synthetic=np.True_)
    assert [type(x) for x in (made.eps, made.n, made.value, made.synthetic)] == [
        float,
        int,
        float,
        bool,
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 97.2, "high": 98.0}, "not percent"),
        ({"value": math.inf}, "fraction"),
        ({"high": 0.45}, "outside its interval"),
        ({"low": 0.55}, "outside its interval"),
        ({"eps": math.nan}, "radius"),
        ({"eps": math.inf}, "radius"),
        ({"eps": -0.1}, "radius"),
        ({"n": -1}, "count"),
        ({"n": 1.5}, "give one int"),
        ({"eps": "0.1"}, "give one float"),
        ({"synthetic": 1}, "give one bool"),
        ({"model": None}, "give one str"),
        ({"value": np.array([0.1, 0.2])}, "give one float"),
    ],
)
def test_bad_cells_are_refused(record, changes, message):
    with pytest.raises(InputError, match=message):
        record(**changes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 1, "meta": {}, "rec', "cut short"),
        ("[]", "holds no records"),
        ('{"schema": 2, "meta": {}, "records": []}', "schema 2"),
        ('{"schema": 1, "meta": {}, "records": [{"value": 1}]}', "record 0"),
        ('{"schema": 1, "meta": {}, "records": [3]}', "record 0"),
    ],
)
def test_files_that_are_not_records(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_json(tmp_path / "r.json")


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file(tmp_path, record, monkeypatch, broken):
    path = tmp_path / "r.json"
    write_json(path, [record()], {})
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(InputError, match="No space left"):
        write_json(path, [record(seed=1)], {})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.json"]


def test_a_write_into_no_folder_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("missing", "file"):
        with pytest.raises(InputError, match="cannot write"):
            write_atomically(tmp_path / folder / "r.csv", "")


def test_written_files_are_for_others_to_read(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "atomic", "")
    modes = [(tmp_path / name).stat().st_mode for name in ("plain", "atomic")]
    assert modes[0] == modes[1]


def test_ensure_folder_makes_and_checks(tmp_path, monkeypatch):
    folder = ensure_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert os.listdir(folder) == []
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="output folder"):
            ensure_folder(wrong)

    def refused(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    # root may write anywhere, so a read-only folder cannot be tried for real
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(InputError, match="Permission denied"):
        ensure_folder(folder)


def test_versions_name_what_decides_a_result(monkeypatch):
    assert list(versions()) == ["python", "jaxdefense", "jax", "flax", "numpy"]
    assert versions()["numpy"] == np.__version__

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert versions()["flax"] == "not installed"
