"""Sweeps against closed forms, faulty attacks, random defences; what they cost and how they scale.

Most tests use a classifier of brightness: constant images whose distance to the threshold is known.
"""

import dataclasses
import functools
import importlib

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdefense as jd
from jaxdefense.attacks import Attack, Cost, Search, Stage
from jaxdefense.attacks.attack import launch
from jaxdefense.attacks.probe import _ANSWER
from jaxdefense.attacks.search import begin, keep
from jaxdefense.classifiers import fold
from jaxdefense.losses import cross_entropy
from tests.conftest import Linear

jd_sweep = importlib.import_module("jaxdefense.evaluation.sweep")
KEY = jax.random.key(0)
FGSM = jd.attacks.fgsm()
OFFSETS = np.array([0.03, -0.08, 0.15, -0.22, 0.4], np.float32)
X = np.broadcast_to(0.5 + OFFSETS[:, None, None, None], (5, 4, 4, 1))
Y = (OFFSETS > 0).astype(np.int32)
WRONG = np.array([1, 1, 1, 0, 1])  # the second label is wrong
RADII = np.array([0.0, 0.05, 0.1, 0.2, 0.3], np.float32)


def brightness(x):
    score = 20 * (x.mean((1, 2, 3)) - 0.5)
    return jnp.stack([-score, score], -1)


def moving(move, ball=jd.linf):
    """An attack that jumps to ``move(x, towards the threshold, eps)`` and claims success."""

    def init(keys, probe, x, goal, eps):
        sign = jnp.where(goal.truth == 1, -1.0, 1.0)[:, None, None, None]
        return begin(move(x, sign, eps[:, None, None, None]))

    def claim(keys, probe, state, x, goal, eps):
        return state._replace(ahead=jnp.full_like(eps, jnp.inf), fooled=eps > 0)

    stage = Stage(Search(init, lambda *a: a[2], claim, step_cost=Cost()), 0, cross_entropy)
    return Attack("moving", (stage,), ball)


# ---------------------------------------------------------------------------------- closed forms


def first_above(grid, distance):
    return np.array([min([r for r in grid if r > d], default=np.inf) for d in distance])


@pytest.mark.parametrize("ball", [jd.linf, jd.l2], ids=str)
def test_linear_classifiers_break_at_their_margin(ball):
    weights = np.asarray(Linear.weights(seed=2, classes=2), np.float64)
    x, y = Linear.data(seed=2, count=8, low=0.35, high=0.65, classes=2)
    scores = (np.asarray(x, np.float64).reshape(8, -1) - 0.5) @ weights
    dual = {"linf": 1, "l2": 2}[ball.name]
    distance = np.abs(scores[:, 0] - scores[:, 1]) / np.linalg.norm(
        weights[:, 0] - weights[:, 1], ord=dual
    )
    grid = np.linspace(0, 1.1 * np.sort(distance)[-2], 12).astype(np.float32)
    result = jd.sweep(jd.attacks.fgsm(ball), Linear.classifier(weights), x, y, grid, KEY)
    expected = first_above(grid, distance)
    assert np.isinf(expected).sum() == 1
    np.testing.assert_array_equal(result.smallest_radius, expected)
    np.testing.assert_allclose(
        result.robust_accuracy, (grid[:, None] < expected).mean(1), atol=1e-12
    )
    np.testing.assert_allclose(result.distance, expected, rtol=1e-5)


