"""Noise on a code, a variational autoencoder that is told the class, generator and critic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense import models
from jaxdefense.errors import InputError
from jaxdefense.models.squeeze import SqueezeExcite

NOISY = models.LatentNoiseAutoencoder(features=(2, 2, 3), hidden=5, code=2)
VAE = models.ConditionalVAE(
    image_shape=(10, 12, 1), num_classes=3, latent=4, features=2, layers=1, kernel=3, hidden=8
)


def drawn(shapes, seed=0, scale=0.3):
    rng = np.random.default_rng(seed)
    draw = lambda leaf: (scale * rng.normal(size=leaf.shape)).astype(np.float32)
    return jax.tree.map(draw, shapes)


def variables(model, *inputs):
    found = drawn(jax.eval_shape(model.init, jax.random.key(0), *inputs))
    if "batch_stats" in found:
        found["batch_stats"] = jax.tree.map(np.abs, found["batch_stats"])
    return found


X = np.random.default_rng(1).uniform(size=(5, 10, 12, 1)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize("side", [12, 28, 32, 36])
def test_noisy_autoencoders_give_images_of_the_same_shape(side):
    x = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    shapes = jax.eval_shape(NOISY.init, jax.random.key(0), x)
    assert jax.eval_shape(NOISY.apply, shapes, x).shape == x.shape


@pytest.mark.parametrize("size", [(8, 8), (30, 32), (32, 18)])
def test_noisy_autoencoders_say_which_images_they_take(size):
    with pytest.raises(InputError, match="divisible by 4"):
        jax.eval_shape(NOISY.init, jax.random.key(0), jnp.zeros((1, *size, 1)))


def test_noise_is_added_to_the_code_in_the_stated_unit():
    x = jnp.ones((2, 12, 12, 1))
    weights = variables(NOISY, x)
    apply = jax.jit(NOISY.apply)
    noise = jnp.array([[0.0, 0.0], [20.0, -20.0]])
    found = apply(weights, x, noise=noise)
    np.testing.assert_allclose(found[0], apply(weights, x)[0], atol=1e-6)
    assert np.abs(found[1] - found[0]).max() > 1e-3
    double = models.LatentNoiseAutoencoder(features=(2, 2, 3), hidden=5, code=2, sigma=2.0)
    np.testing.assert_allclose(jax.jit(double.apply)(weights, x, noise=noise / 2), found, atol=1e-6)


def test_noise_is_drawn_in_training():
    x = jnp.ones((2, 12, 12, 1))
    weights = variables(NOISY, x)
    train = lambda key: NOISY.apply(
        weights, x, train=True, mutable=["batch_stats"], rngs={"dropout": key}
    )[0]
    assert "random_bits" in str(jax.make_jaxpr(train)(jax.random.key(0)))


def test_squeeze_excite_by_hand():
    model, x = SqueezeExcite(hidden=2), jnp.asarray(X[:2].reshape(2, 5, 6, 4))
    weights = variables(model, x)
    first, second = weights["params"]["Dense_0"], weights["params"]["Dense_1"]
    means = np.asarray(x).mean((1, 2))
    hidden = np.maximum(means @ first["kernel"] + first["bias"], 0)
    gate = 1 / (1 + np.exp(-(hidden @ second["kernel"] + second["bias"])))
    expected = x * gate[:, None, None, :]
    np.testing.assert_allclose(model.apply(weights, x), expected, rtol=1e-5)


def test_a_conditional_vae_has_codes_of_positive_spread_and_images_in_the_box():
    weights = variables(VAE, X, Y)
    image, mean, std = jax.jit(VAE.apply)(weights, X, Y)
    assert image.shape == X.shape
    assert mean.shape == std.shape == (5, 4)
    assert (std > 0).all()
    assert ((image >= 0) & (image <= 1)).all()


def test_a_conditional_vae_depends_on_the_class_in_both_halves():
    weights = variables(VAE, X, Y)
    mean, _ = VAE.apply(weights, X[:1], Y[:1], method="encode")
    other, _ = VAE.apply(weights, X[:1], Y[1:2], method="encode")
    assert np.abs(mean - other).max() > 1e-4
    made = [VAE.apply(weights, mean, Y[i : i + 1], method="decode") for i in (0, 1)]
    assert np.abs(made[0] - made[1]).max() > 1e-4


def test_a_conditional_vae_says_when_images_are_too_small():
    model = models.ConditionalVAE(image_shape=(24, 24, 1))
    with pytest.raises(InputError, match="too small"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 24, 24, 1)), Y[:1])


@pytest.mark.parametrize("image", [(28, 28, 1), (32, 32, 3), (13, 22, 1)])
def test_generators_make_images_of_any_shape(image):
    model = models.Generator(image_shape=image, latent=5, features=2)
    code = jax.ShapeDtypeStruct((3, 5), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), code)
    assert jax.eval_shape(model.apply, shapes, code).shape == (3, *image)


def test_generator_has_the_parameters_of_the_public_code():
    model = models.Generator()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 128)))
    dense = 128 * 4096 + 4096
    transposed = (25 * 256 * 128 + 128) + (25 * 128 * 64 + 64) + (25 * 64 + 1)
    assert models.count_parameters(shapes) == dense + transposed
