"""Losses to train with, against their definitions in float64, and their gradients at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import TinyNet, data, train, variables

from jaxdefense import Tempered
from jaxdefense.errors import InputError
from jaxdefense.losses import cross_entropy, margin
from jaxdefense.training import gce, supervised, tempered

LOGITS = 3 * np.random.default_rng(0).normal(size=(8, 10)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 10, 8)


def defined(logits, y, alpha):
    """Guided complement entropy as the paper writes it."""
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    values = []
    for row, label in zip(p, y, strict=True):
        others = np.delete(row, label) / (1 - row[label])
        values.append(row[label] ** alpha * (others * np.log(others)).sum() / np.log(len(row) - 1))
    return np.array(values)


@pytest.mark.parametrize("alpha", [1 / 3, 1.0, 0.1])
def test_gce_is_its_definition(alpha):
    np.testing.assert_allclose(gce(alpha)(LOGITS, Y), defined(LOGITS, Y, alpha), rtol=1e-5)


def test_gce_gradient_is_that_of_its_definition():
    gradient = jax.grad(lambda z: gce()(z, Y).sum())(jnp.asarray(LOGITS))
    step = 1e-4
    for i, j in [(0, Y[0]), (0, (Y[0] + 1) % 10), (5, 3), (7, Y[7])]:
        moved = np.zeros_like(LOGITS, np.float64)
        moved[i, j] = step
        up, down = (defined(LOGITS + sign * moved, Y, 1 / 3).sum() for sign in (1, -1))
        assert float(gradient[i, j]) == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-6)


def test_gce_is_lowest_where_the_label_has_all_and_the_rest_is_even():
    even = np.full((1, 10), -30.0, np.float32)
    even[0, 4] = 30.0
    label = np.array([4])
    assert float(gce()(even, label)[0]) == pytest.approx(-1)
    uneven = even.copy()
    uneven[0, 7] = 0.0  # all that is left goes to one wrong class
    assert float(gce()(uneven, label)[0]) == pytest.approx(0, abs=1e-6)
    assert float(gce()(even, np.array([5]))[0]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("gap", [30.0, 1e3, 1e6, -1e3])
def test_gce_has_finite_gradients_where_softmax_saturates(gap):
    logits = jnp.zeros((1, 5)).at[0, 2].set(gap).at[0, 3].set(1.0)
    value, gradient = jax.value_and_grad(lambda z: gce()(z, jnp.array([2])).sum())(logits)
    assert -1 <= float(value) <= 0
    assert jnp.isfinite(gradient).all()
    # A right answer can still be improved: the wrong classes are not even yet.
    assert bool(gradient[0, 3] > 0.01) == (gap > 0)
    assert float(gradient.sum()) == pytest.approx(0, abs=1e-6)  # a shift of all logits is nothing


def test_gce_needs_two_wrong_classes_and_a_positive_exponent():
    with pytest.raises(InputError, match="2 classes"):
        gce()(LOGITS[:, :2], Y % 2)
    for alpha in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="exponent"):
            gce(alpha)


def test_tempered_is_the_loss_of_divided_logits():
    np.testing.assert_allclose(
        tempered(2.5)(LOGITS, Y), cross_entropy(LOGITS / np.float32(2.5), Y), rtol=1e-6
    )
    np.testing.assert_array_equal(tempered(1)(LOGITS, Y), cross_entropy(LOGITS, Y))
    np.testing.assert_allclose(
        tempered(4, margin)(LOGITS, Y), margin(LOGITS, Y) / 4, rtol=1e-5, atol=1e-6
    )
    for temperature in (0, -2.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="temperature"):
            tempered(temperature)


def test_equal_settings_are_equal_losses():
    assert gce() == gce(1 / 3) != gce(0.5)
    assert hash(gce()) == hash(gce(1 / 3))
    assert tempered(2) == tempered(2.0) != tempered(3)


def test_training_with_them_lowers_them_and_still_classifies():
    x, y = data()
    images = x.astype(np.float32) / 255
    for loss in (gce(), tempered(2.5)):
        result = train(objective=supervised(TinyNet(), loss=loss), epochs=40)
        first, last = result.history[0], result.history[-1]
        assert last["loss"] < first["loss"]
        logits = TinyNet().apply(result.variables, images)
        assert float((logits.argmax(-1) == y).mean()) > 0.8


def test_training_at_a_temperature_is_training_the_tempered_network():
    x, y = data(16)
    images = x.astype(np.float32) / 255
    warm = Tempered(lambda x: TinyNet().apply(variables(TinyNet()), x), 2.5)
    objective = supervised(TinyNet(), loss=tempered(2.5))
    assert float(cross_entropy(warm(images), y).mean()) == pytest.approx(
        float(tempered(2.5)(TinyNet().apply(variables(TinyNet()), images), y).mean()), rel=1e-5
    )
    made = variables(TinyNet())
    value, _ = objective(made.pop("params"), made, jax.random.key(0), images, y)
    plain, _ = supervised(TinyNet())(
        variables(TinyNet())["params"], made, jax.random.key(0), images, y
    )
    assert float(value) != pytest.approx(float(plain), rel=1e-3)