def test_three_classes_break_at_the_nearest_boundary():
    weights = np.asarray(Linear.weights(seed=1), np.float64)
    x, y = Linear.data(seed=1, count=8, low=0.35, high=0.65)
    scores = (np.asarray(x, np.float64).reshape(8, -1) - 0.5) @ weights
    distance = np.full(8, np.inf)
    for i, label in enumerate(np.asarray(y)):
        for other in {0, 1, 2} - {int(label)}:
            gap = scores[i, label] - scores[i, other]
            size = np.abs(weights[:, label] - weights[:, other]).sum()
            distance[i] = min(distance[i], gap / size)
    grid = np.linspace(0, distance.max(), 10).astype(np.float32)[:-1]
    one_each = [
        jd.attacks.pgd(steps=1, step_size=1.0, random_start=False, loss=toward(k)) for k in range(3)
    ]
    attack = jd.attacks.strongest(*one_each)
    result = jd.sweep(attack, Linear.classifier(weights), x, y, grid, KEY)
    np.testing.assert_array_equal(result.smallest_radius, first_above(grid, distance))


def toward(k):
    """A loss that only ever raises class k over the label."""
    return lambda logits, y: logits[:, k] - jnp.take_along_axis(logits, y[:, None], 1)[:, 0]


# -------------------------------------------------------------------------------------- the curve


def test_the_fields_of_a_result():
    result = jd.sweep(FGSM, brightness, X, WRONG, RADII, jax.random.key(5))
    np.testing.assert_allclose(result.smallest_radius, [0.05, 0, 0.2, 0.3, np.inf], rtol=1e-6)
    np.testing.assert_allclose(result.robust_accuracy, [0.8, 0.6, 0.6, 0.4, 0.2])
    np.testing.assert_array_equal(result.raw_accuracy, result.robust_accuracy)
    np.testing.assert_array_equal(
        result.interval, [jd.evaluation.interval(k, 5) for k in (4, 3, 3, 2, 1)]
    )
    assert result.radii.dtype == np.float32
    np.testing.assert_array_equal(result.radii, RADII)
    assert result.clean_accuracy == 0.8
    assert (result.n, result.attack, result.norm) == (5, "fgsm", "linf")
    assert result.knowledge == "white-box"
    assert result.seed == (0, 5)
    assert result.violations == 0
    assert result.warnings == ()


def test_radii_in_any_order_and_repeated():
    order = [3, 1, 1, 0, 4, 2]
    plain = jd.sweep(FGSM, brightness, X, WRONG, RADII, KEY)
    mixed = jd.sweep(FGSM, brightness, X, WRONG, RADII[order], KEY)
    np.testing.assert_array_equal(mixed.robust_accuracy, plain.robust_accuracy[order])
    np.testing.assert_array_equal(mixed.raw_accuracy, plain.raw_accuracy[order])
    np.testing.assert_array_equal(mixed.interval, plain.interval[order])
    np.testing.assert_array_equal(mixed.smallest_radius, plain.smallest_radius)


def test_radius_zero_alone_is_clean_accuracy_for_free():
    result = jd.sweep(FGSM, brightness, X, WRONG, [0.0], KEY)
    assert result.robust_accuracy.tolist() == [0.8]
    np.testing.assert_array_equal(result.smallest_radius, [np.inf, 0, *[np.inf] * 3])
    assert result.evaluations == jd.evaluation.Evaluations(gradients=0, forwards=5)


def test_everything_misclassified_needs_no_attack():
    result = jd.sweep(FGSM, brightness, X, 1 - Y, RADII, KEY)
    assert not result.robust_accuracy.any()
    assert not result.smallest_radius.any()
    assert result.evaluations.gradients == 0


def test_an_attack_that_fails_at_large_radii_keeps_what_it_broke_at_small_ones():
    lazy = moving(lambda x, sign, eps: jnp.where(eps < 0.15, x + sign * eps, x))
    result = jd.sweep(lazy, brightness, X, Y, RADII, KEY, method="grid")
    np.testing.assert_allclose(result.raw_accuracy, [1, 0.8, 0.6, 1, 1])
    np.testing.assert_allclose(result.robust_accuracy, [1, 0.8, 0.6, 0.6, 0.6])
    assert (np.diff(result.robust_accuracy) <= 0).all()
    assert any("rises with eps (at 0.2, 0.3)" in text for text in result.warnings)


