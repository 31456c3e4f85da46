"""The script of Ghosh and Chatterjee 2024 in its smallest setting, and what it is made of."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import coverage, measuring, readings, studies
from experiments import ghosh2024_active as active
from experiments import ghosh2024_ct_denoising as ghosh2024
from experiments.ghosh2024_cells import LEAKED, NEAREST
from experiments.ghosh2024_looks import PLACES, RESTORED
from experiments.ghosh2024_parts import (
    APART,
    BORDERS,
    GROUPED,
    HALF,
    PURIFIERS,
    code,
    copies,
    everything,
    framed,
    split,
)
from jaxdefense import Frozen, models
from jaxdefense.data.duplicates import near_duplicates
from jaxdefense.evaluation import store
from jaxdefense.reporting import read_json
from jaxdefense.training import loop

# One run serves all tests of the script, so they belong to one worker.
end_to_end = pytest.mark.xdist_group("ghosh2024")
SMOKE = ghosh2024.PRESETS["smoke"]


# ----------------------------------------------------------------------------- the whole script


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return dataclasses.replace(SMOKE, output=str(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    ghosh2024.main(config)
    return tmp_path_factory.getbasetemp() / config.output / "ghosh2024_ct_denoising-smoke"


@pytest.fixture(scope="module")
def records(finished):
    return read_json(finished / "results" / "results.json")[0]


@end_to_end
def test_every_printed_number_has_an_answer_or_a_reason(finished, capsys):
    assert coverage.main(["--papers", "3", "--results", str(finished)]) == 0
    assert "13 numbers: 8 answered, 5 with a reason" in capsys.readouterr().out
    told = json.loads((finished / "results" / "answers.json").read_text())["answers"]
    (test,) = (a for a in told if a["number"]["metric"] == "test accuracy")
    assert test["headline"]
    assert test["verdict"]
    assert set(test["cells"]) == {"as attacked", "control"}
    counted = {a["number"]["metric"]: a["cells"] for a in told if a["number"]["table"] == "1"}
    both = [counted[f"images {name}"]["as attacked"]["value"]
            for name in ("COVID-19", "non COVID-19", "total")]  # fmt: skip
    assert both[0] + both[1] == both[2] > 0


@end_to_end
def test_the_page_shows_what_was_measured_and_says_that_data_stand_in(finished):
    page = (finished / "results" / "README.md").read_text()
    assert "ON STAND-IN DATA" in page
    named = (*(f"figure-{i}" for i in range(3, 9)), "losses", "reliability", "active-learning")
    for name in named:
        assert f"{name}.png" in page
        assert (finished / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for title in (
        "Table 1", "Table 2", "by split", "Figure 3 in numbers", "Examples of the CNN alone",
        "Gaussian noise", "Metrics at eps", "Confusion matrices", "Overlap as a number",
        "embeddings in the plane", "Active learning", "Figure 1",
    ):  # fmt: skip
        assert title in page
    # Two autoencoders that hardly trained may be too much alike to compare.
    assert "**not measured**" not in page
    assert page.count("**not to be told**") <= page.count("not to be told where either differs")


@end_to_end
def test_no_attacker_of_the_whole_is_forgotten(records):
    accuracies = [r for r in records if r.metric == "accuracy" and r.attack != "gaussian"]
    for name in PURIFIERS:
        known = {(r.attack, r.knowledge) for r in accuracies if r.defence == name}
        assert known == {("none", "none"), ("fgsm", "oblivious"), ("pgd-2", "oblivious"),
                         ("fgsm", "white-box"), ("pgd-2", "white-box")}  # fmt: skip
    bare = {(r.attack, r.knowledge) for r in accuracies if r.defence == "none"}
    assert ("pgd-2", "white-box") in bare
    assert not any(knowledge == "oblivious" for _, knowledge in bare)


@end_to_end
def test_readings_agree_with_each_other(records):
    """Accuracy by two ways, and what is not changed is not told apart."""
    at = lambda **fields: [
        r for r in records if all(getattr(r, name) == value for name, value in fields.items())
    ]
    model = next(r.model for r in records if r.metric == RESTORED)
    for defence in ("none", *PURIFIERS):
        known = "white-box" if defence == "none" else "oblivious"
        same = {"model": model, "defence": defence, "knowledge": known}
        (error,) = at(metric="top1_error", attack="FGSM", **same)
        (static,) = (r for r in at(metric="accuracy", attack="fgsm", **same) if r.eps)
        assert error.value == pytest.approx(1 - static.value)
        confused = [r.value for r in records if "taken for" in r.metric
                    and (r.defence, r.attack, r.knowledge) == (defence, "FGSM", known)]  # fmt: skip
        assert sum(confused) == SMOKE.n_eval
    assert {r.model for r in at(metric="AUC")} == set(PLACES)
    assert all(r.low <= r.value <= r.high for r in at(metric="AUC"))
    restored = {(r.defence, r.attack): r.value for r in at(metric=RESTORED, knowledge="oblivious")}
    assert len(restored) == 4
    assert min(restored.values()) > 0
    # Where near-duplicates are kept together, none is left on the other side.
    shares = at(metric=LEAKED)
    assert [r.model.removeprefix(f"{NEAREST}, {model}") for r in shares] == [
        "", f", {HALF}", f", {GROUPED}"
    ]  # fmt: skip
    assert shares[-1].value == 0


@end_to_end
def test_both_strategies_begin_alike_and_then_ask_for_other_labels(records):
    found = {
        (r.model, r.metric, r.attack): r.value for r in records if " labels by " in r.model
        and not (r.attack == "fgsm" and r.eps == 0)
    }  # fmt: skip
    for metric, attack in ((active.LABELLING, "none"), ("accuracy", "none"), ("accuracy", "fgsm")):
        first, _ = (
            [found[active.called(strategy, labels), metric, attack]
             for strategy in active.STRATEGIES]
            for labels in active.sizes(SMOKE)
        )  # fmt: skip
        assert first[0] == first[1]


@end_to_end
def test_a_second_run_only_draws(config, finished, monkeypatch):
    before = (finished / "results" / "results.json").read_text()
    spent = []
    make_step, sweep, craft = loop.make_step, store.sweep, measuring.craft
    outputs, fit = measuring.outputs, measuring.kept

    def counting(*args, **kwargs):
        step = make_step(*args, **kwargs)
        return lambda *a: spent.append("step") or step(*a)

    monkeypatch.setattr(loop, "make_step", counting)
    monkeypatch.setattr(store, "sweep", lambda *a, **k: spent.append("sweep") or sweep(*a, **k))
    monkeypatch.setattr(measuring, "craft", lambda *a, **k: spent.append("craft") or craft(*a, **k))
    monkeypatch.setattr(
        measuring, "outputs", lambda *a, **k: spent.append("outputs") or outputs(*a, **k)
    )
    monkeypatch.setattr(
        measuring, "kept",
        lambda path, make: fit(path, lambda: spent.append(path.name) or make()),
    )  # fmt: skip
    ghosh2024.main(config)
    assert not spent
    assert (finished / "results" / "results.json").read_text() == before


# ------------------------------------------------------------------------------------------ splits


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Digits, of which every other image is there twice."""
    folder = tmp_path_factory.mktemp("splits")
    config = dataclasses.replace(SMOKE, n_train=200)
    made = studies.prepare(config, "mnist", "digits", 3, folder, size=16, channels=1)
    data = made.data
    return dataclasses.replace(
        made, data=dataclasses.replace(data, x_test=data.x_train[::2], y_test=data.y_train[::2])
    )


