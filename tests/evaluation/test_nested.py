"""The nested sweep against closed forms, against the grid sweep, and in what it costs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.attacks import Attack, Cost, Search, Stage
from jaxdefense.attacks.search import begin, keep
from jaxdefense.losses import cross_entropy
from tests.attacks import contract
from tests.attacks.small import small
from tests.conftest import EPS, Linear, reference

KEY = jax.random.key(0)


def linear(ball, count=9):
    """A binary linear classifier, images away from the box, their distances in float64."""
    weights = np.asarray(Linear.weights(seed=3, classes=2), np.float64)
    x, y = Linear.data(seed=3, count=count, low=0.35, high=0.65, classes=2)
    scores = (np.asarray(x, np.float64).reshape(count, -1) - 0.5) @ weights
    dual = {"linf": 1, "l2": 2, "l1": np.inf}[ball.name]
    distance = np.abs(scores[:, 0] - scores[:, 1])
    distance /= np.linalg.norm(weights[:, 0] - weights[:, 1], ord=dual)
    return Linear.classifier(jnp.asarray(weights, jnp.float32)), x, y, distance


@pytest.mark.parametrize("radii", [1, 4, 64])
@pytest.mark.parametrize(
    "attack", [attacks.pgd(jd.linf, 40), attacks.pgd(jd.l2, 40), attacks.fgsm(jd.l2)], ids=repr
)
def test_smallest_radii_are_the_distances_of_a_linear_classifier(attack, radii):
    classifier, x, y, distance = linear(attack.ball)
    top = 1.05 * np.sort(distance)[-2]
    grid = np.linspace(top / radii, top, radii).astype(np.float32)
    result = jd.sweep(attack, classifier, x, y, grid, KEY)
    expected = [min(grid[grid > d], default=np.inf) for d in distance]
    np.testing.assert_array_equal(result.smallest_radius, expected)
    np.testing.assert_allclose(
        result.robust_accuracy, (grid[:, None] < np.asarray(expected)).mean(1)
    )
    assert (result.distance >= distance * (1 - 1e-5)).all()
    assert result.violations == 0


@pytest.mark.parametrize("method", ["nested", "grid"])
@pytest.mark.parametrize("ball", [jd.linf, jd.l2])
def test_an_infinite_radius_is_attacked(method, ball):
    """A linear classifier withstands nothing there; a pixel without a gradient is no NaN."""
    classifier, x, y, distance = linear(ball)
    masked = lambda x: classifier(x.at[:, 0, 0].set(0.5))
    y = masked(x).argmax(-1)
    for grid in ([np.inf], [0.5 * float(distance.min()), np.inf]):
        found = jd.sweep(attacks.pgd(ball, 40), masked, x, y, grid, KEY, method=method)
        assert found.robust_accuracy[-1] == 0
        assert (found.broken_by[:, -1] != "").all()
        assert found.violations == 0
    assert found.robust_accuracy[0] == 1
    assert np.isfinite(found.distance).all()
    closest = jd.sweep(attacks.fmn(ball, 60), masked, x, y, [np.inf], KEY, method=method)
    assert np.isfinite(closest.distance).all()


@pytest.mark.parametrize("method", ["nested", "grid"])
@pytest.mark.parametrize("attack", [attacks.pgd(steps=6), attacks.fmn(steps=6)], ids=repr)
def test_what_cannot_be_broken_withstands_an_infinite_radius(attack, method):
    """An attack that finds nothing there must not be counted as if it had."""
    constant = lambda x: jnp.tile(jnp.array([[3.0, 0.0]]), (len(x), 1))
    x, y = jnp.full((3, 4, 4, 1), 0.4), jnp.zeros(3, int)
    found = jd.sweep(attack, constant, x, y, [0.1, np.inf], KEY, method=method)
    np.testing.assert_array_equal(found.robust_accuracy, 1)
    np.testing.assert_array_equal(found.raw_accuracy, 1)
    assert (found.broken_by == "").all()
    if not attack.minimal:
        again = jd.sweep(attack, constant, x, y, [0.1, np.inf], KEY, method=method, after=found)
        np.testing.assert_array_equal(again.robust_accuracy, 1)


def test_what_breaks_a_random_function_at_an_infinite_radius_is_credited():
    shaken = lambda key, x: x + 0.05 * jax.random.normal(key, x.shape)
    noisy = jd.Randomized(lambda keys, x: brightness(jax.vmap(shaken)(keys, x)))
    x, y = jnp.full((4, 4, 4, 1), 0.2), jnp.zeros(4, int)
    averaged = jd.eot(noisy, 2)
    found = jd.sweep(attacks.pgd(steps=6), noisy, x, y, [0.01, np.inf], KEY, averaged)
    assert found.robust_accuracy.tolist() == [1, 0]
    assert (found.broken_by[:, 1] == "pgd-6").all()
    again = jd.sweep(attacks.fgsm(), noisy, x, y, [0.01, np.inf], KEY, averaged, after=found)
    assert again.robust_accuracy[1] == 0


def lost_at_large_radii(limit):
    """Walks with the sign of the true class, but stays where it is at radii from `limit` on."""

    def init(keys, probe, x, goal, eps):
        return begin(x)

    def step(keys, probe, state, x, goal, eps):
        length = jnp.where(eps < limit, eps, 0.0)[:, None, None, None]
        sign = jnp.where(goal.truth == 1, -1.0, 1.0)[:, None, None, None]
        point = jnp.clip(x + sign * length, 0, 1)
        return keep(state._replace(x=point), point, probe.read(keys, point, goal))

    return Attack("lost", (Stage(Search(init, step, settings="lost"), 6, cross_entropy),), jd.linf)


def brightness(x):
    score = 20 * (x.mean((1, 2, 3)) - 0.5)
    return jnp.stack([-score, score], -1)


@pytest.mark.parametrize("radii", [[0.1, 0.3], [0.05, 0.1, 0.3], np.linspace(0.02, 0.6, 30)])
def test_an_attack_that_is_worse_at_large_radii_is_not_believed_there(radii):
    offsets = np.random.default_rng(0).uniform(-0.2, 0.2, 1600)
    x = np.broadcast_to(0.5 + offsets[:, None, None, None], (1600, 4, 4, 1)).astype(np.float32)
    y = (offsets > 0).astype(int)
    run = lambda attack, **options: jd.sweep(attack, brightness, x, y, radii, KEY, **options)
    nested, grid = (run(lost_at_large_radii(0.15), method=m) for m in ("nested", "grid"))
    assert grid.robust_accuracy.min() < nested.robust_accuracy.min() - 0.02
    assert any("loses its way" in said for said in nested.warnings)
    assert any("rises with eps" in said for said in grid.warnings)
    # No image's outcome depends on the others.
    part = jd.sweep(lost_at_large_radii(0.15), brightness, x[:200], y[:200], radii, KEY)
    np.testing.assert_array_equal(part.smallest_radius, nested.smallest_radius[:200])
    sound = run(attacks.bim(steps=6))
    assert sound.warnings == ()


@pytest.mark.parametrize("method", ["nested", "grid"])
@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_no_kind_of_key_lets_the_batch_decide(kind, method):
    """Under vmap these generators give every row numbers that depend on the first row."""
    classifier, x, y, distance = linear(jd.l2)
    noise = attacks.pgd(jd.l2, 1, step_size=0.3)
    grid, key = np.linspace(0.5, 3, 40) * float(np.median(distance)), jax.random.key(1, impl=kind)
    one, other = (
        jd.sweep(noise, classifier, x, y, grid, key, batch_size=rows, method=method).distance
        for rows in (2, 9)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5)
    again = jd.sweep(noise, classifier, x, y, grid, jax.random.key(2, impl=kind), method=method)
    assert (again.distance != other).any()


@functools.cache
def digits(kind):
    net, x, y, _ = reference(kind)
    return net, x[:80], y[:80]


FAMILIES = {
    "pgd": ("pgd", "linf", 10, "standard"),
    "pgd, robust": ("pgd", "linf", 10, "adversarial"),
    "bim": ("bim", "linf", 10, "standard"),
    "fgsm": ("fgsm", "linf", 10, "adversarial"),
    "apgd": ("apgd-ce", "l2", 10, "adversarial"),
    "square": ("square", "linf", 6, "standard"),
    "spsa": ("spsa", "linf", 6, "standard"),
    "restarts": ("pgd-restarts", "l1", 4, "standard"),
    "suite": ("standard", "l2", 4, "standard"),
    "8 bit": ("pgd-8bit", "linf", 6, "adversarial"),
}
TOP = {"linf": 0.25, "l2": 1.6, "l1": 8.0}


def attack_of(name, norm):
    if name == "pgd-8bit":
        return attacks.eight_bit(attacks.pgd(jd.linf, 10))
    return small(name, norm)


@pytest.mark.parametrize("family", FAMILIES)
def test_as_strong_as_the_grid(family):
    name, norm, count, kind = FAMILIES[family]
    net, x, y = digits(kind)
    if family == "8 bit":
        x = (np.round(x * 255) / 255).astype(np.float32)
    if family in ("spsa", "square", "suite"):
        x, y = x[:40], y[:40]
    attack = attack_of(name, norm)
    radii = np.linspace(TOP[norm] / count, TOP[norm], count)
    fast, full = (
        jd.sweep(attack, net, x, y, radii, KEY, method=method) for method in ("nested", "grid")
    )
    # One example is chance: a search in a larger ball may miss what it finds in a smaller one.
    assert (fast.robust_accuracy <= full.robust_accuracy + 1.01 / len(x)).all()
    chance = 0.75 if attack.cost.gradients == 0 else 0.25
    assert fast.robust_accuracy.mean() <= full.robust_accuracy.mean() + chance / len(x)
    assert 0 < full.robust_accuracy[-1] + full.robust_accuracy[0] < 2
    assert fast.clean_accuracy == full.clean_accuracy
    assert fast.violations == 0
    spent = [r.evaluations.gradients + r.evaluations.forwards / 3 for r in (fast, full)]
    assert spent[0] <= 1.1 * spent[1]


def test_many_radii_cost_little_more_than_one():
    net, x, y = digits("adversarial")
    attack = attacks.pgd(jd.linf, 40)
    cost = {}
    for count in (1, 4, 10, 64):
        radii = np.linspace(0.25 / count, 0.25, count)
        result = jd.sweep(attack, net, x, y, radii, KEY)
        cost[count] = result.evaluations.gradients
    assert cost[1] <= 40 * len(x)
    assert cost[10] <= 1.6 * 40 * len(x)
    assert cost[64] <= 2 * cost[4]


def test_a_run_that_fails_is_the_one_that_the_grid_makes():
    """Just below its smallest broken radius, each example stands the attack from scratch."""
    net, x, y = digits("standard")
    attack, radii = attacks.pgd(jd.linf, 20), np.linspace(0.02, 0.2, 10).astype(np.float32)
    result = jd.sweep(attack, net, x, y, radii, KEY)
    below = np.searchsorted(radii, result.smallest_radius) - 1
    keys = jd.example_keys(KEY, len(x))
    tried = (below >= 0) & (result.smallest_radius > 0)
    x_adv = attack(keys, net, x, y, jnp.asarray(radii[np.maximum(below, 0)]))
    assert (np.asarray(net(x_adv)).argmax(-1) == y)[tried].all()
    assert tried.sum() > 20


@pytest.mark.parametrize("batch_size", [7, 64])
def test_slots_change_the_cost_only(batch_size):
    net, x, y = contract.batch(12)
    radii = EPS["linf"] * np.array([0.05, 0.1, 0.2, 0.4, 1.0])
    attack = attacks.strongest(attacks.pgd(jd.linf, 6), attacks.pgd(jd.linf, 10), name="two")
    whole = jd.sweep(attack, net, x, y, radii, KEY)
    part = jd.sweep(attack, net, x, y, radii, KEY, batch_size=batch_size)
    np.testing.assert_array_equal(part.smallest_radius, whole.smallest_radius)
    np.testing.assert_array_equal(part.broken_by, whole.broken_by)
    assert part.evaluations == whole.evaluations
    assert len(set(whole.smallest_radius)) > 2


def test_slots_that_fall_free_are_compacted():
    """Many more rows than slots, and a last one that runs alone."""
    net, x, y = digits("adversarial")
    radii = np.linspace(0.02, 0.2, 10)
    attack = attacks.pgd(jd.linf, 10)
    wide = jd.sweep(attack, net, x, y, radii, KEY, batch_size=64)
    narrow = jd.sweep(attack, net, x, y, radii, KEY, batch_size=32)
    np.testing.assert_array_equal(wide.smallest_radius, narrow.smallest_radius)
    assert wide.evaluations == narrow.evaluations


def test_each_attack_of_a_line_up_is_credited_for_the_radii_it_broke():
    net, x, y = digits("standard")
    line_up = attacks.strongest(
        attacks.pgd(jd.linf, 1, 1.0, random_start=False, name="one step"),
        attacks.pgd(jd.linf, 20),
    )
    radii = np.linspace(0.02, 0.2, 10)
    result = jd.sweep(line_up, net, x, y, radii, KEY)
    after = result.accuracy_after(line_up.labels)
    alone = jd.sweep(line_up_part("one step"), net, x, y, radii, KEY)
    np.testing.assert_allclose(after["one step"], alone.robust_accuracy)
    np.testing.assert_allclose(after["pgd-20"], result.robust_accuracy, atol=1e-9)
    assert (after["pgd-20"] < after["one step"]).any()


def line_up_part(name):
    return attacks.pgd(jd.linf, 1, 1.0, random_start=False, name=name)


# ------------------------------------------------------------------------------- faulty attacks


def lying(at):
    """Claims to fool whenever it stands on a radius of at most `at`, and then shows the image."""

    def step(keys, probe, state, x, goal, eps):
        sign = jnp.where(goal.truth == 1, -1.0, 1.0)[:, None, None, None]
        reach = eps[:, None, None, None]
        honest = reach > at
        point = jnp.where(honest, x + sign * reach, x + 1e-3 * sign)
        reading = probe.read(keys, point, goal)
        fooled = jnp.where(honest[:, 0, 0, 0], reading.fooled, True)
        return state._replace(x=point, best=point, ahead=reading.ahead, fooled=fooled)

    search = Search(lambda keys, probe, x, goal, eps: begin(x), step, step_cost=Cost(0, 1))
    return Attack("lying", (Stage(search, 6, cross_entropy),), jd.linf)


def test_false_claims_on_the_way_down_do_not_hide_what_was_found():
    brightness = lambda x: jnp.stack([0.5 - x.mean((1, 2, 3)), x.mean((1, 2, 3)) - 0.5], -1)
    offsets = np.array([0.12, -0.12], np.float32)
    x = np.broadcast_to(0.5 + offsets[:, None, None, None], (2, 4, 4, 1))
    y = (offsets > 0).astype(np.int32)
    radii = np.array([0.05, 0.1, 0.2, 0.3], np.float32)
    fast, full = (
        jd.sweep(lying(0.15), brightness, x, y, radii, KEY, method=method)
        for method in ("nested", "grid")
    )
    np.testing.assert_allclose(full.smallest_radius, 0.2)
    np.testing.assert_array_equal(fast.smallest_radius, full.smallest_radius)


# ------------------------------------------------------------ where success is not what is scored


def test_a_surrogate_gives_the_curve_of_the_grid():
    net, x, y = digits("standard")
    other, *_ = digits("adversarial")
    radii = np.linspace(0.05, 0.3, 6)
    fast, full = (
        jd.sweep(attacks.pgd(jd.linf, 10), net, x, y, radii, KEY, other, method=method)
        for method in ("nested", "grid")
    )
    np.testing.assert_array_equal(fast.robust_accuracy, full.robust_accuracy)
    np.testing.assert_array_equal(fast.smallest_radius, full.smallest_radius)
    np.testing.assert_array_equal(fast.raw_accuracy, fast.robust_accuracy)
    assert fast.warnings == ()  # examples that have left are not a curve that rises
    assert fast.evaluations.gradients < full.evaluations.gradients


def test_a_random_defence_gives_the_curve_of_the_grid():
    net, x, y = digits("standard")
    noise = lambda key, x: x + 0.05 * jax.random.normal(key, x.shape)
    defence = jd.Purified(jd.Randomized(lambda keys, x: jax.vmap(noise)(keys, x)), net)
    radii = np.linspace(0.03, 0.3, 6)
    fast, full = (
        jd.sweep(attacks.pgd(jd.linf, 5), defence, x, y, radii, KEY, method=method)
        for method in ("nested", "grid")
    )
    np.testing.assert_array_equal(fast.robust_accuracy, full.robust_accuracy)
    assert fast.evaluations.gradients < full.evaluations.gradients


# ------------------------------------------------------------------------------------------ traces


@pytest.mark.usefixtures("lasting_programs")
def test_neither_radii_nor_parameters_nor_examples_retrace(monkeypatch):
    # So many at one radius that they do not go at once, whatever the cores.
    monkeypatch.setattr("jaxdefense.evaluation.threads.count", lambda rows: 2)
    traces = []

    def counted(weights, x):
        traces.append(1)
        return (x.reshape(x.shape[0], -1) - 0.5) @ weights

    x, y = Linear.data(seed=4, count=40)
    attack = attacks.pgd(jd.linf, 4)

    def run(seed, radii, count=40):
        deployed = jax.tree_util.Partial(counted, Linear.weights(seed))
        jd.sweep(attack, deployed, x[:count], y[:count], radii, KEY, batch_size=32)

    run(4, np.linspace(0.01, 0.3, 20))
    run(4, [0.01, 0.1])
    once = len(traces)
    run(5, [0.2, 0.3])
    run(6, np.linspace(0.02, 0.2, 15))
    run(4, [0.05], 36)
    assert len(traces) == once
