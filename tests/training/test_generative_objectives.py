"""Training of generative models, and of a purifier on adversarial images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import OBJECTIVE, TinyAutoencoder, TinyNet, assert_same, data, train
from tiny_training import variables as tiny

from jaxdefense import Frozen, attacks, linf, models
from jaxdefense.errors import InputError
from jaxdefense.training import (
    fit,
    in_turn,
    paired,
    purification,
    reconstruction,
    restoration,
    variational,
    wasserstein,
)

X, Y = data(20)
IMAGES = X.astype(np.float32) / 255
VAE = models.ConditionalVAE(
    image_shape=(4, 4, 1), num_classes=3, latent=2, features=2, layers=1, kernel=2, hidden=8
)
GAN = models.GAN(
    generator=models.Generator(image_shape=(4, 4, 1), latent=3, features=2),
    critic=models.Critic(features=2),
)


def drawn(model, *inputs, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32)
    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), *inputs))


@functools.cache
def vae():
    return drawn(VAE, IMAGES, Y)


@functools.cache
def gan():
    return drawn(GAN, IMAGES)


def value(objective, variables, x=IMAGES, key=0):
    call = jax.jit(objective)
    return call(variables["params"], {}, jax.random.key(key), x, Y[: len(x)])


def test_the_divergence_of_a_standard_normal_is_nothing():
    told = {}

    class Fixed:
        def apply(self, variables, x, *, train, mutable, rngs, method, labels):
            told["train"] = train
            mean = jnp.full((len(x), 2), variables["params"]["mean"])
            std = jnp.full((len(x), 2), variables["params"]["std"])
            return (jnp.full(x.shape, 0.5), mean, std), {}

    for mean, std in ((0.0, 1.0), (0.5, 0.8)):
        params = {"params": {"mean": jnp.float32(mean), "std": jnp.float32(std)}}
        _, (_, metrics) = value(variational(Fixed()), params)
        closed = 2 * (0.5 * (mean**2 + std**2 - 1) - np.log(std))
        assert float(metrics["divergence"]) == pytest.approx(closed, abs=1e-6)
        assert float(metrics["reconstruction"]) == pytest.approx(16 * np.log(2), rel=1e-5)
        expected = 0.01 * 16 * np.log(2) + 0.1 * closed
        assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
    assert told["train"]


def test_a_classifier_adds_its_cross_entropy_on_reconstructions():
    classifier = Frozen(TinyNet(), tiny(TinyNet()))
    plain, _ = value(variational(VAE), vae())
    helped, (_, metrics) = value(variational(VAE, classifier), vae())
    doubled, _ = value(variational(VAE, classifier, classification=20.0), vae())
    assert helped > plain
    assert float(doubled - plain) == pytest.approx(2 * float(helped - plain), rel=1e-4)
    assert 0 <= float(metrics["accuracy"]) <= 1


def test_the_vae_learns_to_reconstruct():
    result = fit(
        variational(VAE, reconstruction=1.0, divergence=0.01), vae(), optax.adam(2e-2), X, Y,
        key=jax.random.key(0), epochs=120, batch_size=20, progress=False,
    )  # fmt: skip
    first, last = result.history[0]["reconstruction"], result.history[-1]["reconstruction"]
    inside = np.clip(IMAGES, 1e-6, 1 - 1e-6)  # grey pixels have an entropy of their own
    least = -(IMAGES * np.log(inside) + (1 - IMAGES) * np.log(1 - inside)).sum((1, 2, 3)).mean()
    assert last - least < 0.5 * (first - least)


def _moved(before, after, part):
    pairs = zip(
        jax.tree.leaves(before["params"][part]), jax.tree.leaves(after["params"][part]), strict=True
    )
    return any(not np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("turn", "moves"), [(0, "critic"), (-1, "generator")])
def test_each_network_is_moved_by_its_own_updates_only(turn, moves):
    only = in_turn(wasserstein(GAN, updates=1).objectives[turn])
    result = fit(
        only, gan(), optax.adam(1e-2), X, Y, key=jax.random.key(0), epochs=1, batch_size=20,
        progress=False,
    )  # fmt: skip
    for part in ("critic", "generator"):
        assert _moved(gan(), result.variables, part) == (part == moves)


def test_the_penalty_holds_the_slope_of_the_critic_at_one():
    class Linear:
        generator = models.Generator(image_shape=(4, 4, 1), latent=3)

        def apply(self, variables, given, method=None):
            if method == "generate":
                return jnp.zeros((len(given), 4, 4, 1))
            return variables["params"]["critic"] * given.sum((1, 2, 3))

    critic = wasserstein(Linear(), updates=1).objectives[0]
    for weight in (0.25, 0.5):
        params = {"params": {"critic": jnp.float32(weight), "generator": jnp.float32(0)}}
        loss, (_, metrics) = value(critic, params)
        slope = 4 * weight  # 16 pixels of the same weight
        distance = weight * IMAGES.sum((1, 2, 3)).mean()
        assert float(metrics["penalty"]) == pytest.approx((slope - 1) ** 2, abs=1e-5)
        assert float(metrics["distance"]) == pytest.approx(distance, rel=1e-5)
        assert float(loss) == pytest.approx(10 * (slope - 1) ** 2 - distance, rel=1e-4)


def test_a_trained_generator_makes_images_as_bright_as_the_real_ones():
    bright = np.full((40, 4, 4, 1), 230, np.uint8)
    result = fit(
        wasserstein(GAN, updates=2), gan(), optax.adam(1e-2, 0.5, 0.9), bright, np.zeros(40, int),
        key=jax.random.key(0), epochs=150, batch_size=40, progress=False,
    )  # fmt: skip
    code = jax.random.normal(jax.random.key(1), (50, 3))
    made = GAN.apply(result.variables, code, method="generate")
    before = GAN.apply(gan(), code, method="generate")
    assert abs(float(made.mean()) - 0.9) < 0.1 < abs(float(before.mean()) - 0.9)


def test_turns_may_share_the_state_of_the_optimizer():
    """Two updates in one step are then two steps of a training by one objective."""
    objective = reconstruction(TinyAutoencoder())
    x, y = data(8)
    about = {
        "x_train": x,
        "y_train": y,
        "variables": tiny(TinyAutoencoder()),
        "batch_size": 8,
        "optimizer": optax.adam(1e-2),
    }
    two = train(objective=objective, epochs=2, **about)
    shared = train(objective=in_turn(objective, objective, states=(0, 0)), epochs=1, **about)
    apart = train(objective=in_turn(objective, objective), epochs=1, **about)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, shared.variables, two.variables)
    with pytest.raises(AssertionError):
        jax.tree.map(close, apart.variables, two.variables)


@pytest.mark.parametrize("states", [(0,), (0, 2), (1, 1)])
def test_states_without_sense_are_an_error(states):
    with pytest.raises(InputError, match="states"):
        in_turn(OBJECTIVE, OBJECTIVE, states=states)


def test_purification_without_a_radius_is_reconstruction():
    net = Frozen(TinyNet(), tiny(TinyNet()))
    model = TinyAutoencoder()
    found, _ = value(purification(model, attacks.fgsm(linf), 0.0, net), tiny(model))
    expected, _ = value(reconstruction(model), tiny(model))
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_purification_restores_what_was_attacked():
    net, model, attack = Frozen(TinyNet(), tiny(TinyNet())), TinyAutoencoder(), attacks.fgsm(linf)
    x_adv = attack(jax.random.key(0), net, IMAGES, Y, 0.1)
    weights = tiny(model)
    restored = model.apply(weights, x_adv)
    found, _ = value(purification(model, attack, 0.1, net), weights)
    assert float(found) == pytest.approx(float(((restored - IMAGES) ** 2).mean()), rel=1e-4)
    half = jnp.where((jnp.arange(20) < 10)[:, None, None, None], IMAGES, x_adv)
    mixed, _ = value(purification(model, attack, 0.1, net, clean=0.5), weights)
    expected = ((model.apply(weights, half) - IMAGES) ** 2).mean()
    assert float(mixed) == pytest.approx(float(expected), rel=1e-4)


def test_restoration_compares_what_is_made_of_the_given_with_the_wanted():
    model, weights = TinyAutoencoder(), tiny(TinyAutoencoder())
    given, wanted = X, X[::-1].copy()
    pairs = paired(given, wanted).astype(np.float32) / 255
    objective = restoration(model)
    found, _ = objective(weights["params"], {}, jax.random.key(0), pairs, Y)
    made = model.apply(weights, given.astype(np.float32) / 255)
    expected = ((made - wanted.astype(np.float32) / 255) ** 2).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_smaller_than_the_critics_updates_is_refused():
    with pytest.raises(InputError, match="larger batches"):
        fit(
            wasserstein(GAN), gan(), optax.adam(1e-3), X[:4], Y[:4], key=jax.random.key(0),
            epochs=1, batch_size=4, progress=False,
        )  # fmt: skip


def test_pairs_are_of_one_size():
    with pytest.raises(InputError, match="needs a counterpart of its size"):
        paired(X, X[:-1])


def test_purifiers_of_other_classifiers_share_a_program():
    nets = [Frozen(TinyNet(), tiny(TinyNet(), seed)) for seed in (0, 1)]
    model, x, optimizer = TinyAutoencoder(), X, optax.adam(1e-2)
    attack = attacks.fgsm(linf)
    compiled = []

    def heard(event, duration, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    for net in nets:
        if net is nets[1]:
            jax.monitoring.register_event_duration_secs_listener(heard)
        fit(purification(model, attack, 0.1, net), tiny(model), optimizer, x, Y,
            key=jax.random.key(0), epochs=1, batch_size=20, progress=False)  # fmt: skip
    assert not compiled
    assert_same(nets[0].variables, tiny(TinyNet(), 0))