def test_halves_are_stratified_and_hold_every_image_once(study):
    halves = split(SMOKE, study, HALF)
    x, y = everything(study)
    again, labels = everything(halves)
    key = lambda images, labels: sorted(zip(map(bytes, images), labels.tolist(), strict=True))
    assert key(again, labels) == key(x, y)
    train = len(halves.data.y_train) + len(halves.y_val)
    assert abs(train - len(halves.data.y_test)) <= 1
    counts = np.bincount(halves.data.y_test) - np.bincount(y) / 2
    assert np.abs(counts).max() <= 1
    assert halves.folder != study.folder
    assert "stratified halves" in halves.data.provenance


def test_near_duplicates_stay_on_one_side(study):
    config = dataclasses.replace(SMOKE, threshold=0.999)
    grouped = split(config, study, GROUPED)
    known = {bytes(image) for image in (*grouped.data.x_train, *grouped.x_val)}
    assert not any(bytes(image) in known for image in grouped.data.x_test)
    # In the split as it was, all of them were on both sides.
    assert {*map(bytes, study.data.x_test)} <= {*map(bytes, study.data.x_train)}
    groups = near_duplicates(everything(study)[0], 0.999)
    assert len(set(groups.tolist())) < len(groups)
    share = len(grouped.data.y_test) / len(groups)
    assert 0.15 < share < 0.25


