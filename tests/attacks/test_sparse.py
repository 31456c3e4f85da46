"""Attacks that change few pixels, and the l0 ball they work in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, checks, losses
from jaxdefense.attacks.jsma import jsma
from jaxdefense.attacks.targets import multi_targeted
from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS, inside64, norm64
from jaxdefense.pixels import l0
from tests.conftest import Linear, reference

KEY = jax.random.key(2)
X = jax.random.uniform(jax.random.key(0), (6, 4, 4, 3))
FAR = X + jax.random.normal(jax.random.key(1), X.shape)
EPS = jnp.array([0.0, 0.9, 1.0, 3.5, 16.0, jnp.inf])
WHOLE = np.array([0, 0, 1, 3, 16, 16])


def test_norm_counts_pixels_not_channels():
    delta = jnp.zeros((2, 4, 4, 3)).at[0, 1, 2].set(-0.1).at[0, 3, 3, 1].set(1e-9)
    np.testing.assert_array_equal(l0.norm(delta), [2, 0])
    np.testing.assert_array_equal(norm64(l0, np.zeros((2, 4, 4, 3)), np.asarray(delta)), [2, 0])
    assert "l0" not in BALLS


def test_projection_keeps_the_pixels_that_moved_most():
    once = l0.project(X, FAR, EPS)
    assert inside64(l0, np.asarray(X), np.asarray(once), np.asarray(EPS)).all()
    np.testing.assert_array_equal(l0.norm(once - X), WHOLE)
    np.testing.assert_array_equal(l0.project(X, once, EPS), once)
    boxed = np.clip(FAR, 0, 1)
    moved = np.asarray(((boxed - X) ** 2).sum(-1)).reshape(6, -1)
    kept = np.asarray((once != X).any(-1)).reshape(6, -1)
    for row, count in enumerate(WHOLE):
        best = np.argsort(-moved[row])[:count]
        assert kept[row][best].all()
        np.testing.assert_array_equal(
            np.asarray(once)[row].reshape(16, 3)[best], boxed[row].reshape(16, 3)[best]
        )
    np.testing.assert_array_equal(once[:2], X[:2])


def test_one_pixel_too_many_is_outside():
    moved = np.asarray(X).copy()
    moved[:, 0, :3, 0] = 1 - moved[:, 0, :3, 0]
    allowed = inside64(l0, np.asarray(X), moved, np.array([2, 2.99, 3, 3.5, 4, 0]))
    np.testing.assert_array_equal(allowed, [False, False, True, True, True, False])


def test_samples_change_so_many_pixels_of_the_box():
    keys = jd.example_keys(KEY, 6)
    drawn = l0.sample(keys, X, EPS)
    np.testing.assert_array_equal(l0.norm(drawn), WHOLE)
    assert ((X + drawn >= 0) & (X + drawn <= 1)).all()
    np.testing.assert_array_equal(l0.sample(keys[2:4], X[2:4], EPS[2:4]), drawn[2:4])


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_steepest_and_reach_are_inverse(scale):
    gradient = jax.random.normal(jax.random.key(3), X.shape)
    gain = lambda delta: np.asarray(gradient * delta, np.float64).reshape(6, -1).sum(-1)
    whole = gain(l0.steepest(gradient, X, jnp.full(6, jnp.inf)))
    by_pixel = np.asarray((gradient * jnp.where(gradient > 0, 1 - X, -X)).sum(-1)).reshape(6, -1)
    for count in (1, 4, 9):
        step = l0.steepest(scale * gradient, X, jnp.full(6, count + 0.5))
        np.testing.assert_array_equal(l0.norm(step), count)
        np.testing.assert_allclose(gain(step), np.sort(by_pixel)[:, -count:].sum(-1), rtol=1e-4)
        amount = jnp.asarray(gain(step) * 0.999, jnp.float32)
        reached = l0.reach(scale * gradient, X, scale * amount)
        np.testing.assert_array_equal(l0.norm(reached), count)
        np.testing.assert_allclose(gain(reached), amount, rtol=1e-3)
    np.testing.assert_allclose(
        gain(l0.reach(gradient, X, jnp.asarray(2 * whole, jnp.float32))), whole, rtol=1e-4
    )
    assert (l0.reach(0 * gradient, X, jnp.ones(6)) == 0).all()
    assert (l0.steepest(0 * gradient, X, jnp.ones(6)) == 0).all()


def test_radii_are_numbers_of_pixels():
    checks.check_radii(np.array([0.0, 16.0, np.inf]), l0, 48)
    with pytest.raises(InputError, match="spans all"):
        checks.check_radii(np.array([255.0]), l0, 48)


# ---------------------------------------------------------------------------------------- JSMA


def opposed():
    """A binary linear classifier with opposite logits, so that saliency is the gain."""
    half = Linear.weights(classes=2)[:, :1]
    weights = jnp.concatenate([half, -half], 1)
    x = jnp.clip(1.6 * Linear.data(count=8)[0] - 0.3, 0, 1)
    y = Linear.classifier(weights)(x).argmax(-1).astype(jnp.int32)
    return weights, x, y


def least_pixels(weights, x, y):
    direction = np.where(np.asarray(y)[:, None], 1.0, -1.0) * np.asarray(
        weights[:, 0] - weights[:, 1], np.float64
    )
    flat = np.asarray(x, np.float64).reshape(len(x), -1)
    gains = np.abs(direction) * np.where(direction > 0, 1 - flat, flat)
    gains = -np.sort(-gains.reshape(len(x), -1, 3).sum(-1))
    behind = -np.asarray(losses.margin(Linear.classifier(weights)(x), y), np.float64)
    return (np.cumsum(gains, -1) <= behind[:, None]).sum(-1) + 1


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-12])
def test_jsma_changes_the_least_number_of_pixels_of_a_linear_classifier(scale):
    weights, x, y = opposed()
    classifier = Linear.classifier(scale * weights)
    x_adv = jsma(steps=12)(KEY, classifier, x, y, jnp.inf)
    assert (classifier(x_adv).argmax(-1) != y).all()
    least = least_pixels(weights, x, y)
    assert least.max() > least.min() >= 1
    np.testing.assert_array_equal(l0.norm(x_adv - x), least)
    # With a radius: success exactly where that many pixels are allowed.
    for fewer in (0, 1):
        near = jsma(steps=12)(KEY, classifier, x, y, jnp.asarray(least - fewer, jnp.float32))
        assert (l0.norm(near - x) <= least - fewer).all()
        np.testing.assert_array_equal(classifier(near).argmax(-1) != y, fewer == 0)


def test_small_steps_take_more_of_them_and_stay_in_the_box():
    weights, x, y = opposed()
    x_adv = jsma(theta=0.25, steps=48)(KEY, Linear.classifier(weights), x, y, jnp.inf)
    assert (Linear.classifier(weights)(x_adv).argmax(-1) != y).all()
    assert ((x_adv >= 0) & (x_adv <= 1)).all()


def test_without_saliency_it_still_gets_there():
    """Both logits rise in every channel, one faster: no channel raises one and lowers the other."""
    classifier = lambda x: jnp.stack([4.0 + x.sum((1, 2, 3)), 2.0 * x.sum((1, 2, 3))], -1)
    x = jnp.zeros((2, 4, 4, 1)).at[1].set(0.1)
    y = jnp.zeros(2, jnp.int32)
    x_adv = jsma(steps=8)(KEY, classifier, x, y, jnp.inf)
    np.testing.assert_array_equal(l0.norm(x_adv - x), [5, 3])


def test_needless_pixels_are_taken_back():
    """The first pixel taken is the most salient at the start, but of no use later."""

    def classifier(x):
        a, b = x[:, 0, 0, 0], x[:, 1, 1, 0]
        ahead = jnp.where(b > 0.5, 1.0, a - 1.5) + 0.5 * b
        return jnp.stack([-ahead, ahead], -1)

    x, y = jnp.zeros((2, 2, 2, 1)), jnp.zeros(2, jnp.int32)
    short, long = (jsma(steps=steps)(KEY, classifier, x, y, jnp.inf) for steps in (2, 4))
    np.testing.assert_array_equal(l0.norm(short - x), 2)
    np.testing.assert_array_equal(l0.norm(long - x), 1)


def test_targets():
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    given = jsma(steps=16, target=None)
    goal = (y + 1) % 3
    x_adv = given(KEY, classifier, x, goal, jnp.inf)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1), goal)
    nearest, all_of_them = jsma(steps=12), multi_targeted(jsma(steps=12), 2)
    one, both = (l0.norm(a(KEY, classifier, x, y, jnp.inf) - x) for a in (nearest, all_of_them))
    assert (both <= one).all()


def test_jsma_next_to_random_pixels():
    """On a network: the curve of a sweep in l0, far below what random pixels do."""
    classifier, x, y, _ = reference("standard")
    x, y = x[:60], y[:60]
    result = jd.sweep(jsma(steps=16), classifier, x, y, [1, 3, 6], KEY, progress=False)
    assert result.violations == 0
    assert (np.diff(result.raw_accuracy) <= 0).all()
    x_rand = l0.project(x, x + l0.sample(jd.example_keys(KEY, 60), x, jnp.full(60, 6.0)), EPS[-1:])
    random = float((classifier(x_rand).argmax(-1) == y).mean())
    assert result.raw_accuracy[-1] < random - 0.3
    assert np.median(result.distance) <= 4


def test_jsma_keeps_the_contract():
    attack = jsma(steps=3)
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data(count=8)
    keys = jd.example_keys(KEY, 8)
    whole = attack(keys, classifier, x, y, jnp.inf)
    order = np.array([3, 0, 7, 1, 6, 2, 5, 4])
    permuted = attack(keys[order], classifier, x[order], y[order], jnp.inf)
    np.testing.assert_array_equal(permuted, whole[order])
    wrong = y.at[::2].add(1) % 3
    left = attack(keys, classifier, x, wrong, jnp.inf)
    np.testing.assert_array_equal(left[::2], x[::2])
    np.testing.assert_array_equal(attack(keys, classifier, x, y, 0.0), x)
    for answer in (0.0, jnp.nan):
        flat = lambda x, answer=answer: answer * jnp.ones((len(x), 3)) * x.mean((1, 2, 3))[:, None]
        np.testing.assert_array_equal(attack(keys, flat, x, 0 * y, jnp.inf), x)


def test_cost_is_what_is_evaluated():
    attack, calls = jsma(steps=3), {"forward": 0, "backward": 0}

    def tick(what):
        jax.debug.callback(lambda: calls.__setitem__(what, calls[what] + 1))

    @jax.custom_vjp
    def counted(x):
        tick("forward")
        return x

    def backward(_, g):
        tick("backward")
        return (g,)

    counted.defvjp(lambda x: (counted(x), None), backward)
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    attack(KEY, lambda x: classifier(counted(x)), x, y, jnp.inf)
    jax.effects_barrier()
    assert attack.cost == attacks.Cost(gradients=6, forwards=3)
    assert calls == {"forward": 9, "backward": 6}


def test_bad_settings_are_refused():
    for build, said in (
        (lambda: jsma(jd.l2), "l0 only"),
        (lambda: jsma(theta=0.0), "theta in"),
        (lambda: jsma(theta=1.5), "theta in"),
        (lambda: jsma(steps=0), "steps >= 1"),
    ):
        with pytest.raises(InputError, match=said):
            build()
