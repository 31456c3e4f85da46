"""Wrappers around classifiers, and how any callable travels through jit."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdefense as jd
from jaxdefense.classifiers import apply, fold, is_random, join, split
from jaxdefense.errors import InputError

KEY = jax.random.key(0)
X = jax.random.uniform(KEY, (4, 5, 5, 3))
KEYS = jd.example_keys(KEY, 4)


def colours(x):
    return 3 * x.mean((1, 2))


def shaken(keys, x):
    return x + 0.1 * jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)


class Net(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(x.shape[0], -1))
        return nn.Dense(self.classes)(x)


# ----------------------------------------------------------------------------------- Normalized


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray, tuple, list])
def test_normalized_by_channel(kind):
    mean, std = [0.1, 0.2, 0.3], [0.5, 1.0, 2.0]
    wrapped = jd.Normalized(colours, kind(mean), kind(std))
    expected = np.stack([(X[..., c] - mean[c]) / std[c] for c in range(3)], -1)
    np.testing.assert_allclose(wrapped(X), colours(expected), rtol=1e-5)


def test_normalized_by_one_number_keeps_float32():
    result = jd.Normalized(colours, 0.5, 0.25)(X)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, colours((X - 0.5) / 0.25), rtol=1e-5)


def test_normalized_keeps_the_unit_of_eps():
    # In normalised pixels the same move would be four times as long.
    attack = jd.attacks.fgsm()
    y = colours(X).argmax(-1)
    x_adv = attack(KEY, jd.Normalized(colours, 0.5, 0.25), X, y, 0.01)
    assert abs(float(jnp.abs(x_adv - X).max()) - 0.01) < 1e-6


def test_normalized_numbers_and_arrays_travel_through_a_sweep():
    y = np.asarray(colours(X).argmax(-1))
    for mean, std in ((0.5, 0.25), (np.full(3, 0.5), jnp.full(3, 0.25))):
        result = jd.sweep(
            jd.attacks.fgsm(), jd.Normalized(colours, mean, std), X, y, [0, 0.001], KEY
        )
        assert result.clean_accuracy == 1


# ------------------------------------------------------------------------------------- Tempered


def test_tempered_divides_the_logits_and_keeps_the_predictions():
    warm = jd.Tempered(colours, 2.5)
    np.testing.assert_allclose(warm(X), colours(X) / 2.5, rtol=1e-6)
    np.testing.assert_array_equal(warm(X).argmax(-1), colours(X).argmax(-1))


def test_tempered_brings_back_the_gradient_that_saturation_hides():
    y = colours(X).argmax(-1)
    saturated = lambda x: 1e4 * colours(x)
    textbook = lambda f: lambda x: -jax.nn.log_softmax(f(x))[jnp.arange(4), y].sum()
    assert not jax.grad(textbook(saturated))(X).any()
    restored = jax.grad(textbook(jd.Tempered(saturated, 1e4)))(X)
    np.testing.assert_allclose(restored, jax.grad(textbook(colours))(X), rtol=1e-5, atol=1e-7)


def test_tempered_is_random_exactly_where_its_classifier_is():
    random = jd.Randomized(lambda keys, x: colours(shaken(keys, x)))
    assert not is_random(jd.Tempered(colours, 2.0))
    warm = jd.Tempered(random, 2.0)
    assert is_random(warm)
    np.testing.assert_allclose(warm(KEYS, X), random(KEYS, X) / 2, rtol=1e-6)


# ------------------------------------------------------------------------------ Purified, random


def test_purified_is_the_classifier_of_the_purified():
    np.testing.assert_allclose(jd.Purified(jnp.round, colours)(X), colours(jnp.round(X)), rtol=1e-6)


def test_what_is_random():
    random = jd.Randomized(lambda keys, x: colours(shaken(keys, x)))
    purifier = jd.Randomized(shaken)
    assert not is_random(colours)
    assert not is_random(jd.Purified(jnp.round, jd.Normalized(colours, 0.5, 1.0)))
    for function in (
        random,
        jd.Normalized(random, 0.5, 1.0),
        jd.Purified(jnp.round, random),
        jd.Purified(purifier, colours),
        jd.Purified(jd.Purified(jnp.round, purifier), jd.Normalized(random, 0.0, 1.0)),
    ):
        assert is_random(function)
        with pytest.raises(InputError, match=r"random.*one key per example.*example_keys"):
            apply(function, None, X)


@pytest.mark.parametrize("random", ["purifier", "classifier", "both"])
def test_a_purified_without_keys_says_what_it_needs(random):
    purifier = jnp.round if random == "classifier" else jd.Randomized(shaken)
    classifier = (
        colours if random == "purifier" else jd.Randomized(lambda k, x: colours(shaken(k, x)))
    )
    deployed = jd.Purified(purifier, classifier)
    assert deployed(KEYS, X).shape == (4, 3)
    with pytest.raises(InputError, match="needs one key per example"):
        deployed(X)


def test_purifier_and_classifier_draw_from_different_keys():
    draw = lambda keys, x: jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:]))(keys)
    both = jd.Purified(jd.Randomized(draw), jd.Randomized(lambda keys, x: x - draw(keys, x)))
    difference = np.asarray(both(KEYS, X))
    assert (np.abs(difference) > 1e-3).mean() > 0.9
    np.testing.assert_array_equal(difference, both(KEYS, X))
    alone = both(KEYS[2:], X[2:])
    np.testing.assert_array_equal(alone, difference[2:])


def test_folding_gives_every_example_its_own_key():
    once, other = fold(KEYS, 1), fold(KEYS, 2)
    data = np.concatenate([jax.random.key_data(k) for k in (KEYS, once, other)])
    assert len(np.unique(data, axis=0)) == 12


# ------------------------------------------------------------------------------------- through jit


def frozen(seed=0, **settings):
    return jd.Frozen(Net(), Net().init(jax.random.key(seed), X), **settings)


def traced():
    traces = []

    @jax.jit
    def run(classifier, x):
        traces.append(1)
        return classifier(x)

    return run, traces


def test_equal_modules_share_a_program_and_others_do_not():
    run, traces = traced()
    for seed in range(3):
        np.testing.assert_allclose(run(frozen(seed), X), frozen(seed)(X), rtol=1e-5)
    assert len(traces) == 1
    run(jd.Frozen(Net(classes=4), Net(classes=4).init(KEY, X)), X)
    run(frozen(settings=(("train", False),)), X)
    assert len(traces) == 3


def test_wrappers_are_pytrees_whose_numbers_are_arguments():
    run, traces = traced()
    for seed in range(3):
        deployed = jd.Purified(
            jax.tree_util.Partial(jnp.add, jnp.float32(seed)),
            jd.Normalized(frozen(seed), jnp.full(3, 0.1 * seed), jnp.ones(3)),
        )
        np.testing.assert_allclose(run(deployed, X), deployed(X), rtol=1e-4, atol=1e-5)
    assert len(traces) == 1


def test_frozen_passes_settings_and_needs_no_dropout_key():
    np.testing.assert_array_equal(frozen()(X), frozen(settings=(("train", False),))(X))
    with pytest.raises(Exception, match="dropout"):
        frozen(settings=(("train", True),))(X)


class NnxNet(nnx.Module):
    def __init__(self, seed=0):
        self.dense = nnx.Linear(75, 3, rngs=nnx.Rngs(seed))
        self.scale = 2.0

    def __call__(self, x):
        return self.scale * self.dense(x.reshape(x.shape[0], -1))


def equinox(seed=0):
    mlp = eqx.nn.MLP(75, 3, 8, 1, key=jax.random.key(seed))
    return Flat(mlp)


class Flat(eqx.Module):
    inner: eqx.Module

    def __call__(self, x):
        return jax.vmap(self.inner)(x.reshape(x.shape[0], -1))


BUILDERS = {
    "frozen": frozen,
    "nnx": NnxNet,
    "equinox": equinox,
    "function": lambda seed=0: lambda x: colours(x) + seed,
    "mixed": lambda seed=0: jd.Purified(jnp.round, jd.Normalized(equinox(seed), 0.5, np.ones(3))),
}


@pytest.mark.parametrize("kind", BUILDERS)
def test_split_and_join_are_inverse(kind):
    function = BUILDERS[kind]()
    arrays, static = split(function)
    assert (len(arrays) == 0) == (kind == "function")
    np.testing.assert_array_equal(join(arrays, static)(X), function(X))
    doubled = [2 * array for array in arrays]
    if arrays:
        assert not np.array_equal(join(doubled, static)(X), function(X))
    run = jax.jit(lambda static, arrays, x: join(arrays, static)(x), static_argnums=0)
    np.testing.assert_allclose(run(static, arrays, X), function(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["frozen", "nnx", "equinox", "mixed"])
def test_what_is_not_an_array_compares_by_value(kind):
    one, other = split(BUILDERS[kind](0))[1], split(BUILDERS[kind](1))[1]
    assert one == other
    assert hash(one) == hash(other)
    assert one != split(BUILDERS["function"]())[1]
    assert one != "something else"


def test_other_functions_in_the_same_place_are_told_apart():
    one, other = (split(jd.Purified(f, colours))[1] for f in (jnp.round, jnp.abs))
    assert one != other


class Unhashable:
    __hash__ = None

    def __call__(self, x):
        return colours(x)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: jd.Purified(jnp.round, f)])
def test_what_cannot_be_hashed_says_so(wrap):
    y = np.asarray(colours(X).argmax(-1))
    classifier = wrap(Unhashable())
    message = r"neither an array nor hashable.*Unhashable.*plain function: lambda x: model\(x\)"
    with pytest.raises(InputError, match=message):
        hash(split(classifier)[1])
    with pytest.raises(InputError, match=message):
        jd.sweep(jd.attacks.fgsm(), classifier, X, y, [0.1], KEY)
    with pytest.raises(InputError, match=message):
        jd.attacks.fgsm()(KEY, classifier, X, y, 0.1)
    # The advice works.
    assert jd.sweep(jd.attacks.fgsm(), lambda x: classifier(x), X, y, [0.1], KEY).n == 4
