"""The quickstart from end to end, in the smallest setting there is; what a second run re-uses."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from experiments import measuring, quickstart, quickstart_report
from jaxdefense.errors import CheckpointError
from jaxdefense.evaluation import interval, store
from jaxdefense.reporting import read_json
from jaxdefense.training import loop

TINY = quickstart.PRESETS["smoke"]
PARTS = {
    "classifier", "autoencoder", "u_autoencoder",
    "classifier_behind_autoencoder", "classifier_behind_u_autoencoder",
}  # fmt: skip

# One run serves all tests here, so they belong to one worker.
pytestmark = pytest.mark.xdist_group("quickstart")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    quickstart.main(dataclasses.replace(TINY, output=str(output)))
    return output / "digits-lenet5-smoke"


@pytest.fixture
def copy(finished, tmp_path):
    """A finished run that a test may damage, and the configuration that goes on from it."""
    folder = tmp_path / finished.name
    shutil.copytree(finished, folder)
    return folder, dataclasses.replace(TINY, output=str(tmp_path))


@pytest.fixture
def undrawn(monkeypatch):
    """The records of the next run instead of its report."""
    seen = []
    monkeypatch.setattr(quickstart_report, "write", lambda *args: seen.append(args[2]))
    return seen


@pytest.fixture
def steps(monkeypatch):
    """Counts optimizer steps."""
    taken = []
    make_step = loop.make_step

    def counting(*args, **kwargs):
        step = make_step(*args, **kwargs)
        return lambda *a: taken.append(1) or step(*a)

    monkeypatch.setattr(loop, "make_step", counting)
    return taken


@pytest.fixture
def sweeps(monkeypatch):
    """Counts sweeps that are really run."""
    run, sweep = [], store.sweep
    monkeypatch.setattr(store, "sweep", lambda *a, **k: run.append(a) or sweep(*a, **k))
    return run


def records(folder):
    return read_json(folder / "results.json")


def test_every_file_is_there(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "results.json", "results.csv", "table.md", "report.html", "curves.png", "training.png",
        "images-ae.png", "images-u-ae.png", "checkpoints", "sweeps",
    } <= names  # fmt: skip
    assert {path.name for path in (finished / "checkpoints").iterdir()} == PARTS
    for name in ("curves.png", "images-ae.png", "images-u-ae.png"):
        assert (finished / name).read_bytes().startswith(b"\x89PNG")
    report = (finished / "report.html").read_text()
    assert "PGD-2" in report
    assert "https://" not in report.replace("https://www.w3.org", "")  # needs nothing from outside
    table = (finished / "table.md").read_text()
    assert "| U-AE" in table
    assert "PGD-2 oblivious" in table


def test_every_cell_is_measured_once(finished):
    found, meta = records(finished)
    cells = {}
    for r in found:
        cells.setdefault((r.defence, r.attack, r.knowledge), []).append(r)
    expected = set()
    for defence in ("none", "AE", "U-AE"):
        expected |= {(defence, "none", "none"), (defence, "gaussian", "none")}
        for attack in ("fgsm", "pgd-2"):
            expected.add((defence, attack, "white-box"))
            if defence != "none":
                expected.add((defence, attack, "oblivious"))
    assert set(cells) == expected
    for (_, attack, _), rows in cells.items():
        grid = {"none": [0.0], "gaussian": TINY.sigmas}.get(attack, TINY.eps)
        assert [r.eps for r in rows] == pytest.approx(list(grid))
        assert {r.norm for r in rows} == {"sigma" if attack == "gaussian" else "linf"}
    assert meta["config"]["steps"] == 2
    assert json.loads((finished / "results.json").read_text())["records"]


def test_records_hold_what_a_reader_needs(finished):
    for r in records(finished)[0]:
        assert r.n == (449 if r.attack == "none" else 12)
        low, high = interval(round(r.value * r.n), r.n)
        assert (r.low, r.high) == pytest.approx((low, high))
        assert r.low <= r.value <= r.high
        assert r.model == "lenet5"
        assert r.seed == 0
        assert "scikit-learn digits" in r.provenance
        assert not r.synthetic
        assert r.gradients == 0 or r.attack in ("fgsm", "pgd-2")
    clean = {r.defence: r.value for r in records(finished)[0] if r.attack == "none"}
    assert min(clean.values()) > 0.3, clean  # else the rest says nothing
    spent = lambda *cell: sum(
        r.gradients for r in records(finished)[0] if (r.defence, r.attack, r.knowledge) == cell
    )
    # Oblivious attacks make both steps at each radius that is left to try; white-box ones may stop.
    assert spent("AE", "pgd-2", "oblivious") % 2 == 0
    for knowledge in ("oblivious", "white-box"):
        assert 0 < spent("AE", "pgd-2", knowledge) <= 2 * 3 * 12
    assert spent("AE", "fgsm", "white-box") > 0


def test_curves_fall_and_start_at_the_clean_accuracy(finished):
    curves = {}
    for r in records(finished)[0]:
        curves.setdefault((r.defence, r.attack, r.knowledge), []).append(r.value)
    for (defence, attack, knowledge), curve in curves.items():
        if attack in ("fgsm", "pgd-2"):
            assert (np.diff(curve) <= 0).all(), (defence, attack, knowledge)
            assert curve[0] == curves[defence, "fgsm", "white-box"][0]


def test_a_second_run_trains_and_measures_nothing(copy, finished, steps, sweeps, capsys):
    folder, config = copy
    (folder / "results.json").unlink()
    quickstart.main(config)
    assert not steps
    assert not sweeps
    assert records(folder)[0] == records(finished)[0]
    assert str(folder / "report.html") in capsys.readouterr().out


def test_another_configuration_in_the_same_folder_is_refused_by_name(copy, steps):
    _, config = copy
    other = dataclasses.replace(config.classifier, epochs=6)
    with pytest.raises(CheckpointError, match=r"another configuration: epochs was 5, is 6"):
        quickstart.main(dataclasses.replace(config, classifier=other))
    with pytest.raises(CheckpointError, match=r"seed was 0, is 1"):
        quickstart.main(dataclasses.replace(config, seed=1))
    assert not steps


def test_a_flipped_byte_falls_back_and_ends_in_the_same_numbers(
    copy, finished, undrawn, steps, sweeps
):
    folder, config = copy
    part = folder / "checkpoints" / "classifier"
    newest = max(int(path.name) for path in part.iterdir() if path.name.isdigit())
    victim = max(
        (path for path in (part / str(newest)).rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x10
    victim.write_bytes(content)
    with pytest.warns(UserWarning, match=r"damaged checkpoint .*going on from step"):
        quickstart.main(config)
    # One epoch again, to bit-identical parameters: every curve is still known.
    assert 0 < len(steps) <= 480 // 32
    assert not sweeps
    assert undrawn == [records(finished)[0]]


def test_more_examples_measure_again_but_train_nothing(copy, undrawn, steps, monkeypatch):
    _, config = copy
    measured = []
    monkeypatch.setattr(
        measuring, "curve", lambda study, *a, **k: measured.append(study.n_eval) or []
    )
    quickstart.main(dataclasses.replace(config, n_eval=20))
    assert set(measured) == {20}
    assert len(measured) == 3 + 5 + 5
    assert not steps