def test_of_borders_an_eighth_of_each_side_is_left(study):
    cut = split(SMOKE, study, BORDERS)
    shown = np.full((1, 16, 16, 1), 200, np.uint8)
    assert (framed(shown) > 0).sum() == 16**2 - 12**2
    np.testing.assert_array_equal(cut.data.x_train[:, :2], study.data.x_train[:, :2])
    assert not cut.data.x_test[:, 2:14, 2:14].any()
    assert cut.folder != study.folder


def test_borders_with_near_duplicates_apart_are_those_of_that_split(study):
    config = dataclasses.replace(SMOKE, threshold=0.999)
    grouped, apart = (split(config, study, name) for name in (GROUPED, APART))
    np.testing.assert_array_equal(apart.data.x_train, framed(grouped.data.x_train))
    np.testing.assert_array_equal(apart.data.x_test, framed(grouped.data.x_test))
    np.testing.assert_array_equal(apart.data.y_test, grouped.data.y_test)
    assert len({study.folder, grouped.folder, apart.folder}) == 3


# ------------------------------------------------------------------------------------------- parts


def test_half_of_a_batch_is_clean_and_noise_is_as_strong_as_asked():
    x = jnp.full((400, 8, 8, 1), 0.5)
    noisy = np.asarray(copies(jnp.array([0.05, 0.1]), jax.random.key(0), x))
    assert (noisy[:200] == 0.5).all()
    spread = noisy[200:].std((1, 2, 3))
    assert 0.03 < spread.min() < 0.06
    assert 0.09 < spread.max() < 0.13
    assert spread.mean() == pytest.approx(0.075, abs=0.004)


def test_the_code_is_flat_and_travels_through_jit():
    model = models.Autoencoder(widths=(2, 3))
    x = np.random.default_rng(0).uniform(size=(4, 16, 16, 1)).astype(np.float32)
    trained = Frozen(model, models.initialize(model, jax.random.key(0), x.shape[1:]))
    expected = models.bottleneck(model, trained.variables, x).reshape(4, -1)
    found = jax.jit(lambda function, x: function(x))(code(trained), x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_entropy_asks_for_the_least_certain_images(study, monkeypatch):
    logits = np.array([[9, 0], [0.1, 0], [0, 4], [0, 1.0]])
    monkeypatch.setattr(readings, "outputs", lambda *given: logits)
    rest = np.array([7, 3, 5, 1])
    assert active._ranked(study, None, rest, "entropy").tolist() == [3, 1, 5, 7]
    assert active._ranked(study, None, rest, "random").tolist() == rest.tolist()


def test_damaged_arrays_are_made_again(tmp_path):
    path, made = tmp_path / "sweeps" / "a.npy", np.arange(6.0).reshape(2, 3)
    for damage in (None, b"", b"\x93NUMPY"):
        if damage is not None:
            path.write_bytes(damage)
        np.testing.assert_array_equal(readings.stored(path, lambda: made), made)
    np.testing.assert_array_equal(readings.stored(path, lambda: pytest.fail("again")), made)
