"""Certificates against closed forms, and attacks against certificates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import linen as nn

from jaxdefense import Frozen, attacks, eot, l2, linf, models, sweep
from jaxdefense.defenses import smoothed
from jaxdefense.errors import InputError
from jaxdefense.evaluation import certify
from jaxdefense.evaluation.bounds import certified_within, interval_bounds
from jaxdefense.evaluation.certificates import lower_bound
from jaxdefense.typing import example_keys


def half_space(x):
    """The mean of 4 pixels against 1/2: the distance to the boundary is 2 |mean - 1/2| in l2."""
    s = x.mean((1, 2, 3)) - 0.5
    return jnp.stack([s, -s], -1)


X = np.linspace(0.55, 0.95, 9, dtype=np.float32)[:, None, None, None] * np.ones(
    (9, 2, 2, 1), np.float32
)
Y = np.zeros(9, np.int32)
DISTANCE = 2 * (X.mean((1, 2, 3)) - 0.5)


def test_lower_bounds_are_those_of_the_published_formula():
    """Cohen et al. use statsmodels' proportion_confint(k, n, 2 alpha, "beta")[0]."""
    k, n, alpha = np.array([0, 1, 50, 99, 100]), 100, 0.001
    bound = lower_bound(k, n, alpha)
    # The bound is where so many successes or more have probability alpha.
    tail = scipy.stats.binom.sf(k[1:] - 1, n, bound[1:])
    np.testing.assert_allclose(tail, alpha, rtol=1e-6)
    assert bound[0] == 0
    np.testing.assert_allclose(bound[-1], alpha ** (1 / n))


def test_radii_of_a_half_space_are_below_its_distance_and_close():
    """There the smoothed answer changes exactly at the boundary: Phi(d / sigma) is the vote."""
    found = certify(smoothed(half_space, 0.25), X, Y, jax.random.key(0), draws=20_000)
    assert (found.radius <= DISTANCE + 1e-6).all()
    # A vote beyond what so many draws can tell apart from 1 bounds the radius.
    most = 0.25 * scipy.stats.norm.ppf(0.001 ** (1 / 20_000))
    near = 0.7 * most > DISTANCE
    assert near.sum() >= 3
    np.testing.assert_allclose(found.radius[near], DISTANCE[near], atol=0.03)
    assert (found.radius <= most).all()


def test_nan_under_noise_is_no_vote():
    """JAX takes a NaN for the largest logit, and the first class would win."""
    torn = lambda x: half_space(x) + 0 * jnp.sqrt(x).sum((1, 2, 3))[:, None]
    vote = smoothed(torn, 0.25, draws=20)
    keys = example_keys(jax.random.key(0), 2)
    far, near = np.full_like(X[:1], 100.0), np.full_like(X[:1], 0.01)
    counts = np.asarray(vote(keys, np.concatenate([far, near])))
    assert counts[0].tolist() == [20, 0]
    assert np.isnan(counts[1]).all()
    with pytest.raises(InputError, match="answers NaN to most noisy copies of 1 of 2 images"):
        certify(vote, np.concatenate([X[:1], near]), Y[:2], jax.random.key(0), draws=100)


def test_certified_accuracy_counts_wrong_answers_and_abstentions_as_not_certified():
    images = np.concatenate([X[-1:], 1 - X[-1:], np.full_like(X[:1], 0.5)])
    found = certify(smoothed(half_space, 0.25), images, Y[:3], jax.random.key(0), draws=2000)
    assert found.answer.tolist() == [0, 1, -1]
    assert found.accuracy([0.0, 0.2]).tolist() == [1 / 3, 1 / 3]
    assert found.interval([0.0]).shape == (1, 2)
    again = certify(smoothed(half_space, 0.25), images, Y[:3], jax.random.key(0), draws=2000,
                    batch_size=2)  # fmt: skip
    np.testing.assert_array_equal(found.radius, again.radius)


def test_no_attack_succeeds_below_a_certified_radius():
    vote = smoothed(half_space, 0.25, draws=400)
    found = certify(vote, X, Y, jax.random.key(0), draws=5000)
    curve = sweep(
        attacks.pgd(l2, 20), vote, X, Y, np.linspace(0.05, 1, 20), jax.random.key(1),
        eot(vote.noisy, 20, of="logits"),
    )  # fmt: skip
    assert (curve.smallest_radius > found.radius).all()
    # And the attack is no weak one: it succeeds a little beyond the boundary.
    near = DISTANCE < 0.7
    assert (curve.smallest_radius[near] < DISTANCE[near] + 0.15).all()


