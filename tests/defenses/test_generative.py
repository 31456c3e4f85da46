"""Purifiers that draw: noise on a code, every class tried, the nearest image of a generator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import defenses, models
from jaxdefense.classifiers import is_random
from jaxdefense.errors import InputError

KEYS = jax.random.split(jax.random.key(3), 4)
X = np.random.default_rng(0).uniform(size=(4, 12, 12, 1)).astype(np.float32)
NOISY = models.LatentNoiseAutoencoder(features=(2, 2, 3), hidden=5, code=2)
VAE = models.ConditionalVAE(
    image_shape=(12, 12, 1), num_classes=3, latent=4, features=2, layers=1, kernel=3, hidden=8
)


def variables(model, *inputs):
    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(2)
    draw = lambda leaf: np.abs(0.3 * rng.normal(size=leaf.shape)).astype(np.float32)
    signs = lambda leaf: leaf * rng.choice([-1, 1], size=leaf.shape).astype(np.float32)
    found = jax.tree.map(draw, shapes)
    return found | {"params": jax.tree.map(signs, found["params"])}


def orthonormal(rows, columns):
    return np.linalg.qr(np.random.default_rng(5).normal(size=(columns, rows)))[0].T


BASIS = orthonormal(3, 144).astype(np.float32)


def flat(code):
    return 0.5 + (code @ BASIS).reshape(-1, 12, 12, 1)


PURIFIERS = {
    "latent_noise": lambda: defenses.latent_noise(NOISY, variables(NOISY, X)),
    "puvae": lambda: defenses.puvae(VAE, variables(VAE, X, np.arange(4) % 3)),
    # The mean over 144 values makes slopes small.
    "defense_gan": lambda: defenses.defense_gan(flat, 3, restarts=2, steps=60, lr=30.0),
}


@pytest.mark.parametrize("name", PURIFIERS)
def test_rows_are_independent_and_keys_decide(name):
    purifier = PURIFIERS[name]()
    assert is_random(purifier)
    purify = jax.jit(lambda keys, x: purifier(keys, x))
    found = np.asarray(purify(KEYS, X))
    assert found.shape == X.shape
    np.testing.assert_allclose(purify(KEYS[::-1], X[::-1].copy())[::-1], found, atol=1e-5)
    np.testing.assert_allclose(purify(KEYS[2:3], X[2:3]), found[2:3], atol=1e-5)
    other = np.asarray(purify(jax.random.split(jax.random.key(9), 4), X))
    differs = np.abs(other - found).max((1, 2, 3))
    # A convex projection ends at the same place from every start.
    assert (differs < 1e-3).all() if name == "defense_gan" else (differs > 1e-5).all()


@pytest.mark.parametrize("name", PURIFIERS)
def test_deployed_before_a_classifier_it_is_swept(name):
    deployed = jd.Purified(PURIFIERS[name](), lambda x: x.reshape(len(x), -1)[:, :3])
    y = np.asarray(deployed(KEYS, X)).argmax(-1)
    wrong = (y + 1) % 3
    for labels, low, high in ((y, 0.5, 1.0), (wrong, 0.0, 0.5)):
        curve = jd.sweep(jd.attacks.fgsm(jd.linf), deployed, X, labels, [0.0], jax.random.key(0))
        assert low <= curve.robust_accuracy[0] <= high


def test_without_noise_it_is_the_plain_autoencoder():
    quiet = models.LatentNoiseAutoencoder(features=(2, 2, 3), hidden=5, code=2, sigma=0.0)
    weights = variables(quiet, X)
    found = defenses.latent_noise(quiet, weights)(KEYS, X)
    np.testing.assert_allclose(found, jd.Frozen(quiet, weights)(X), atol=1e-6)


def test_puvae_takes_the_reconstruction_nearest_to_the_image():
    weights = variables(VAE, X, np.arange(4) % 3)
    found = np.asarray(defenses.puvae(VAE, weights, noise=0.0)(KEYS, X))
    made = []
    for label in range(3):
        labels = np.full(4, label)
        mean, _ = VAE.apply(weights, X, labels, method="encode")
        made.append(np.asarray(VAE.apply(weights, mean, labels, method="decode")))
    error = ((np.stack(made) - X[None]) ** 2).sum((2, 3, 4))
    expected = np.stack(made)[error.argmin(0), np.arange(4)]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(error.argmin(0))) > 1  # or always the same class would pass


def test_gradients_flow_through_the_class_that_puvae_chose():
    purifier = defenses.puvae(VAE, variables(VAE, X, np.arange(4) % 3))
    gradient = jax.grad(lambda x: purifier(KEYS, x).sum())(jnp.asarray(X))
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max((1, 2, 3)) > 0).all()


def test_defense_gan_projects_onto_what_a_linear_generator_can_make():
    found = np.asarray(PURIFIERS["defense_gan"]()(KEYS, X)) - 0.5
    centred = X.reshape(4, -1) - 0.5
    expected = (centred @ BASIS.T) @ BASIS
    np.testing.assert_allclose(found.reshape(4, -1), expected, atol=1e-3)


def test_defense_gan_keeps_the_better_of_two_restarts():
    # Two basins: codes below 0 make dark images, those above make images of brightness 1/2.
    step = lambda code: jnp.where(code[:, :1] > 0, 0.5, 0.1) + 1e-4 * code[:, :1]
    generator = lambda code: jnp.broadcast_to(step(code)[:, :, None, None], (len(code), 2, 2, 1))
    x = jnp.full((64, 2, 2, 1), 0.5)
    keys = jax.random.split(jax.random.key(0), 64)
    share = {}
    for restarts in (1, 6):
        made = defenses.defense_gan(generator, 1, restarts, steps=1, lr=1e-3)(keys, x)
        share[restarts] = float((made[:, 0, 0, 0] > 0.4).mean())
    assert 0.3 < share[1] < 0.7
    assert share[6] > 0.9


@pytest.mark.parametrize("bad", [{"restarts": 0}, {"steps": 0}, {"lr": 0.0}, {"momentum": 1.0}])
def test_defense_gan_says_what_is_wrong(bad):
    with pytest.raises(InputError):
        defenses.defense_gan(flat, 3, **bad)