def test_a_perturbation_smaller_than_a_smaller_radius_counts_there_too():
    short = moving(lambda x, sign, eps: jnp.where(eps > 0.25, x + 0.09 * sign, x))
    result = jd.sweep(short, brightness, X, Y, RADII, KEY, method="grid")
    np.testing.assert_allclose(result.raw_accuracy, [1, 1, 1, 1, 0.6])
    np.testing.assert_allclose(result.robust_accuracy, [1, 1, 0.6, 0.6, 0.6])
    np.testing.assert_allclose(result.smallest_radius[:2], 0.1)
    np.testing.assert_allclose(result.distance[:2], 0.09, rtol=1e-5)


def test_noise_levels_are_not_nested():
    backwards = moving(lambda x, sign, eps: jnp.where(eps < 0.15, x + 2 * sign * eps, x), None)
    result = jd.sweep(backwards, brightness, X, Y, RADII, KEY)
    np.testing.assert_allclose(result.robust_accuracy, [1, 0.6, 0.4, 1, 1])
    assert result.norm == "sigma"
    assert result.warnings == ()
    assert result.violations == 0


# --------------------------------------------------------------------------------- faulty attacks


FAULTS = {
    "outside the ball": lambda x, sign, eps: x + 1.5 * sign * eps,
    "nan": lambda x, sign, eps: jnp.where(eps > 0, jnp.nan, x),
    "infinite": lambda x, sign, eps: sign * jnp.inf + x,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_allowed_is_a_failure_of_the_attack_and_told(fault):
    result = jd.sweep(moving(FAULTS[fault]), brightness, X, Y, [0.0, 0.25, 0.3], KEY)
    assert result.violations == 10
    (text,) = [text for text in result.warnings if "outside the ball or the box" in text]
    assert "10 of 10" in text
    assert (result.robust_accuracy == 1).all()
    assert np.isinf(result.smallest_radius).all()
    assert np.isinf(result.distance).all()


@pytest.mark.parametrize(("start", "end"), [(0.95, 1 + 2e-7), (0.05, -1e-9)])
def test_the_box_is_exact(start, end):
    x = np.full((2, 4, 4, 1), start, np.float32)
    leaves = lambda x: ((x < 0) | (x > 1)).any((1, 2, 3)).astype(jnp.float32)
    classifier = lambda x: jnp.stack([2 - leaves(x), 3 * leaves(x)], -1)
    outside = moving(lambda x, sign, eps: jnp.full_like(x, end))
    result = jd.sweep(outside, classifier, x, np.zeros(2, int), [0.1], KEY)
    assert result.violations == 2
    assert result.robust_accuracy.tolist() == [1.0]


def test_the_same_moves_inside_ball_and_box_succeed():
    fair = moving(lambda x, sign, eps: jnp.clip(x + sign * eps, 0, 1))
    result = jd.sweep(fair, brightness, X, Y, [0.0, 0.25, 0.3], KEY)
    assert result.violations == 0
    np.testing.assert_allclose(result.robust_accuracy, [1, 0.2, 0.2])


def test_an_answer_of_nan_is_not_a_correct_answer():
    near_grey = lambda x: (jnp.abs(x - 0.5) < 0.02).any((1, 2, 3))[:, None]
    fragile = lambda x: jnp.where(near_grey(x), jnp.nan, brightness(x))
    to_grey = moving(lambda x, sign, eps: jnp.where(jnp.abs(x - 0.5) <= eps, 0.5, x))
    # On grey both scores are 0 and the first class wins: right for 0.42.
    assert jd.sweep(to_grey, brightness, X, Y, [0.1], KEY).robust_accuracy.tolist() == [0.8]
    assert jd.sweep(to_grey, fragile, X, Y, [0.1], KEY).robust_accuracy.tolist() == [0.6]


def test_targeted_attacks_are_refused_because_y_is_the_truth():
    aimed = jd.attacks.pgd(jd.linf, 3, loss=jd.losses.targeted(jd.losses.cross_entropy))
    with pytest.raises(jd.errors.InputError, match=r"targeted.*true labels"):
        jd.sweep(aimed, brightness, X, Y, [0.1], KEY)


def test_images_the_classifier_cannot_take_are_an_error_of_one_line():
    wrong = lambda x: x.reshape(len(x), -1) @ jnp.zeros((7, 2))
    with pytest.raises(jd.errors.InputError, match=r"cannot be called on images of shape \[5, 4"):
        jd.sweep(FGSM, wrong, X, Y, [0.1], KEY)


def test_randomness_baked_in_by_compiling_is_seen():
    rng = np.random.default_rng(0)
    hidden = lambda x: brightness(x + rng.normal(0, 0.1, x.shape).astype(np.float32))
    with pytest.raises(jd.errors.InputError, match="Randomized"):
        jd.sweep(FGSM, hidden, X, Y, [0.1], KEY)


def _batch_norm(x):
    mean, std = (of(x, (0, 1, 2), keepdims=True) for of in (jnp.mean, jnp.std))
    return brightness((x - mean) / (std + 0.1) + 0.5)


SHARED = {
    "noise of one key": lambda x: brightness(
        x + 0.1 * jax.random.normal(jax.random.PRNGKey(0), x.shape)
    ),
    "noise of one typed key": lambda x: brightness(
        x + 0.1 * jax.random.normal(jax.random.key(0), x.shape)
    ),
    "statistics of the batch": _batch_norm,
    "the neighbour": lambda x: brightness(x) + 0.1 * brightness(jnp.roll(x, 1, 0)),
}


@pytest.mark.parametrize("case", SHARED)
def test_answers_that_depend_on_the_rest_of_the_batch_are_refused(case):
    x = np.random.default_rng(0).random((5, 4, 4, 1)).astype(np.float32)
    for _ in range(2):  # who tries again is told again
        with pytest.raises(jd.errors.InputError, match="beside other images"):
            jd.sweep(FGSM, SHARED[case], x, Y, [0.1], KEY)


def test_one_pattern_of_noise_for_all_images_is_no_randomness():
    for key in (jax.random.PRNGKey(3), jax.random.key(3)):
        fixed = lambda x, key=key: brightness(x + 0.01 * jax.random.normal(key, x.shape[1:])[None])
        assert jd.sweep(FGSM, fixed, X, Y, [0.1], KEY).n == len(X)


def test_too_good_at_half_a_unit_is_suspicious():
    rounded = lambda x: brightness(jnp.round(x))  # hides the gradient, not the grey image
    result = jd.sweep(FGSM, rounded, X, Y, [0.1, 0.49, 0.5], KEY)
    assert (result.robust_accuracy == 1).all()
    (text,) = result.warnings
    assert "at most 60.0 %" in text
    assert jd.sweep(FGSM, rounded, X, Y, [0.1, 0.49], KEY).warnings == ()
    assert jd.sweep(FGSM, brightness, X, Y, [0.1, 0.5], KEY).warnings == ()


# ------------------------------------------------------------------------- what the attacker knows


def test_oblivious_differentiates_the_surrogate_and_is_scored_on_the_deployed():
    # Rounding hides the gradient from white-box FGSM; the bare classifier shows the way.
    deployed = jd.Purified(jnp.round, brightness)
    white = jd.sweep(FGSM, deployed, X, Y, RADII, KEY)
    oblivious = jd.sweep(FGSM, deployed, X, Y, RADII, KEY, brightness)
    assert (white.knowledge, oblivious.knowledge) == ("white-box", "surrogate")
    assert np.isinf(white.smallest_radius).all()
    np.testing.assert_allclose(oblivious.smallest_radius, [0.05, 0.1, 0.2, 0.3, np.inf], rtol=1e-6)
    # What fools the surrogate must not count where the deployed function stands firm.
    shifted = lambda x: brightness(x + jnp.where(x.mean((1, 2, 3), keepdims=True) > 0.4, 0.4, -0.4))
    x, y = X[[0, 2, 4]], Y[[0, 2, 4]]
    firm = jd.sweep(FGSM, shifted, x, y, [0.05], KEY, brightness)
    assert firm.robust_accuracy.tolist() == [1.0]


def test_names_of_what_the_attacker_knows():
    assert jd.sweep(FGSM, brightness, X, Y, [0.1], KEY, brightness).knowledge == "white-box"
    assert jd.sweep(FGSM, brightness, X, Y, [0.1], KEY, lambda x: 2 * brightness(x)).knowledge == (
        "surrogate"
    )
    noise = jd.attacks.gaussian()
    assert jd.sweep(noise, brightness, X, Y, [0.1], KEY).knowledge == "none"
    other = lambda x: 2 * brightness(x)
    assert jd.sweep(noise, brightness, X, Y, [0.1], KEY, other).knowledge == "none"


# -------------------------------------------------------------------------------- random defences


def secret(keys):
    return jax.vmap(lambda key: jax.random.uniform(key, minval=0.2, maxval=0.8))(keys)


def guarded(keys, x):
    """Wrong only where the first pixel tells the secret of the keys."""
    told = jnp.abs(x[:, 0, 0, 0] - secret(keys)) < 1e-4
    right = brightness(x.at[:, 0, 0, 0].set(x[:, 1, 1, 0]))
    return jnp.where(told[:, None], -right, right)


def fitting():
    """An attack that fits the noise perfectly that its own keys bring."""

    def finish(keys, probe, state, x, goal, eps):
        point = x.at[:, 0, 0, 0].set(secret(fold(keys, _ANSWER)))
        return keep(begin(point), point, probe.read(keys, point, goal))

    search = Search(lambda keys, probe, x, goal, eps: begin(x), lambda *a: a[2], finish)
    return Attack("fitting", (Stage(search, 0, cross_entropy),), jd.linf)


def test_fitting_the_noise_of_its_own_keys_gives_an_attack_no_credit():
    deployed = jd.Randomized(guarded)
    keys = jd.example_keys(KEY, 5)
    state, _ = launch(fitting(), keys, deployed, jnp.asarray(X), jnp.asarray(Y), jnp.full(5, 0.9))
    assert state.fooled.all()  # that is what it believes
    result = jd.sweep(fitting(), deployed, X, Y, [0.0, 0.7, 0.9], KEY)
    assert (result.robust_accuracy == 1).all()
    assert result.violations == 0


def test_a_random_defence_is_scored_reproducibly_by_its_key():
    noise = lambda key, x: x + 0.3 * jax.random.normal(key, ())
    deployed = jd.Purified(
        jd.Randomized(lambda keys, x: jnp.clip(jax.vmap(noise)(keys, x), 0, 1)), brightness
    )
    x, y = np.repeat(X, 8, 0), np.repeat(Y, 8)
    one, same, other = (
        jd.sweep(
            jd.attacks.bim(steps=2),
            deployed,
            x,
            y,
            RADII,
            jax.random.key(seed),
            method="grid",
            **options,
        )
        for seed, options in ((0, {}), (0, {"batch_size": 16}), (1, {}))
    )
    np.testing.assert_array_equal(one.smallest_radius, same.smallest_radius)
    assert (one.smallest_radius != other.smallest_radius).any()
    assert 0 < one.clean_accuracy < 1
    assert one.knowledge == "white-box"
    # No early exit: what fooled one draw need not fool the next.
    assert one.evaluations.gradients == 2 * 4 * round(40 * one.clean_accuracy)


# ------------------------------------------------------------------------- batches, order, and cost


WEIGHTS = Linear.weights(seed=4)
IMAGES, LABELS = Linear.data(seed=4, count=7)
PGD = jd.attacks.pgd(steps=4)
GRID = [0.0, 0.004, 0.012, 0.03, 0.1]


@functools.cache
def whole():
    return jd.sweep(PGD, Linear.classifier(WEIGHTS), IMAGES, LABELS, GRID, KEY, method="grid")


@pytest.mark.parametrize("method", jd_sweep.METHODS)
def test_a_batch_that_does_not_fit_is_halved_unless_it_was_asked_for(method, monkeypatch):
    x, y = Linear.data(count=12)
    net = Linear.classifier(Linear.weights())
    run = functools.partial(
        jd.sweep, jd.attacks.pgd(steps=3), net, x, y, [0.1, 0.2], KEY, method=method
    )
    whole, tried = run(), []

    def scarce(function, place):
        def call(*args, **kwargs):
            tried.append(args[place])
            if args[place] > 4:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(jd_sweep, "nested", scarce(jd_sweep.nested, 8))
    monkeypatch.setattr(jd_sweep, "measure", scarce(jd_sweep.measure, 8))
    small = run()
    assert tried[0] > tried[1] > 4 >= tried[-1] > 1
    np.testing.assert_array_equal(small.smallest_radius, whole.smallest_radius)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        run(batch_size=8)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_batch_size_changes_nothing(batch_size):
    result = jd.sweep(
        PGD,
        Linear.classifier(WEIGHTS),
        IMAGES,
        LABELS,
        GRID,
        KEY,
        batch_size=batch_size,
        method="grid",
    )
    np.testing.assert_array_equal(result.smallest_radius, whole().smallest_radius)
    np.testing.assert_array_equal(result.raw_accuracy, whole().raw_accuracy)
    np.testing.assert_allclose(result.distance, whole().distance, atol=1e-6)
    assert result.evaluations == whole().evaluations  # padding is not counted
    assert np.isfinite(whole().smallest_radius).sum() > 0


def test_the_first_examples_do_not_depend_on_the_rest():
    part = jd.sweep(
        PGD, Linear.classifier(WEIGHTS), IMAGES[:4], LABELS[:4], GRID, KEY, method="grid"
    )
    np.testing.assert_array_equal(part.smallest_radius, whole().smallest_radius[:4])


def test_the_order_matters_through_the_keys_only():
    """Example i uses ``fold_in(key, i)``: its randomness belongs to the place, not to the image."""
    order = np.array([4, 0, 6, 2, 1, 3, 5])
    classifier = Linear.classifier(WEIGHTS)
    straight = functools.partial(jd.sweep, jd.attacks.bim(steps=3), classifier)
    one = straight(IMAGES, LABELS, GRID, KEY)
    other = straight(IMAGES[order], LABELS[order], GRID, KEY)
    np.testing.assert_array_equal(other.smallest_radius, one.smallest_radius[order])
    noise = moving_by_key()
    one = jd.sweep(noise, classifier, IMAGES, LABELS, GRID, KEY)
    other = jd.sweep(noise, classifier, IMAGES[order], LABELS[order], GRID, KEY)
    assert (other.smallest_radius != one.smallest_radius[order]).any()


def moving_by_key():
    def init(keys, probe, x, goal, eps):
        return begin(jd.linf.project(x, x + 30 * jd.linf.sample(keys, x, eps), eps))

    stage = Stage(Search(init, lambda *a: a[2], step_cost=Cost()), 0, cross_entropy)
    return Attack("moving by key", (stage,), jd.linf)


def test_without_early_exit_the_cost_is_the_formula():
    surrogate = Linear.classifier(WEIGHTS)
    labels = LABELS.at[0].set((LABELS[0] + 1) % 3)  # misclassified: never attacked
    attack = jd.attacks.restarts(PGD, 2)
    result = jd.sweep(
        attack,
        Linear.classifier(WEIGHTS),
        IMAGES,
        labels,
        GRID,
        KEY,
        surrogate,
        batch_size=10,
        method="grid",
    )
    rows = 6 * 4
    assert result.knowledge == "surrogate"
    assert result.evaluations.gradients == rows * attack.cost.gradients == rows * 8
    # Each repeat's image is scored, and the best once more.
    assert result.evaluations.forwards == 7 + rows * (attack.cost.forwards + 2 + 1)


def test_early_exit_costs_less_and_breaks_the_same():
    equal = Linear.classifier(WEIGHTS)  # another object, so it counts as a surrogate
    full = jd.sweep(
        PGD, Linear.classifier(WEIGHTS), IMAGES, LABELS, GRID, KEY, equal, method="grid"
    )
    assert full.knowledge == "surrogate"
    assert whole().knowledge == "white-box"
    np.testing.assert_array_equal(whole().raw_accuracy, full.raw_accuracy)
    np.testing.assert_array_equal(whole().robust_accuracy, full.robust_accuracy)
    assert whole().evaluations.gradients < 0.9 * full.evaluations.gradients
    assert whole().evaluations.forwards <= full.evaluations.forwards


# ------------------------------------------------------------------------------------------ traces


@pytest.mark.usefixtures("lasting_programs")
def test_new_parameters_radii_and_keys_never_retrace():
    traces = []

    def counted(weights, x):
        traces.append(1)
        return (x.reshape(x.shape[0], -1) - 0.5) @ weights

    def run(seed=4, radii=(0.0, 0.01, 0.1), key=KEY, surrogate=None):
        if surrogate is not None:
            surrogate = jax.tree_util.Partial(counted, Linear.weights(surrogate))
        deployed = jax.tree_util.Partial(counted, Linear.weights(seed))
        return jd.sweep(PGD, deployed, IMAGES, LABELS, radii, key, surrogate, method="grid")

    first = run()
    once = len(traces)
    assert once > 0
    accuracies = {run(seed).clean_accuracy for seed in (5, 6, 7)}
    assert accuracies != {first.clean_accuracy}  # other images are left to attack, same program
    run(radii=(0.2, 0.3, 0.01))
    run(key=jax.random.key(9))
    jd.sweep(
        jd.attacks.pgd(steps=4),
        jax.tree_util.Partial(counted, WEIGHTS), IMAGES, LABELS, (0.0, 0.01, 0.1), KEY,
        method="grid",
    )  # fmt: skip
    assert len(traces) == once
    run(surrogate=8)
    twice = len(traces)
    run(surrogate=9, seed=10)
    assert len(traces) == twice
    run(radii=(0.1, 0.2))  # another length is another program, so the count can change
    assert len(traces) > twice


@pytest.mark.usefixtures("lasting_programs")
@pytest.mark.parametrize("method", ["nested", "grid"])
def test_restored_weights_are_no_new_program(method):
    """What comes back from a checkpoint is bound to its device; what was just trained is not."""
    compiled = []

    def heard(event, seconds, fun_name="?", **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(fun_name)

    def run(weights):
        net = jax.tree_util.Partial(_linear, weights)
        jd.sweep(jd.attacks.pgd(steps=6), net, IMAGES, LABELS, (0.01, 0.02), KEY, method=method)
        return sorted(compiled)

    jax.monitoring.register_event_duration_secs_listener(heard)
    weights = np.asarray(Linear.weights(4))
    restored, trained = jax.device_put(weights, jax.devices()[0]), jnp.asarray(weights)
    try:
        first = run(restored)
        assert first
        assert run(weights) == first
        assert run(trained) == first
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


def _linear(weights, x):
    return (x.reshape(x.shape[0], -1) - 0.5) @ weights


# --------------------------------------------------------------------------------------- libraries


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(x.shape[0], -1) - 0.5)


class NnxNet(nnx.Module):
    def __init__(self, weights):
        self.dense = nnx.Linear(48, 3, rngs=nnx.Rngs(0))
        self.dense.kernel = nnx.Param(weights)

    def __call__(self, x):
        return self.dense(x.reshape(x.shape[0], -1) - 0.5)


class EquinoxNet(eqx.Module):
    dense: eqx.nn.Linear
    activation: object = jax.nn.relu  # a function among the leaves

    def __init__(self, weights):
        linear = eqx.nn.Linear(48, 3, key=KEY)
        self.dense = eqx.tree_at(lambda m: (m.weight, m.bias), linear, (weights.T, jnp.zeros(3)))

    def __call__(self, x):
        return jax.vmap(self.dense)(x.reshape(x.shape[0], -1) - 0.5)


BUILDERS = {
    "linen": lambda w: jd.Frozen(
        LinenNet(), {"params": {"Dense_0": {"kernel": w, "bias": jnp.zeros(3)}}}
    ),
    "nnx": NnxNet,
    "equinox": EquinoxNet,
    "function": lambda w: lambda x: (x.reshape(x.shape[0], -1) - 0.5) @ w,
}


@pytest.mark.parametrize("library", BUILDERS)
def test_every_library_gives_the_same_curve(library):
    result = jd.sweep(PGD, BUILDERS[library](WEIGHTS), IMAGES, LABELS, GRID, KEY, method="grid")
    for field in ("robust_accuracy", "raw_accuracy", "smallest_radius"):
        np.testing.assert_array_equal(getattr(result, field), getattr(whole(), field))
    np.testing.assert_allclose(result.distance, whole().distance, atol=1e-5)


@pytest.mark.usefixtures("lasting_programs")
@pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
def test_new_parameters_of_a_module_reuse_its_program(library, monkeypatch):
    kind = {"linen": LinenNet, "nnx": NnxNet, "equinox": EquinoxNet}[library]
    traces, call = [], kind.__call__

    def counted(self, x):
        traces.append(1)
        return call(self, x)

    if library == "linen":  # linen and equinox wrap the method when the class is made
        monkeypatch.setattr(nn.Dense, "__call__", spy(nn.Dense.__call__, traces))
    elif library == "nnx":
        monkeypatch.setattr(nnx.Linear, "__call__", spy(nnx.Linear.__call__, traces))
    else:
        monkeypatch.setattr(eqx.nn.Linear, "__call__", spy(eqx.nn.Linear.__call__, traces))
    attack = dataclasses.replace(jd.attacks.bim(steps=2), name=f"bim of {library}")
    counts = []
    for seed in (4, 5):
        jd.sweep(attack, BUILDERS[library](Linear.weights(seed)), IMAGES, LABELS, GRID, KEY)
        counts.append(len(traces))
    assert counts[0] == counts[1] > 0


def spy(call, traces):
    @functools.wraps(call)
    def counted(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    return counted


def test_a_progress_bar_and_an_old_style_key(capfd):
    old = jax.random.key_data(KEY)
    result = jd.sweep(FGSM, brightness, X, Y, RADII, old, progress=True)
    assert result.seed == (0, 0)
    assert "fgsm" in capfd.readouterr().err
    jd.sweep(FGSM, brightness, X, Y, RADII, KEY)
    assert capfd.readouterr().err == ""


def test_a_surrogate_may_know_more_classes():
    wide = Linear.classifier(Linear.weights(seed=4, classes=5))
    result = jd.sweep(PGD, Linear.classifier(WEIGHTS), IMAGES, LABELS, GRID, KEY, wide)
    assert result.clean_accuracy == 1
    x_adv = PGD(jd.example_keys(KEY, len(IMAGES)), wide, IMAGES, LABELS, GRID[-1])
    fooled = Linear.classifier(WEIGHTS)(x_adv).argmax(-1) != LABELS
    assert (result.broken_by[:, -1] != "")[np.asarray(fooled)].all()
    assert result.evaluations.gradients > 0
