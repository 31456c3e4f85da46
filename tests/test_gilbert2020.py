"""The script of Gilbert 2020 from end to end in its smallest setting, and what it is made of."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import coverage, gilbert2020_cells, gilbert2020_parts, measuring
from experiments import gilbert2020_denoising as gilbert2020
from experiments.gilbert2020_cells import RECRAFTED, STEPS, SURVIVES
from experiments.gilbert2020_functions import (
    CIFAR,
    EFFICIENT,
    EPS,
    IMAGENET,
    RESNET,
    SEPRE,
    TITLES,
    as_bytes,
    as_probabilities,
    attacked,
    build,
    from_probabilities,
    in_front,
    label,
    printed_attacks,
    scored,
)
from experiments.gilbert2020_parts import AE, CODED, LAST, PHASES, tag
from experiments.paper_numbers import of_paper
from experiments.readings import stored
from jaxdefense import Frozen
from jaxdefense.evaluation import store
from jaxdefense.models import count_parameters
from jaxdefense.reporting import Record, read_json
from jaxdefense.training import loop

# One run serves all tests of the script, so they belong to one worker.
end_to_end = pytest.mark.xdist_group("gilbert2020")
X = np.random.default_rng(0).uniform(size=(4, 4, 4, 3)).astype(np.float32)


# ----------------------------------------------------------------------------- the whole script


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    output = str(tmp_path_factory.mktemp("runs"))
    return dataclasses.replace(gilbert2020.PRESETS["smoke"], output=output)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    gilbert2020.main(config)
    return tmp_path_factory.getbasetemp() / config.output / "gilbert2020_denoising-smoke"


@end_to_end
def test_every_printed_number_has_an_answer_or_a_reason(finished, capsys):
    assert coverage.main(["--papers", "1", "--results", str(finished)]) == 0
    # Of the model search, two networks are those of the tables.
    assert "112 numbers: 64 answered, 48 with a reason" in capsys.readouterr().out


@end_to_end
def test_the_page_shows_what_was_measured_and_says_that_data_stand_in(finished):
    page = (finished / "results" / "README.md").read_text()
    assert "ON STAND-IN DATA" in page
    for name in ("curves", "images", "losses", "codes", "codes-images"):
        assert f"{name}.png" in page
        assert (finished / "results" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for title in ("as its public code has it", "at other radii", "has learned nothing",
                  "The model search", "other code lengths", "successful attack costs"):  # fmt: skip
        assert title in page
    for count in ("3,795", "272,474", "862,601"):  # as published
        assert count in page


@end_to_end
def test_answers_tell_the_codes_examples_from_those_made_for_what_is_scored(finished):
    told = json.loads((finished / "results" / "answers.json").read_text())["answers"]
    of = lambda **fields: [
        a["cells"] for a in told
        if all(a["number"][name] == value for name, value in fields.items())
    ]  # fmt: skip
    for table in ("2", "3"):
        (cells,) = of(table=table, defence="AE", phase="finetuned", attack="pgd10")
        wanted = {"as attacked", "corrected", "re-crafted", "white-box", "strongest", "control"}
        assert set(cells) == wanted
        least = min(cells[name]["value"] for name in ("corrected", "re-crafted", "white-box"))
        assert cells["strongest"]["value"] <= least
    rounds = of(table="log", attack="fgsm")
    assert len(rounds) == 9
    assert all("as attacked" in cells for cells in rounds)


@end_to_end
def test_each_pipeline_has_every_phase_and_the_last_is_attacked_anew(finished):
    records, _ = read_json(finished / "results" / "results.json")
    models = {r.model.removesuffix(CODED) for r in records if "training images" not in r.model}
    assert len(models) == 2
    for model in models:
        for suffix in ("", CODED):
            found = {r.defence for r in records if r.model == model + suffix}
            assert {tag(front, phase) for front in ("none", AE) for phase in PHASES} <= found
        own = [r for r in records if r.model == model]
        anew = {r.attack for r in own if r.knowledge == RECRAFTED}
        assert anew == {"fgsm", "pgd-10"}
        assert {r.defence for r in own if r.knowledge == RECRAFTED} == {tag(AE, LAST)}
        steps = [r for r in own if r.metric == STEPS]
        assert len(steps) == 4
        assert all(1 <= r.value <= 10 for r in steps)
    assert all(0 <= r.value < 2 for r in records if r.metric == SURVIVES)


@end_to_end
def test_a_second_run_only_draws(config, finished, monkeypatch):
    before = (finished / "results" / "results.json").read_text()
    spent = []
    make_step = loop.make_step

    def counting(*args, **kwargs):
        step = make_step(*args, **kwargs)
        return lambda *a: spent.append("step") or step(*a)

    def watched(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: spent.append(name) or function(*a, **k))

    monkeypatch.setattr(loop, "make_step", counting)
    watched(store, "sweep")
    for module in (measuring, gilbert2020_parts, gilbert2020_cells):
        watched(module, "craft")
    gilbert2020.main(config)
    assert not spent
    assert (finished / "results" / "results.json").read_text() == before


# --------------------------------------------------------------------------- faults of the code

LOGITS = jnp.array([[3.0, 1.0, -2.0], [0.2, 0.7, 0.4]])
Y = jnp.array([0, 2])


def test_the_loss_of_attacks_is_the_cross_entropy_until_it_saturates():
    expected = optax.softmax_cross_entropy_with_integer_labels(LOGITS, Y)
    np.testing.assert_allclose(from_probabilities(LOGITS, Y), expected, rtol=1e-5)
    gradient = jax.grad(lambda z: from_probabilities(z, Y).sum())
    moved = jax.nn.softmax(LOGITS) - jax.nn.one_hot(Y, 3)
    np.testing.assert_allclose(gradient(LOGITS), moved, atol=1e-5)
    sure = jnp.array([[20.0, 0.0, 0.0], [0.0, 0.0, 20.0]])
    assert (gradient(sure) == 0).all()


def test_what_is_sure_is_not_attacked_as_coded(linear):
    """sign(0) = 0: the image stays where it is; without the fault it moves by the radius."""
    weights, (x, y) = 1e4 * linear.weights(), linear.data(low=0.3, high=0.7)
    classifier = linear.classifier(weights)
    for coded, moves in ((True, 0.0), (False, EPS)):
        fgsm, _ = printed_attacks(coded)
        found = np.asarray(fgsm(jax.random.key(0), classifier, x, y, EPS))
        np.testing.assert_allclose(np.abs(found - x).max((1, 2, 3)), moves, atol=1e-6)


def test_the_loss_of_the_fine_tuning_takes_logits_for_probabilities():
    clipped = np.clip(LOGITS, 1e-7, 1 - 1e-7)
    expected = -np.log(clipped[[0, 1], Y] / clipped.sum(1))
    np.testing.assert_allclose(as_probabilities(LOGITS, Y), expected, rtol=1e-5)
    gradient = jax.grad(lambda z: as_probabilities(z, Y).sum())(LOGITS)
    assert (gradient[0] == 0).all()  # beyond 1, at 1, below 0
    assert (gradient[1] != 0).all()


def test_pgd_takes_ten_steps_of_a_hundredth(linear):
    classifier, (x, y) = linear.classifier(linear.weights()), linear.data(low=0.4, high=0.6)
    _, pgd = printed_attacks(False)
    assert pgd.cost.gradients == 10
    (stage,) = pgd.stages
    assert f"step_size={0.01 / EPS}" in stage.search.settings
    found = np.asarray(pgd(jax.random.key(0), classifier, x, y, EPS))
    np.testing.assert_allclose(np.abs(found - x).max((1, 2, 3)), EPS, atol=1e-6)


# ----------------------------------------------------------------------------------- functions


class Sum:
    """The sum of each channel, as a linen module would be called."""

    def apply(self, variables, x):
        return variables + x.sum((1, 2))


def test_networks_are_scored_with_the_statistics_they_are_trained_with_unless_as_coded():
    net = Frozen(Sum(), np.zeros((), np.float32))
    trained = net(in_front(CIFAR)(X))
    np.testing.assert_allclose(scored(net, False)(X), trained, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attacked(net, False)(X), trained, rtol=1e-4, atol=1e-4)
    mean, std = (np.array(each, np.float32).reshape(1, 1, 1, 3) for each in IMAGENET)
    expected = ((X - mean) / std).sum((1, 2))
    np.testing.assert_allclose(scored(net, True)(X), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(attacked(net, True)(X), X.sum((1, 2)), rtol=1e-5)
    purifier = jax.tree_util.Partial(jnp.square)
    np.testing.assert_allclose(
        scored(net, False, purifier)(X), net(in_front(CIFAR, purifier)(X)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("name", "count"), [(RESNET, 272_474), (SEPRE, 862_601)])
def test_networks_are_the_published_ones_in_the_preset_of_the_paper(name, count):
    config = gilbert2020.PRESETS["paper"]
    model = build(config, name, 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert count_parameters(shapes) == count
    assert label(config, name) == TITLES[name]


def test_smaller_networks_say_so():
    config = gilbert2020.PRESETS["small"]
    assert label(config, SEPRE) == "SEPreResNet-56 (here 14 layers, width 8)"
    assert build(config, SEPRE, 10).blocks == (2, 2, 2)
    assert build(config, "pyramidnet110_a48", 10).depth == 26
    thin = build(config, EFFICIENT, 10)
    assert [stage.features for stage in thin.stages] == [8, 12, 20, 40, 56, 96, 160]
    assert "width 8" in label(config, EFFICIENT)


def test_every_network_of_the_model_search_can_be_trained():
    searched = {number.model for number in of_paper("1") if number.table == "model-search"}
    assert searched <= set(TITLES)
    for preset in ("small", "paper"):
        for name in TITLES:
            build(gilbert2020.PRESETS[preset], name, 10)


def test_images_kept_in_bytes_stay_in_the_ball(linear):
    classifier, (x, y) = linear.classifier(linear.weights()), linear.data()
    x = as_bytes(x).astype(np.float32) / 255
    for attack in printed_attacks(False):
        found = as_bytes(attack(jax.random.key(0), classifier, x, y, EPS)).astype(int)
        assert np.abs(found - np.round(255 * x)).max() <= 8


def test_what_is_stored_is_made_once(tmp_path):
    made, path = [], tmp_path / "images" / "some.npy"
    make = lambda: made.append(1) or np.arange(6, dtype=np.uint8)
    for _ in range(2):
        np.testing.assert_array_equal(stored(path, make), np.arange(6))
    assert len(made) == 1
    path.write_bytes(path.read_bytes()[:-3])  # a file cut short is made anew
    np.testing.assert_array_equal(stored(path, make), np.arange(6))
    assert len(made) == 2


@pytest.mark.parametrize(("left", "told"), [(0.5, []), (0.25, [30.0])])
def test_effort_is_a_number_only_where_something_falls(monkeypatch, left, told):
    """Four of eight are right; of those that stand all of the 100 gradients were spent."""
    about = {"experiment": "", "dataset": "", "model": "", "defence": AE, "attack": "bim-100"}
    about |= {"knowledge": "white-box", "norm": "linf", "n": 8, "seed": 0, "provenance": ""}
    about |= {"low": 0.0, "high": 1.0, "forwards": 0, "synthetic": False}
    clean = Record(**about, eps=0.0, value=0.5, gradients=0)
    fell = round(8 * (0.5 - left))
    spent = 100 * round(8 * left) + 30 * fell
    last = Record(**about, eps=EPS, value=left, gradients=spent)
    monkeypatch.setattr(gilbert2020_cells, "curve", lambda *_, **__: [clean, last])
    cost = SimpleNamespace(gradients=100)
    team = SimpleNamespace(patient=SimpleNamespace(cost=cost))
    line = SimpleNamespace(model="", stages=lambda *_: {AE: None})
    found = list(gilbert2020_cells._effort(team, None, line))
    assert [r.value for r in found if r.metric == STEPS] == told
    assert found[0] is last
