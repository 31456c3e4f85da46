"""Losses against their definitions, and against float64 where float32 saturates."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdefense import losses
from jaxdefense.attacks.probe import Goal, make_probe

LOGITS = jax.random.normal(jax.random.key(0), (6, 5)) * 3
Y = jnp.array([0, 1, 2, 3, 4, 0])


def test_cross_entropy_is_optax_cross_entropy():
    ours = losses.cross_entropy(LOGITS, Y)
    theirs = optax.softmax_cross_entropy_with_integer_labels(LOGITS, Y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    soft = jax.nn.softmax(LOGITS[::-1])
    expected = optax.softmax_cross_entropy(LOGITS, soft)
    np.testing.assert_allclose(losses.cross_entropy(LOGITS, soft), expected, rtol=1e-5)


@pytest.mark.parametrize("gap", [5.0, 20.0, 40.0])
def test_cross_entropy_gradient_stays_balanced_where_softmax_saturates(gap):
    logits = jnp.array([[gap, 0.0, -1.0]])
    gradient = np.asarray(jax.grad(lambda z: losses.cross_entropy(z, jnp.array([0])).sum())(logits))
    z = np.asarray(logits, np.float64)[0]
    p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    others = np.array([-p[1:].sum(), p[1], p[2]])  # p_0 - 1 = -(p_1 + p_2), without cancellation
    np.testing.assert_allclose(gradient[0], others, rtol=1e-4)


def test_margin_is_positive_exactly_where_misclassified():
    predicted = LOGITS.argmax(-1)
    np.testing.assert_array_equal(losses.margin(LOGITS, Y) > 0, predicted != Y)
    assert (losses.margin(LOGITS, predicted) < 0).all()


def test_dlr_by_hand_and_invariant_to_shift_and_scale():
    z = jnp.array([[4.0, 1.0, 3.0, 0.0]])
    # -(z_y - max other) / (z_(1) - z_(3)) = -(1 - 4) / (4 - 1)
    np.testing.assert_allclose(losses.dlr(z, jnp.array([1])), [1.0], rtol=1e-6)
    np.testing.assert_allclose(losses.dlr(z, jnp.array([0])), [-1 / 3], rtol=1e-6)
    np.testing.assert_allclose(
        losses.dlr(7 * LOGITS + 3, Y), losses.dlr(LOGITS, Y), rtol=1e-4, atol=1e-5
    )
    # With 2 classes the ratio has no gradient: the margin instead.
    np.testing.assert_allclose(losses.dlr(z[:, :2], jnp.array([1])), [3.0], rtol=1e-6)


def test_targeted_dlr_by_hand_and_below_four_classes():
    z, pair = jnp.array([[4.0, 1.0, 3.0, 0.0, 2.0]]), jnp.array([[1, 2]])
    # -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2) = -(1 - 3) / (4 - 1.5)
    np.testing.assert_allclose(losses.dlr_towards(z, pair), [0.8], rtol=1e-6)
    np.testing.assert_allclose(losses.dlr_towards(z[:, :3], pair), [2.0], rtol=1e-6)
    np.testing.assert_allclose(losses.dlr_towards(z[:, :2], 1 - pair // 2), [3.0], rtol=1e-6)
    np.testing.assert_allclose(losses.margin_towards(z, pair), [2.0], rtol=1e-6)


def test_kl_is_zero_at_the_reference_and_positive_elsewhere():
    p = jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(losses.kl(LOGITS, p), 0.0, atol=1e-5)
    assert (losses.kl(LOGITS[::-1], p) > 0).all()
    one_hot = jax.nn.one_hot(Y, 5)
    np.testing.assert_allclose(losses.kl(LOGITS, one_hot), losses.cross_entropy(LOGITS, Y), 1e-5)


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.dlr])
def test_losses_rise_as_the_true_logit_falls(loss):
    y = LOGITS.argmax(-1)
    lowered = LOGITS.at[jnp.arange(6), y].add(-0.1)
    assert (loss(lowered, y) > loss(LOGITS, y)).all()
    aimed = losses.targeted(loss)
    assert (aimed(lowered, y) < aimed(LOGITS, y)).all()


def test_success_of_targeted_and_untargeted():
    predicted = LOGITS.argmax(-1)
    assert losses.fooled(losses.targeted(losses.margin), LOGITS, predicted).all()
    assert not losses.fooled(losses.margin, LOGITS, predicted).any()
    aimed = losses.targeted(losses.margin)
    np.testing.assert_array_equal(
        losses.score(aimed, LOGITS, Y) > 0, losses.fooled(aimed, LOGITS, Y)
    )


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.margin, losses.dlr])
def test_gradients_are_finite_for_extreme_logits(loss):
    for z in (jnp.array([[1e4, -1e4, 0.0]]), jnp.zeros((1, 3)), jnp.array([[88.0, 0, 0]])):
        gradient = jax.grad(lambda z: loss(z, jnp.array([0])).sum())(z)
        assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("gap", [5.0, 17.0, 60.0, 1000.0])
def test_cross_entropy_has_a_gradient_in_float16_through_a_layer(gap):
    """Where sigmoid rounds to 0, or what it is multiplied by on its way back."""
    weights = jnp.array([[1.0, -1.0, 0.0], [0.01, 0.02, -0.02]], jnp.float16)
    x = jnp.array([[gap / 2, 0.3]], jnp.float16)
    slope = jax.grad(lambda x: losses.cross_entropy(x @ weights, jnp.array([0])).sum())(x)[0]
    assert slope.dtype == jnp.float16
    assert slope[0] < 0
    assert slope[1] != 0


@pytest.mark.parametrize("gap", [5.0, 17.0, 60.0])
def test_attacks_have_a_gradient_through_a_network_in_float16_with_logits_in_float32(gap):
    """What goes back into it is float16, which holds nothing below 6e-8."""
    weights = jnp.array([[1.0, -1.0, 0.0], [0.01, 0.02, -0.02]], jnp.float16)

    def network(x):
        x = x.reshape(len(x), -1).astype(jnp.float16)
        return (x @ (2 * gap * weights)).astype(jnp.float32)

    x, y = jnp.array([0.5, 0.3]).reshape(1, 1, 2, 1), jnp.array([0])
    probe = make_probe(losses.cross_entropy, network)
    keys = jax.random.split(jax.random.key(0), 1)
    reading, gradient = probe.differentiate(keys, x, Goal(y, y))
    assert gradient.dtype == jnp.float32
    assert gradient[0, 0, 0, 0] < 0 < jnp.abs(gradient[0, 0, 1, 0])
    # As in float32, where that has no trouble.
    plain = make_probe(losses.cross_entropy, lambda x: x.reshape(1, -1) @ (
        2 * gap * weights.astype(jnp.float32)
    ))  # fmt: skip
    close = plain.differentiate(keys, x, Goal(y, y))
    np.testing.assert_allclose(gradient, close[1], rtol=0.1)
    np.testing.assert_allclose(reading.loss, close[0].loss, rtol=0.1)


def test_cross_entropy_gradient_never_vanishes():
    """At any distance of the logits it points where the other logits rise and the own falls."""
    logits = jnp.array([[1000.0, 0.0, -1.0]])
    gradient = jax.grad(lambda z: losses.cross_entropy(z, jnp.array([0])).sum())(logits)[0]
    assert gradient[0] < 0 < gradient[2] < gradient[1]
    np.testing.assert_allclose(gradient.sum(), 0, atol=1e-26)
