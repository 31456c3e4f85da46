"""Objectives: values against numpy, finite gradients, randomness from the key alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_training import SIDE, TinyAutoencoder, TinyNet, data, variables

from jaxdefense import Frozen, attacks, linf
from jaxdefense.classifiers import split
from jaxdefense.errors import InputError
from jaxdefense.training import (
    denoising,
    gaussian_noise,
    reconstruction,
    supervised,
    with_augmentation,
)
from jaxdefense.training.objectives import adversarial


@functools.cache
def compiled(objective):
    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def evaluated(objective, model, key=0, x=None, y=None):
    """Loss, new state, metrics and gradients of an objective on tiny data."""
    images, labels = data(16)
    x = images.astype(np.float32) / 255 if x is None else x
    y = labels if y is None else y
    made = variables(model)
    params = made.pop("params")
    graded = compiled(objective)
    (loss, (state, metrics)), gradients = graded(params, made, jax.random.key(key), x, y)
    return loss, state, metrics, gradients


PGD, EPS, DEPLOY = attacks.pgd(linf, 3), 0.2, functools.partial(Frozen, TinyNet())
OBJECTIVES = {
    "supervised": (TinyNet(), supervised(TinyNet())),
    "other loss": (TinyNet(), supervised(TinyNet(), loss=lambda z, y: z[:, 0] ** 2 + 0 * y)),
    "behind a purifier": (TinyNet(), supervised(TinyNet(), preprocess=lambda x: x**2)),
    "reconstruction": (TinyAutoencoder(), reconstruction(TinyAutoencoder())),
    "denoising": (TinyAutoencoder(), denoising(TinyAutoencoder(), gaussian_noise(0.3))),
    "augmented": (
        TinyAutoencoder(),
        with_augmentation(reconstruction(TinyAutoencoder()), gaussian_noise(0.1)),
    ),
    "adversarial": (TinyNet(), adversarial(supervised(TinyNet()), PGD, EPS, DEPLOY)),
}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_loss_and_gradients_are_finite_and_not_all_zero(name):
    model, objective = OBJECTIVES[name]
    loss, state, metrics, gradients = evaluated(objective, model)
    assert jnp.isfinite(loss)
    assert metrics["loss"] == loss
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    assert set(state) == ({"batch_stats"} if isinstance(model, TinyNet) else set())


def test_supervised_is_cross_entropy_and_accuracy():
    model = TinyAutoencoder()  # its pixels serve as the logits

    class Flat(TinyAutoencoder):
        def __call__(self, x, train=False):
            return super().__call__(x, train).reshape(len(x), -1)

    x, y = data(16)
    x = x.astype(np.float32) / 255
    loss, _, metrics, _ = evaluated(supervised(Flat()), model)
    logits = np.asarray(Flat().apply(variables(model), x), np.float64)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(16), y]
    assert float(loss) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((logits.argmax(1) == y).mean())


def test_supervised_updates_batch_statistics():
    _, state, _, _ = evaluated(*OBJECTIVES["supervised"][::-1])
    old = variables(TinyNet())["batch_stats"]
    moved = jax.tree.map(lambda a, b: bool(np.abs(a - b).max() > 0), state["batch_stats"], old)
    assert jax.tree.all(moved)


def test_no_gradient_flows_into_the_purifier():
    model = TinyNet()
    made = variables(model)
    params = made.pop("params")
    x, y = data(8)
    x = x.astype(np.float32) / 255

    def loss(shift):
        objective = supervised(model, preprocess=lambda x: x + shift)
        return objective(params, made, jax.random.key(0), x, y)[0]

    assert jax.jit(jax.grad(loss))(0.1) == 0
    assert loss(0.0) != loss(0.5)


def test_reconstruction_is_the_mean_squared_error():
    x = data(16)[0].astype(np.float32) / 255
    loss, *_ = evaluated(*OBJECTIVES["reconstruction"][::-1])
    restored = TinyAutoencoder().apply(variables(TinyAutoencoder()), x)
    assert float(loss) == pytest.approx(float(np.mean((np.asarray(restored) - x) ** 2)), rel=1e-5)


def test_denoising_compares_with_the_clean_image_and_draws_from_the_key():
    model = TinyAutoencoder()
    grey = denoising(model, lambda key, x: jnp.full_like(x, 0.5))
    clean, *_ = evaluated(grey, model)
    x = data(16)[0].astype(np.float32) / 255
    restored = np.asarray(model.apply(variables(model), np.full_like(x, 0.5)))
    assert float(clean) == pytest.approx(float(np.mean((restored - x) ** 2)), rel=1e-5)
    _, noisy = OBJECTIVES["denoising"]
    losses = [float(evaluated(noisy, model, key)[0]) for key in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_dropout_draws_from_the_key():
    _, objective = OBJECTIVES["supervised"]
    losses = [float(evaluated(objective, TinyNet(), key)[0]) for key in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_augmentation_sees_the_images_and_another_key_than_the_objective():
    seen = []

    def augment(key, x):
        seen.append(("augment", jax.random.key_data(key).tolist()))
        return 1 - x

    def objective(params, state, key, x, y):
        seen.append(("objective", jax.random.key_data(key).tolist()))
        return x.sum(), (state, {})

    x = jnp.full((2, SIDE, SIDE, 1), 0.25)
    total, _ = with_augmentation(objective, augment)({}, {}, jax.random.key(3), x, None)
    assert float(total) == 0.75 * x.size
    assert [who for who, _ in seen] == ["augment", "objective"]
    assert seen[0][1] != seen[1][1]


def test_adversarial_is_the_objective_on_what_the_attack_makes_of_the_current_parameters():
    x, y = data(16)
    x = x.astype(np.float32) / 255
    attack_key, key = jax.random.split(jax.random.key(3))
    x_adv = PGD(attack_key, DEPLOY(variables(TinyNet())), x, y, EPS)
    assert float(jnp.abs(x_adv - x).max()) == pytest.approx(EPS, rel=1e-5)
    made = variables(TinyNet())
    expected = compiled(supervised(TinyNet()))(made.pop("params"), made, key, x_adv, y)
    found = evaluated(*OBJECTIVES["adversarial"][::-1], key=3)
    assert float(found[0]) == pytest.approx(float(expected[0][0]), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found[3], expected[1])
    assert float(found[0]) > 1.1 * float(evaluated(*OBJECTIVES["supervised"][::-1], key=3)[0])


def test_all_radii_share_a_program():
    made = [adversarial(supervised(TinyNet()), PGD, eps, DEPLOY) for eps in (0.1, 0.2)]
    (one, structure), (other, same) = map(split, made)
    assert structure == same
    assert sorted({*one} ^ {*other}) == pytest.approx([0.1, 0.2])


def test_adversarial_deploys_all_variables_and_no_gradient_flows_through_the_attack():
    def attack(key, classifier, x, y, eps):
        seen.append((jax.random.key_data(key).tolist(), jax.tree.structure(classifier.variables)))
        return x + eps * classifier.variables["params"]["w"] + classifier.variables["stats"]

    def objective(params, state, key, x, y):
        seen.append(jax.random.key_data(key).tolist())
        return (x * params["w"]).sum(), (state, {})

    seen = []
    hardened = adversarial(objective, attack, 0.5, functools.partial(Frozen, None))
    x = jnp.full((1, 2, 2, 1), 0.25)
    loss = lambda w: hardened({"w": w}, {"stats": 1.0}, jax.random.key(3), x, None)[0]
    value, gradient = jax.value_and_grad(loss)(2.0)
    assert (float(value), float(gradient)) == (18.0, 9.0)  # 4 pixels of 0.25 + 0.5 * 2 + 1, times 2
    assert seen[0][0] != seen[1]
    assert seen[0][1] == jax.tree.structure({"params": {"w": 0}, "stats": 0})


def test_gaussian_noise_has_its_sigma_and_stays_in_the_box():
    x = jnp.full((50, 8, 8, 1), 0.5)
    noisy = gaussian_noise(0.1)(jax.random.key(0), x)
    assert float((noisy - x).std()) == pytest.approx(0.1, rel=0.05)
    rough = gaussian_noise(1.0)(jax.random.key(0), x)
    assert (float(rough.min()), float(rough.max())) == (0.0, 1.0)


@pytest.mark.parametrize("sigma", [-0.1, 25.0, float("nan"), float("inf")])
def test_gaussian_noise_rejects_a_sigma_outside_the_unit_of_the_images(sigma):
    with pytest.raises(InputError, match=r"0-255 units"):
        gaussian_noise(sigma)
