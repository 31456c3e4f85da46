"""The script of Kim et al. 2020 from end to end in its smallest setting."""

import dataclasses

import pytest

from experiments import coverage, kim2020_settings, kim2020_tables, measuring
from experiments import kim2020_revisiting_autoencoders as kim2020
from experiments.kim2020_parts import AE, CONTROL, Workshop
from jaxdefense.evaluation import store
from jaxdefense.reporting import read_json
from jaxdefense.training import loop

# One run serves all tests here, so they belong to one worker.
pytestmark = pytest.mark.xdist_group("kim2020")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("runs"))
    return dataclasses.replace(kim2020.PRESETS["smoke"], output=output)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    kim2020.main(config)
    return tmp_path_factory.getbasetemp() / config.output / "kim2020_revisiting_autoencoders-smoke"


def test_every_printed_number_has_an_answer_or_a_reason(finished, capsys):
    assert coverage.main(["--papers", "4", "--results", str(finished)]) == 0
    # The other data set is not in this preset.
    assert "88 numbers: 32 answered, 56 with a reason why not, 0 open" in capsys.readouterr().out


def test_the_page_shows_what_was_measured_and_says_that_data_stand_in(finished):
    page = (finished / "results" / "README.md").read_text()
    assert "ON STAND-IN DATA" in page
    assert "figure-4.png" in page
    assert (finished / "results" / "figure-4.png").read_bytes().startswith(b"\x89PNG")
    for title in ("Every network", "Nets that share", "Black box", "minimum l2 norm", "Equation 2"):
        assert title in page
    # One seed has no spread; no second data set, substitute, other loss or hardened net was run.
    assert page.count("**not measured**") == 7


def test_norms_and_gradients_stand_beside_accuracies(finished):
    records, _ = read_json(finished / "results" / "results.json")
    for metric in ("median l2 norm", kim2020_tables.AMPLITUDE):
        found = [r for r in records if r.metric == metric]
        assert {r.defence for r in found} == {"none", AE, CONTROL}
        assert not any(r.value <= 0 for r in found)  # NaN where all was wrong without an attack


def test_a_second_run_only_draws(config, finished, monkeypatch):
    before = (finished / "results" / "results.json").read_text()
    spent = []
    make_step, sweep, craft = loop.make_step, store.sweep, measuring.craft

    def counting(*args, **kwargs):
        step = make_step(*args, **kwargs)
        return lambda *a: spent.append("step") or step(*a)

    monkeypatch.setattr(loop, "make_step", counting)
    monkeypatch.setattr(store, "sweep", lambda *a, **k: spent.append("sweep") or sweep(*a, **k))
    monkeypatch.setattr(measuring, "craft", lambda *a, **k: spent.append("craft") or craft(*a, **k))
    kim2020.main(config)
    assert not spent
    assert (finished / "results" / "results.json").read_text() == before


def test_hardening_goes_from_one_radius_to_the_next():
    """At the largest radius from the start MNIST's networks learn nothing."""
    calls = []

    class Recorded(Workshop):
        def classifier(self, part, purifier=None, **given):
            calls.append((part, given["initial"], given["against"][1]))
            return part

    setting = dataclasses.replace(kim2020_settings.MNIST, hardening_eps=(25.5, 51))
    assert Recorded(setting, None).harden("c", "net") == "c_hardened_51"
    assert calls == [("c_hardened_25.5", "net", 0.1), ("c_hardened_51", "c_hardened_25.5", 0.2)]
