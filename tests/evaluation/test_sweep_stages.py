"""Line-ups and minimum-norm attacks in a sweep: what each stage sees, costs, is credited with."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.attacks import Cost, Search
from jaxdefense.attacks.minimum import closest, draw_in, minimum_norm
from jaxdefense.attacks.search import begin
from jaxdefense.geometry import expand
from tests.attacks import contract
from tests.conftest import Linear

KEY = jax.random.key(0)
GRID = np.array([0.0, 0.01, 0.03, 0.1, 0.3, 0.5], np.float32)


def overshooting(factor=1.5, halvings=0):
    """To the l2 boundary of a binary linear classifier and `factor` times as far."""

    def init(keys, probe, x, goal, eps):
        assert eps.shape == x.shape[:1]
        return begin(x)

    def step(keys, probe, state, x, goal, eps):
        _, rises, gradients = probe.differences(keys, x, goal, 1)
        move = jd.l2.reach(gradients[:, 0], x, factor * jnp.maximum(-rises[:, 0], 0.0))
        point = x + move
        return closest(jd.l2, state, x, point, probe.read(keys, point, goal))

    def finish(keys, probe, state, x, goal, eps):
        return draw_in(keys, probe, state, x, goal, jd.l2, halvings)

    search = Search(
        init, step, finish, step_cost=Cost(1, 1), finish_cost=Cost(0, halvings), settings="over"
    )
    return minimum_norm("overshooting", search, 1, jd.l2)


def linear(count=6):
    weights = Linear.weights(classes=2)
    x, y = Linear.data(low=0.4, high=0.6, count=count, classes=2)
    classifier = Linear.classifier(weights)
    distance = -jd.losses.margin(classifier(x), y) / jnp.linalg.norm(weights[:, 1] - weights[:, 0])
    return classifier, x, y, np.asarray(distance)


def test_a_minimum_norm_attack_is_run_once_for_all_radii():
    classifier, x, y, distance = linear()
    attack = overshooting()
    assert attack.cost == Cost(1, 2)
    few, many = (jd.sweep(attack, classifier, x, y, grid, KEY) for grid in (GRID[:2], GRID))
    assert few.evaluations == many.evaluations == jd.evaluation.Evaluations(6, 6 * 4)
    np.testing.assert_allclose(many.distance, 1.5 * distance, rtol=1e-4)
    np.testing.assert_allclose(few.distance, many.distance)  # whatever the grid is
    expected = (GRID[:, None] < 1.5 * distance).mean(1)
    np.testing.assert_allclose(many.robust_accuracy, expected)
    np.testing.assert_array_equal(many.raw_accuracy, many.robust_accuracy)
    assert 0 < expected[-1] < 1 or expected[-2] < 1


def test_drawing_in_bisects_to_the_boundary():
    classifier, x, y, distance = linear()
    result = jd.sweep(overshooting(1.5, halvings=8), classifier, x, y, GRID, KEY)
    np.testing.assert_allclose(result.distance, distance, rtol=1.5 / 2**8 + 1e-4)
    assert (result.distance >= distance * (1 - 1e-5)).all()


def test_an_example_wrong_without_attack_is_at_distance_zero():
    classifier, x, y, _ = linear()
    result = jd.sweep(overshooting(), classifier, x, y.at[0].set(1 - y[0]), GRID, KEY)
    assert result.distance[0] == 0
    assert result.smallest_radius[0] == 0
    found = overshooting()(KEY, classifier, x, y.at[0].set(1 - y[0]), jnp.inf)
    np.testing.assert_allclose(found[0], x[0], atol=1e-6)


def test_a_minimum_norm_attack_called_with_a_radius_keeps_to_it():
    classifier, x, y, distance = linear()
    eps = 1.5 * distance * np.array([0.5, 0.9, 1.1, 2.0, 1.1, 0.9], np.float32)
    x_adv = overshooting()(KEY, classifier, x, y, eps)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1) != y, eps > distance)
    assert (jd.l2.norm(x_adv - x) <= eps * 1.0001).all()
    contract.unchanged_at_zero(overshooting())
    contract.rows_are_independent(overshooting())


def test_at_each_radius_it_can_be_run_too():
    classifier, x, y, distance = linear()
    each = attacks.at_radius(overshooting(), jd.l2)
    assert not each.minimal
    result = jd.sweep(each, classifier, x, y, GRID, KEY, method="grid")
    # Projected onto the sphere it fools wherever the sphere is beyond the boundary.
    np.testing.assert_allclose(result.robust_accuracy, (GRID[:, None] < distance).mean(1))
    assert result.evaluations.gradients == 6 * 5


def test_of_several_minimum_norm_attacks_the_closest_counts():
    classifier, x, y, distance = linear()
    joined = attacks.strongest(overshooting(1.8), overshooting(1.2), overshooting(1.5))
    assert joined.minimal
    result = jd.sweep(joined, classifier, x, y, GRID, KEY)
    np.testing.assert_allclose(result.distance, 1.2 * distance, rtol=1e-4)
    assert set(result.broken_by.ravel()) == {"", joined.name}  # they ran together
    mixed = attacks.strongest(attacks.fgsm(jd.l2), overshooting())
    assert not mixed.minimal


# --------------------------------------------------------------------------------- line-ups


def weak(name, share):
    """FGSM with a share of the radius."""
    return attacks.pgd(jd.linf, 1, share, random_start=False, name=name)


def test_each_stage_attacks_what_the_earlier_ones_left():
    classifier, x, y, _ = linear(8)
    line_up = attacks.strongest(weak("half", 0.5), weak("most", 0.9), weak("all", 1.0))
    grid = np.linspace(0.001, 0.12, 9).astype(np.float32)
    result = jd.sweep(line_up, classifier, x, y, grid, KEY, method="grid")
    alone = {
        name: jd.sweep(weak(name, share), classifier, x, y, grid, KEY, method="grid").raw_accuracy
        for name, share in (("half", 0.5), ("most", 0.9), ("all", 1.0))
    }
    np.testing.assert_allclose(result.raw_accuracy, alone["all"])
    after = result.accuracy_after(line_up.labels)
    for name, accuracy in alone.items():
        np.testing.assert_allclose(after[name], accuracy, atol=1e-9)
    # One gradient for each pair that stands before each stage.
    standing = [1.0, alone["half"], alone["most"]]
    expected = sum(np.broadcast_to(s, grid.shape).sum() * 8 for s in standing)
    assert result.evaluations.gradients == round(expected)


def test_dropping_rows_between_stages_changes_nothing_but_the_cost():
    net, x, y = contract.batch(8)
    line_up = attacks.strongest(
        attacks.restarts(attacks.pgd(jd.linf, 2), 2), attacks.pgd(jd.linf, 5), name="line-up"
    )
    grid = np.array([0.004, 0.01, 0.03], np.float32)
    swept = jd.sweep(line_up, net, x, y, grid, KEY)
    keys = jd.example_keys(KEY, len(x))
    for radius, column in zip(grid, range(3), strict=True):
        found = net(line_up(keys, net, x, y, radius)).argmax(-1) != y
        np.testing.assert_array_equal(swept.broken_by[:, column] != "", found)
    assert 0 < swept.raw_accuracy.mean() < 1


def test_a_nested_find_is_credited_to_its_attack():
    """A point found at a small radius counts at a larger one where the attack itself failed."""

    def only_small(share):
        attack = weak("small", share)
        stage = attack.stages[0]
        search = stage.search
        fails = lambda keys, probe, state, x, goal, eps: search.finish(
            keys, probe, state._replace(x=jnp.where(expand(eps) > 0.1, x, state.x)), x, goal, eps
        )
        return attacks.Attack(
            "small", (stage._replace(search=search._replace(finish=fails)),), jd.linf
        )

    classifier, x, y, _ = linear()
    result = jd.sweep(only_small(1.0), classifier, x, y, [0.1, 0.3], KEY, method="grid")
    assert (result.broken_by[:, 0] == result.broken_by[:, 1]).all()
    assert (result.broken_by[:, 1] == "small").any()
    assert result.raw_accuracy[1] == 1


def test_each_attack_on_a_random_defence_is_scored_and_credited_by_itself():
    noisy = jd.Randomized(
        lambda keys, x: Linear.classifier(Linear.weights(classes=2))(
            x + 0.01 * jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(keys)
        )
    )
    _, x, y, distance = linear(12)
    line_up = attacks.strongest(weak("half", 0.5), weak("all", 1.0))
    eps = [1.2 * float(np.median(distance)) / np.sqrt(x[0].size)]
    result = jd.sweep(line_up, noisy, x, y, eps, KEY)
    alone = jd.sweep(weak("half", 0.5), noisy, x, y, eps, KEY)
    assert set(result.broken_by.ravel()) <= {"", "half", "all"}
    np.testing.assert_array_equal(result.broken_by == "half", alone.broken_by == "half")
    assert (result.broken_by == "all").any()
    assert result.accuracy_after(line_up.labels)["half"] == alone.robust_accuracy


@pytest.mark.parametrize("grid", [[0.0], [0.0, 0.0]])
def test_radius_zero_alone_needs_no_run(grid):
    classifier, x, y, _ = linear()
    result = jd.sweep(overshooting(), classifier, x, y, grid, KEY)
    assert result.evaluations.gradients == 0
    assert (result.robust_accuracy == 1).all()


@pytest.mark.parametrize(("classes", "said"), [(2, "margin takes its place"), (3, None), (4, None)])
def test_dlr_with_two_classes_is_the_margin_and_the_sweep_says_so(classes, said):
    x, y = Linear.data(classes=classes)
    classifier = Linear.classifier(Linear.weights(classes=classes))
    attack = attacks.pgd(jd.linf, 3, loss=jd.losses.dlr)
    warnings = jd.sweep(attack, classifier, x, y, [0.3], KEY).warnings
    assert [said in w for w in warnings] == ([True] if said else [])


# ------------------------------------------------------- where another function is what is scored

LAW = 0.03
WEIGHTS = np.asarray(Linear.weights(classes=2))
COARSE = {"pgd": attacks.pgd(steps=3), "fgsm": attacks.fgsm(), "l2": attacks.pgd(jd.l2, 3)}


def only_grey_fools(x):
    """Right everywhere but on images of one grey level."""
    flat = jnp.ptp(x, axis=(1, 2, 3)) < 1e-3
    score = jnp.where(flat, -1.0, 1.0)
    return jnp.stack([score, -score], -1)


@pytest.mark.parametrize("method", ["nested", "grid"])
def test_every_attack_of_a_line_up_is_scored_on_what_is_deployed(method):
    """The surrogate likes the first attack's image better; the second's is what fools."""
    bright = lambda x: jnp.stack([-(s := 20 * (x.mean((1, 2, 3)) - 0.6)), s], -1)
    x = jnp.asarray(np.random.default_rng(0).uniform(0.0, 0.3, (5, 4, 4, 1)).astype(np.float32))
    y, radii = jnp.zeros(5, int), [0.2, 0.6]
    run = lambda attack: jd.sweep(attack, only_grey_fools, x, y, radii, KEY, bright, method=method)
    fgsm, grey = attacks.fgsm(), attacks.grey(level=0.5)
    assert run(grey).robust_accuracy[-1] == 0
    assert run(fgsm).robust_accuracy[-1] == 1
    both = run(attacks.strongest(fgsm, grey))
    assert both.robust_accuracy[-1] == 0
    assert set(both.broken_by[:, -1]) == {"grey"}
    assert both.accuracy_after(["fgsm", "grey"])["fgsm"][-1] == 1


@pytest.mark.parametrize("name", COARSE)
@pytest.mark.parametrize("seed", range(3))
def test_more_restarts_and_attacks_never_help_the_defender_of_a_transfer(name, seed):
    net, x, y = contract.batch(count=24, seed=seed)
    other, *_ = contract.batch(seed=seed + 10)
    attack, key = COARSE[name], jax.random.key(seed)
    eps = LAW * (8 if name == "l2" else 2)
    broken = lambda attack: np.isfinite(
        jd.sweep(attack, net, x, y, [eps], key, other, method="grid").smallest_radius
    )
    alone = broken(attack)
    again = broken(attacks.restarts(attack, 4))
    assert (again >= alone).all()
    longer = attacks.mifgsm(attack.ball, 5)
    assert (broken(attacks.strongest(longer, attack)) >= alone | broken(longer)).all()


def test_some_restart_is_what_transfers():
    """So that the law above is not one of zeros."""
    net, x, y = contract.batch(count=24)
    other, *_ = contract.batch(seed=10)
    run = lambda attack: jd.sweep(attack, net, x, y, [0.2], KEY, other, method="grid")
    one, many = run(attacks.pgd(steps=3)), run(attacks.restarts(attacks.pgd(steps=3), 8))
    assert many.robust_accuracy[0] < one.robust_accuracy[0] < 1
    # One forward pass more for each repeat, and one for the clean images and the last answer.
    repeats = many.evaluations.forwards - len(x)
    assert repeats % (len(x) * one.clean_accuracy) == 0


@pytest.mark.parametrize("order", [1, -1])
def test_a_find_that_the_surrogate_does_not_share_is_measured_by_its_norm(order):
    """A far point that fools what is deployed, not the surrogate, is no gain beside a close one."""
    net, x, y, _ = linear(count=12)
    x, y = x[y == 0], y[y == 0]

    def far(keys, probe, state, x, goal, eps):
        point = jnp.ones_like(x)
        return closest(jd.l2, state, x, point, probe.read(keys, point, goal))

    search = Search(
        lambda keys, probe, x, goal, eps: begin(x), lambda *a: a[2], far, settings="far"
    )
    never = lambda x: jnp.stack([0 * x.mean((1, 2, 3)) + 1.0, x.mean((1, 2, 3)) - 1.01], -1)
    edge = lambda x: jnp.where((x.mean((1, 2, 3)) > 0.999)[:, None], never(x), net(x))
    deployed = lambda x: jnp.where(
        (x.mean((1, 2, 3)) > 0.999)[:, None], jnp.array([[0.0, 3.0]]), net(x)
    )
    pair = (overshooting(1.2), minimum_norm("far", search, 0, jd.l2))[::order]
    found = jd.sweep(attacks.strongest(*pair), deployed, x, y, [6.9], KEY, edge)
    assert found.robust_accuracy[0] == 0
    alone = jd.sweep(overshooting(1.2), deployed, x, y, [6.9], KEY, edge)
    np.testing.assert_allclose(found.distance, alone.distance, rtol=1e-4)


@pytest.mark.parametrize("order", [1, -1])
def test_the_closest_find_that_fools_what_is_deployed_is_kept(order):
    """Of two minimum-norm attacks the one that stops on the surrogate's boundary is too short."""
    net, x, y, distance = linear(count=12)
    x, y = x[y == 0], y[y == 0]
    further = 0.5 * float(distance.min()) * np.linalg.norm(WEIGHTS[:, 1] - WEIGHTS[:, 0])
    deployed = lambda x: net(x) + jnp.array([[further, 0.0]])
    pair = (overshooting(1.05), overshooting(3.0))[::order]
    run = lambda attack: jd.sweep(attack, deployed, x, y, [6.9], KEY, net)
    alone = [run(attack).robust_accuracy[0] for attack in pair]
    both = run(attacks.strongest(*pair))
    assert max(alone) > min(alone) == both.robust_accuracy[0]