@pytest.mark.parametrize("settings", [{"choose": 0}, {"draws": 0}, {"alpha": 1.0}])
def test_settings_that_cannot_be_right_are_refused(settings):
    with pytest.raises(InputError, match="positive numbers of draws"):
        certify(smoothed(half_space, 0.25), X, Y, jax.random.key(0), **settings)


def test_only_smoothed_classifiers_are_certified():
    with pytest.raises(InputError, match="smoothed"):
        certify(half_space, X, Y, jax.random.key(0))
    with pytest.raises(InputError, match="positive sigma"):
        smoothed(half_space, 0.0)


# ----------------------------------------------------------------------------------------- bounds


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.tanh(nn.Dense(8)(x.reshape(len(x), -1)))
        return nn.Dense(3)(x)


@pytest.fixture(scope="module")
def small():
    images = np.random.default_rng(0).uniform(size=(40, 6, 6, 1)).astype(np.float32)
    net = Frozen(Small(), Small().init(jax.random.key(0), jnp.zeros((1, 6, 6, 1))))
    return net, images, np.asarray(net(images).argmax(-1))


def test_bounds_of_an_affine_function_are_exact():
    weights = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    x = np.full((2, 3, 3, 1), 0.5, np.float32)
    low, high = interval_bounds(lambda x: x.reshape(len(x), -1) @ weights + 1, x, 0.1)
    exact = 0.5 * weights.sum(0) + 1, 0.1 * np.abs(weights).sum(0)
    np.testing.assert_allclose(low, np.broadcast_to(exact[0] - exact[1], (2, 3)), atol=2e-4)
    np.testing.assert_allclose(high, np.broadcast_to(exact[0] + exact[1], (2, 3)), atol=2e-4)


def test_bounds_hold_at_random_points_and_close_with_the_radius(small):
    net, x, _ = small
    rng = np.random.default_rng(1)
    low, high = interval_bounds(net, x, 0.05)
    for _ in range(20):
        z = np.asarray(net(np.clip(x + rng.uniform(-0.05, 0.05, x.shape), 0, 1)))
        assert (low <= z).all()
        assert (z <= high).all()
    low, high = interval_bounds(net, x, 0.0)
    np.testing.assert_allclose(low, high, atol=1e-3)


def test_no_attack_breaks_what_bounds_certify(small):
    """The sandwich: certified <= attacked, over an adversary's whole grid."""
    net, x, y = small
    radii = np.array([0.002, 0.005, 0.01, 0.02, 0.05], np.float32)
    curve = sweep(attacks.quick(linf), net, x, y, radii, jax.random.key(0))
    certified = np.stack([certified_within(net, x, y, eps) for eps in radii], -1)
    broken = curve.smallest_radius[:, None] <= radii
    assert not (certified & broken).any()
    assert certified[:, 0].sum() > 5
    assert broken.any()


def test_an_operation_without_bounds_is_named():
    with pytest.raises(InputError, match="'sin'"):
        interval_bounds(lambda x: jnp.sin(x).sum((1, 2)), np.zeros((1, 2, 2, 3)), 0.1)


def test_input_that_bounds_cannot_be_of_is_refused(small):
    net, x, y = small
    for said, images, labels, eps in (
        ("divide by 255", 255 * x, y, 0.1),
        ("dtype uint8", (255 * x).astype(np.uint8), y, 0.1),
        ("negative eps", x, y, -0.1),
        ("0-255 units", x, y, 8.0),
        ("one label per image", x, y[:3], 0.1),
    ):
        with pytest.raises(InputError, match=said):
            certified_within(net, images, labels, eps)
    half = lambda x: net(x.astype(jnp.bfloat16)).astype(jnp.float32)
    with pytest.raises(InputError, match="less than float32"):
        interval_bounds(half, x, 0.1)


def test_bounds_of_a_network_of_the_registry():
    module = models.build("lenet5")
    net = Frozen(module, models.initialize(module, jax.random.key(0), (28, 28, 1)))
    low, high = interval_bounds(net, np.full((2, 28, 28, 1), 0.5), 0.01)
    z = np.asarray(net(np.full((2, 28, 28, 1), 0.505, np.float32)))
    assert (low <= z).all()
    assert (z <= high).all()
