"""Attacks by queries other than Square: SPSA, HopSkipJump, one pixel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks.hopskipjump import hopskipjump
from jaxdefense.attacks.one_pixel import one_pixel
from jaxdefense.attacks.spsa import spsa
from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS
from tests.attacks import contract
from tests.attacks.test_square import evaluations, quantised
from tests.conftest import EPS, Linear

KEY = jax.random.key(5)
TWO = pytest.mark.parametrize("norm", ["linf", "l2"])


def only_decisions(weights, x):
    """A linear classifier that tells nothing but its decision."""
    return jax.nn.one_hot(Linear.classifier(weights)(x).argmax(-1), weights.shape[1])


# ---------------------------------------------------------------------------------- SPSA


@TWO
def test_spsa_contract_and_cost(norm):
    attack = spsa(BALLS[norm], 3, 4)
    contract.inside_ball_and_box(attack)
    contract.rows_are_independent(attack)
    assert attack.cost == attacks.Cost(gradients=0, forwards=3 * 9 + 1)
    assert evaluations(attack, EPS[norm]) == attack.cost


@TWO
def test_spsa_comes_close_to_pgd_on_a_smooth_network(norm):
    net, x, y = contract.batch()
    clean = losses.margin(net(x), y)
    gain = lambda attack: losses.margin(net(attack(KEY, net, x, y, EPS[norm])), y) - clean
    theirs, ours = gain(attacks.pgd(BALLS[norm], 20)), gain(spsa(BALLS[norm], 30, 64))
    assert (ours > 0.75 * theirs).all()
    assert (ours < 1.1 * theirs).all()


def test_spsa_breaks_what_masks_its_gradient():
    classifier = quantised(Linear.weights())
    x, _ = Linear.data(count=40)
    y = classifier(x).argmax(-1).astype(jnp.int32)
    left = lambda attack: (classifier(attack(KEY, classifier, x, y, 0.13)).argmax(-1) == y).mean()
    assert left(attacks.pgd(steps=20)) > 0.7
    assert left(spsa(steps=20, samples=64, perturbation=0.06)) < 0.2


def test_spsa_survives_logits_of_any_size():
    classifier = Linear.classifier(Linear.weights() * 1e37)
    x, y = Linear.data()
    infinite = lambda x: jnp.where(x.mean((1, 2, 3), keepdims=True)[:, :, 0, 0] > 0.5, jnp.inf, 0)
    for broken in (classifier, lambda x: classifier(x) + infinite(x)):
        x_adv = spsa(steps=3, samples=4)(KEY, broken, x, y, jnp.full(6, 0.1).at[0].set(jnp.inf))
        assert jnp.isfinite(x_adv).all()


# --------------------------------------------------------------------------- HopSkipJump


@TWO
def test_hopskipjump_finds_the_boundary_from_decisions_alone(norm):
    attack = hopskipjump(BALLS[norm], 30)
    weights = Linear.weights(classes=2)
    classifier = jax.tree_util.Partial(only_decisions, weights)
    x, y = Linear.data(low=0.3, high=0.7, classes=2)
    direction = weights[:, 1] - weights[:, 0]
    length = jnp.linalg.norm(direction) if norm == "l2" else jnp.abs(direction).sum()
    expected = -losses.margin(Linear.classifier(weights)(x), y) / length
    x_adv = attack(KEY, classifier, x, y, jnp.inf)
    assert (classifier(x_adv).argmax(-1) != y).all()
    found = BALLS[norm].norm(x_adv - x)
    assert (found < 1.12 * expected).all()
    assert (found > 0.999 * expected).all()


@TWO
def test_hopskipjump_contract_and_cost(norm):
    attack = hopskipjump(BALLS[norm], 2, 5, starts=4)
    contract.inside_ball_and_box(attack)
    contract.rows_are_independent(attack)
    # The image, 4 starts, 16 bisections; 5 + 10 + 16 a step; the end.
    assert attack.cost == attacks.Cost(gradients=0, forwards=21 + 2 * 31 + 1)
    assert evaluations(attack, jnp.inf) == attack.cost


def test_hopskipjump_leaves_alone_what_no_start_fools():
    x, _ = Linear.data()
    y = jnp.zeros(6, jnp.int32)
    never = lambda x: jnp.zeros((len(x), 2)).at[:, 0].set(1.0)
    x_adv = hopskipjump(steps=2, queries=5, starts=4)(KEY, never, x, y, jnp.inf)
    np.testing.assert_array_equal(x_adv, x)


# ----------------------------------------------------------------------------- one pixel


def hinged(x):
    """Class 1 where the pixel in row 2 and column 1 is bright, else class 0."""
    bright = x[:, 2, 1].mean(-1)
    return jnp.stack([0.9 - bright, bright - 0.9], -1)


def test_one_pixel_finds_the_pixel_everything_hinges_on():
    x, _ = Linear.data(count=6, high=0.8)
    y = jnp.zeros(6, jnp.int32)
    x_adv = one_pixel(population=100, generations=25)(KEY, hinged, x, y, 1.0)
    assert (hinged(x_adv).argmax(-1) == 1).all()
    moved = np.asarray(x_adv != x).any(-1)
    assert moved[:, 2, 1].all()
    assert (moved.sum((1, 2)) == 1).all()


def test_one_pixel_changes_no_more_than_its_pixels_and_its_radius():
    net, x, y = contract.batch()
    keys = jd.example_keys(KEY, 6)
    eps = jnp.array([0.0, 1.0, 1.9, 2.0, 3.0, 7.0])
    attack = one_pixel(3, population=8, generations=4)
    x_adv = np.asarray(attack(keys, net, x, y, eps))
    changed = (x_adv != x).any(-1).sum((1, 2))
    assert (changed <= np.array([0, 1, 1, 2, 3, 3])).all()
    assert changed.max() == 3
    assert ((x_adv >= 0) & (x_adv <= 1)).all()
    # Rows do not influence each other.
    order = np.array([4, 0, 5, 2, 1, 3])
    permuted = attack(keys[order], net, x[order], y[order], eps[order])
    np.testing.assert_array_equal(permuted, x_adv[order])


def test_one_pixel_cost():
    attack = one_pixel(population=5, generations=3)
    assert attack.cost == attacks.Cost(gradients=0, forwards=20)
    assert evaluations(attack, 1.0) == attack.cost


# ------------------------------------------------------------------------------ settings


def test_bad_settings_are_refused():
    for build, said in (
        (lambda: spsa(steps=0), "at least 1 step"),
        (lambda: spsa(perturbation=8.0), "divide by 255"),
        (lambda: spsa(jd.l1), r"square\(l1\)"),
        (lambda: hopskipjump(queries=0), "at least 1"),
        (lambda: hopskipjump(jd.l1), "l2 and linf"),
        (lambda: one_pixel(population=3), "population of 4"),
    ):
        with pytest.raises(InputError, match=said):
            build()


def test_settings_tell_attacks_apart():
    for one, other in (
        (spsa(samples=4), spsa(samples=5)),
        (spsa(perturbation=0.1), spsa(perturbation=0.2)),
        (spsa(step_size=0.1), spsa(step_size=0.3)),
        (hopskipjump(queries=4), hopskipjump(queries=5)),
        (hopskipjump(starts=4), hopskipjump(starts=5)),
        (one_pixel(1, name="a"), one_pixel(2, name="a")),
        (one_pixel(population=4), one_pixel(population=5)),
        (attacks.square(p_init=0.3), attacks.square(p_init=0.4)),
        (attacks.square(), attacks.square(rescale_schedule=True)),
    ):
        assert one.settings != other.settings
