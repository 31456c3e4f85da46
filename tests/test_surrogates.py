"""Surrogates: straight-through gradients, averages over draws, input diversity, ensembles."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks.probe import _ANSWER, Goal, make_probe
from jaxdefense.classifiers import apply, fold, is_random
from jaxdefense.errors import InputError
from jaxdefense.surrogates import bpda, diverse, ensemble, eot, evaluations
from tests.conftest import Linear

KEY = jax.random.key(11)
WEIGHTS = Linear.weights()
LINEAR = Linear.classifier(WEIGHTS)
X, Y = Linear.data(count=12)
KEYS = jd.example_keys(KEY, len(X))
PGD = attacks.pgd(jd.linf, 8)


class Flat(nn.Module):
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, dtype=self.dtype)(x.reshape(len(x), -1))


def coarse(x):
    return jnp.round(4 * x) / 4


def accuracy(attack, deployed, surrogate=None, eps=0.2):
    """Robust accuracy among the examples the deployed function gets right clean."""
    curve = jd.sweep(attack, deployed, X, Y, [eps], KEY, surrogate)
    assert curve.clean_accuracy >= 0.75
    assert curve.violations == 0
    return curve.robust_accuracy[0] / curve.clean_accuracy


# --------------------------------------------------------------------------------------- BPDA


def test_bpda_answers_as_the_purifier_and_differentiates_as_the_backward_pass():
    through = bpda(coarse, lambda x: 3 * jnp.sin(x))
    np.testing.assert_array_equal(through(X), coarse(X))
    gradient = jax.grad(lambda x: through(x).sum())(X)
    np.testing.assert_allclose(gradient, 3 * jnp.cos(X), rtol=1e-6)
    straight = jax.grad(lambda x: (LINEAR(bpda(coarse)(x)) ** 2).sum())(X)
    np.testing.assert_allclose(straight, jax.grad(lambda x: (LINEAR(x) ** 2).sum())(coarse(X)))


def test_bpda_breaks_a_rounding_purifier_that_pgd_does_not():
    deployed = jd.Purified(coarse, LINEAR)
    assert accuracy(attacks.bim(), deployed) == 1.0  # the gradient is zero
    assert accuracy(PGD, deployed, jd.Purified(bpda(coarse), LINEAR)) < 0.1


_MIX = jnp.linalg.qr(jax.random.normal(jax.random.key(5), (48, 48)))[0]


def _mixed(x):
    """An orthogonal mixture of all pixels: what comes out does not look like what went in."""
    return 0.5 + ((x - 0.5).reshape(len(x), -1) @ _MIX).reshape(x.shape)


def _host_purifier(x):
    rounded = lambda x: np.round(16 * np.asarray(x), 0).astype(np.float32) / 16
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(rounded, shape, _mixed(x), vmap_method="sequential")


def test_bpda_with_a_learned_backward_pass_gets_through_the_host():
    """No rule differentiates a host callback, and the identity is not what this one does."""
    with pytest.raises(ValueError, match="JVP"):
        jax.grad(lambda x: _host_purifier(x).sum())(X)
    seen = jax.random.uniform(jax.random.key(6), (400, *Linear.SHAPE))
    flat = lambda x: np.asarray(x).reshape(len(x), -1)
    fitted = jnp.asarray(np.linalg.lstsq(flat(seen) - 0.5, flat(_host_purifier(seen)) - 0.5)[0])
    learned = jax.tree_util.Partial(_fitted, fitted)

    # Unmixes first, so that it classifies as the plain network does.
    net = lambda x: LINEAR(0.5 + ((x - 0.5).reshape(len(x), -1) @ _MIX.T).reshape(x.shape))
    deployed = jd.Purified(_host_purifier, net)
    identity = accuracy(PGD, deployed, jd.Purified(bpda(_host_purifier), net))
    substitute = accuracy(PGD, deployed, jd.Purified(bpda(_host_purifier, learned), net))
    assert substitute < 0.1
    assert identity > substitute + 0.3


def _fitted(weights, x):
    return 0.5 + ((x - 0.5).reshape(len(x), -1) @ weights).reshape(x.shape)


def test_bpda_of_a_random_purifier_repeats_its_draw():
    noise = lambda keys, x: x + jax.vmap(lambda k: 0.3 * jax.random.normal(k, x.shape[1:]))(keys)
    purifier = jd.Randomized(lambda keys, x: coarse(noise(keys, x)))
    squared = jd.Randomized(lambda keys, x: noise(keys, x) ** 2)
    through = bpda(purifier, squared)
    assert is_random(through)
    assert is_random(jd.Purified(through, LINEAR))
    np.testing.assert_array_equal(through(KEYS, X), purifier(KEYS, X))
    gradient = jax.grad(lambda x: through(KEYS, x).sum())(X)
    np.testing.assert_allclose(gradient, 2 * noise(KEYS, X), rtol=1e-5)
    # Only one of the two may be random as well.
    np.testing.assert_array_equal(bpda(coarse, squared)(KEYS, X), coarse(X))
    np.testing.assert_array_equal(bpda(purifier)(KEYS, X), purifier(KEYS, X))


def test_bpda_is_not_moved_by_nan_in_its_backward_pass():
    torn = lambda x: jnp.where(x > 0.5, jnp.nan, x)
    np.testing.assert_array_equal(bpda(coarse, torn)(X), coarse(X))
    rates = jax.jit(jax.grad(lambda x: bpda(coarse, lambda x: jnp.log(x - 0.5))(x).sum()))(X)
    assert jnp.isfinite(rates[X > 0.5]).all()


def test_bpda_wants_images_of_one_size():
    with pytest.raises(InputError, match="images of the purifier's size"):
        bpda(lambda x: x[:, ::2])(X)


def test_parameters_of_surrogates_travel_through_jit():
    traces = []

    def scaled(scale, x):
        traces.append(1)
        return coarse(scale * x)

    for seed in range(3):
        through = bpda(jax.tree_util.Partial(scaled, jnp.float32(1 + seed)))
        member = Linear.classifier(Linear.weights(seed))
        both = ensemble(jd.Purified(through, member), diverse(member))
        attacks.fgsm()(KEY, both, X, Y, 0.1)
        if seed == 0:
            first = len(traces)
    assert len(traces) == first > 0


# ---------------------------------------------------------------------------------------- EOT

_NOISE = 0.5
SEEN = fold(KEYS, _ANSWER)  # the keys by which a probe calls what it attacks


def _noisy(keys, x):
    draw = lambda key: _NOISE * jax.random.normal(key, x.shape[1:])
    return LINEAR(x + jax.vmap(draw)(keys))


def closed_form(of, draws):
    """The gradient of cross-entropy by hand: W (p - e_y) of each draw, or of the mean logits."""
    logits = jnp.stack([_noisy(fold(SEEN, i), X) for i in range(draws)])
    logits = logits if of == "losses" else logits.mean(0)[None]
    slope = jax.nn.softmax(logits) - jax.nn.one_hot(Y, 3)[None]
    return (slope.mean(0) @ WEIGHTS.T).reshape(X.shape)


def test_eot_has_the_gradient_of_the_mean():
    drawn = jnp.stack([_noisy(fold(SEEN, i), X) for i in range(5)]).mean(0)
    worth = {}
    for of in ("losses", "logits"):
        probe = make_probe(losses.cross_entropy, eot(jd.Randomized(_noisy), 5, of))
        reading, gradient = jax.jit(probe.differentiate)(KEYS, X, Goal(Y, Y))
        np.testing.assert_allclose(gradient, closed_form(of, 5), atol=1e-5)
        # Success is judged by the mean logits in both.
        np.testing.assert_allclose(reading.ahead, losses.margin(drawn, Y), atol=1e-4)
        worth[of] = reading.loss
    # The two are not the same; by Jensen the mean loss is the larger.
    assert jnp.abs(closed_form("losses", 5) - closed_form("logits", 5)).max() > 0.01
    assert (worth["losses"] > worth["logits"] - 1e-6).all()
    assert (worth["losses"] > worth["logits"] + 1e-4).any()


def _hides_most(keys, x):
    """Shows the classifier one pixel in four, others each time."""
    seen = jax.vmap(lambda key: jax.random.bernoulli(key, 1 / 4, x.shape[1:]))(keys)
    return 0.5 + jnp.where(seen, x - 0.5, 0.0)


def test_eot_breaks_a_random_defence_where_single_draws_are_weaker():
    deployed = eot(jd.Purified(jd.Randomized(_hides_most), LINEAR), 60, "logits")
    one = jd.Purified(jd.Randomized(_hides_most), LINEAR)
    attack = attacks.bim(steps=2, step_size=0.5)
    single = accuracy(attack, deployed, one, eps=0.1)
    averaged = accuracy(attack, deployed, eot(one, 30), eps=0.1)
    assert averaged < single - 0.2


def test_probabilities_count_votes_where_logits_count_shouts():
    """Six draws of ten are a little for class 0, the others by far for class 1."""
    shout = lambda key, x: jnp.where(jax.random.uniform(key) < 0.6, 1.0, -10.0)
    says = lambda keys, x: jnp.stack([s := jax.vmap(shout)(keys, x) / 2, -s], -1)
    draws = jd.Randomized(says)
    x, y = jnp.full((4, 2, 2, 1), 0.5), jnp.zeros(4, int)
    keys = jd.example_keys(KEY, 4)
    logits = eot(draws, 400, "logits")(keys, x)
    mean = eot(draws, 400, "probabilities")(keys, x)
    assert (logits.argmax(-1) == 1).all()
    # 0.6 sigmoid(1) + 0.4 sigmoid(-10)
    np.testing.assert_allclose(jnp.exp(mean[:, 0]), 0.6 * 0.7311, atol=0.06)
    np.testing.assert_allclose(jnp.exp(mean).sum(-1), 1, rtol=1e-5)
    probe = make_probe(losses.cross_entropy, eot(draws, 400, "probabilities"))
    reading = probe.read(keys, x, Goal(y, y))
    np.testing.assert_allclose(reading.loss, -jnp.log(0.6 * 0.7311), atol=0.15)


def test_a_search_shares_no_random_numbers_with_what_it_attacks():
    """Else it would know the noise that it cannot know: directions, starts, and draws apart."""
    drawn = jd.Randomized(lambda keys, x: jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys))
    probe = make_probe(losses.margin, drawn)
    own = jax.vmap(lambda key: jax.random.normal(key, (3,)))
    assert not np.isclose(probe.logits(KEYS, X), own(KEYS)).any()
    for step in range(3):
        assert not np.isclose(probe.logits(KEYS, X), own(fold(KEYS, step))).any()
    deployed = eot(drawn, 5)
    assert not np.isclose(make_probe(losses.margin, deployed).logits(KEYS, X), own(KEYS)).any()


def test_a_sweep_calls_eot_of_the_deployed_function_white_box():
    deployed = jd.Randomized(_noisy)
    knowledge = lambda s: jd.sweep(attacks.fgsm(), deployed, X, Y, [0.1], KEY, s).knowledge
    assert knowledge(eot(deployed, 2)) == "white-box"
    assert knowledge(eot(LINEAR, 2)) == "surrogate"
    assert knowledge(bpda(LINEAR, LINEAR)) == "surrogate"


def test_eot_of_what_is_not_random_is_the_same_function():
    np.testing.assert_allclose(eot(LINEAR, 3)(X), LINEAR(X), rtol=1e-5, atol=1e-5)
    for draws, of in ((0, "losses"), (2, "margins")):
        with pytest.raises(InputError):
            eot(LINEAR, draws, of)


# ---------------------------------------------------------------------------- input diversity

WHITE = jnp.ones((64, 10, 10, 1))


@functools.partial(jax.jit, static_argnums=(1, 2))
def shown(x, probability=1.0, smallest=0.5, keys=None):
    """What the classifier behind the transformation gets to see."""
    keys = jd.example_keys(KEY, len(x)) if keys is None else keys
    flat = lambda x: x.reshape(len(x), -1)
    return diverse(flat, probability, smallest)(keys, x).reshape(x.shape)


def test_diverse_shrinks_to_whole_pixels_and_pads_with_zeros():
    seen = np.asarray(shown(WHITE))[..., 0]
    inside = seen > 0.5
    np.testing.assert_allclose(seen, inside, atol=1e-5)  # white stays white, the rest is black
    heights, widths = inside.any(2).sum(1), inside.any(1).sum(1)
    np.testing.assert_array_equal(heights, widths)
    np.testing.assert_array_equal(inside.sum((1, 2)), heights * widths)  # one rectangle
    assert set(heights) == {5, 6, 7, 8, 9, 10}
    tops, lefts = inside.any(2).argmax(1)[heights == 6], inside.any(1).argmax(1)[heights == 6]
    assert len(set(zip(tops.tolist(), lefts.tolist(), strict=True))) > 3
    # The default is no idle transformation on images as small as the smallest data sets'.
    small = np.asarray(shown(WHITE[:, :4, :4], 1.0, 0.9))[..., 0]
    assert set((small > 0.5).any(2).sum(1)) == {3, 4}


def test_diverse_keeps_the_picture():
    """A ramp stays a ramp: resized, not cut out."""
    ramp = jnp.broadcast_to(jnp.linspace(0.1, 1, 10)[:, None, None], WHITE.shape)
    for image in np.asarray(shown(ramp))[:20, ..., 0]:
        column = image[:, image.any(0)][:, 0]
        column = column[column > 0.05]
        assert (np.diff(column) > 0).all()
        assert column[0] < 0.25
        assert column[-1] > 0.85


def test_diverse_transforms_as_often_as_told():
    x = jax.random.uniform(jax.random.key(2), (400, 6, 6, 1))
    same = (shown(x, 0.3) == x).all((1, 2, 3)).mean()
    # With the largest of the sizes 3, 4, 5, 6 nothing changes either.
    assert abs(same - (0.7 + 0.3 / 4)) < 0.07
    np.testing.assert_array_equal(shown(x, 0.0), x)


def test_diverse_draws_for_each_row_from_its_own_key():
    x, keys = jax.random.uniform(jax.random.key(2), WHITE.shape), jd.example_keys(KEY, 64)
    whole, order = shown(x, keys=keys), np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(shown(x[order], keys=keys[order]), whole[order])
    assert (shown(x, keys=keys[order]) != whole).any((1, 2, 3)).mean() > 0.5


def test_momentum_on_diverse_inputs_transfers_and_uses_its_draws():
    attack, surrogate = attacks.mifgsm(steps=5), diverse(LINEAR, 1.0, 0.5)
    assert is_random(surrogate)
    curve = jd.sweep(attack, LINEAR, X, Y, [0.3], KEY, surrogate)
    assert (curve.knowledge, curve.violations) == ("surrogate", 0)
    assert 0 < curve.robust_accuracy[0] < 0.7  # 4 x 4 pixels of noise are no picture to resize
    assert jnp.isfinite(diverse(jd.Randomized(_noisy))(KEYS, X)).all()


@pytest.mark.parametrize("settings", [(1.5, 0.9), (0.5, 0.0), (0.5, 1.1), (-0.1, 0.9)])
def test_diverse_refuses_what_is_no_share(settings):
    with pytest.raises(InputError, match="shares"):
        diverse(LINEAR, *settings)


# ----------------------------------------------------------------------------------- ensembles


def test_ensemble_is_the_mean_of_logits():
    others = [Linear.classifier(Linear.weights(seed)) for seed in (1, 2)]
    together = ensemble(LINEAR, *others)
    expected = Linear.classifier(sum(Linear.weights(s) for s in range(3)) / 3)(X)
    np.testing.assert_allclose(together(X), expected, atol=1e-4)
    assert not is_random(together)
    assert is_random(ensemble(LINEAR, others[0], diverse(others[1])))
    noisy = jd.Randomized(_noisy)
    seen = apply(ensemble(noisy, noisy), KEYS, X)
    by_hand = (_noisy(fold(KEYS, 0), X) + _noisy(fold(KEYS, 1), X)) / 2
    np.testing.assert_allclose(seen, by_hand, rtol=1e-4, atol=1e-4)


def test_ensemble_wants_the_same_classes():
    with pytest.raises(InputError, match="at least one"):
        ensemble()
    with pytest.raises(InputError, match="their classes must be the same"):
        ensemble(LINEAR, Linear.classifier(Linear.weights(classes=4)))(X)


def test_bfloat16_is_the_rounded_function_with_its_gradient():
    net = jd.Frozen(Flat(), Flat().init(KEY, X))
    rough = jd.bfloat16(jd.Purified(lambda x: 1 - x, net))
    logits = jd.Purified(lambda x: 1 - x, net)(X)
    assert rough(X).dtype == jnp.float32
    gap = float(abs(rough(X) - logits).max() / abs(logits).max())
    assert 1e-4 < gap < 0.03  # of 8 bits, not of 24
    slope = lambda f: jax.grad(lambda x: f(x)[:, 0].sum())(X)
    exact = slope(jd.Purified(lambda x: 1 - x, net))
    assert slope(rough).dtype == jnp.float32
    np.testing.assert_allclose(slope(rough), exact, rtol=0.02, atol=1e-3)


def test_a_sweep_scores_bfloat16_on_the_deployed_function():
    weights = jnp.asarray(WEIGHTS)
    net = jax.tree_util.Partial(lambda w, x: x.reshape(len(x), -1) @ w, weights)
    curve = jd.sweep(PGD, net, X, Y, [0.05, 0.2], KEY, jd.bfloat16(net))
    exact = jd.sweep(PGD, net, X, Y, [0.05, 0.2], KEY)
    assert curve.knowledge == "white-box"
    assert (curve.robust_accuracy >= exact.robust_accuracy).all()  # a linear one: PGD is optimal
    assert abs(curve.robust_accuracy - exact.robust_accuracy).max() <= 1 / len(X) + 1e-6


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_logits_computed_in_less_than_float32_tie_sooner(dtype):
    """Two programs round them differently: a success by less is taken back when it is scored."""
    ahead = 0.02 if dtype != jnp.float16 else 0.002
    rough = lambda x: (
        (x.mean((1, 2, 3)).astype(dtype)[:, None] + jnp.zeros((1, 2), dtype)).astype(jnp.float32)
        + jnp.array([[0.0, ahead]])
    )
    x, y = jnp.full((3, 4, 4, 1), 0.9), jnp.zeros(3, int)
    reading = make_probe(losses.margin, rough).read(KEYS[:3], x, Goal(y, y))
    np.testing.assert_allclose(reading.ahead, ahead, rtol=1e-3)
    assert reading.fooled.all() == (dtype == jnp.float32)


def test_evaluations_count_the_networks_behind_one_call():
    trio = ensemble(LINEAR, LINEAR, LINEAR)
    assert evaluations(LINEAR) == 1
    assert evaluations(diverse(LINEAR)) == 1
    assert evaluations(jd.Purified(bpda(coarse), LINEAR)) == 1
    assert evaluations(trio) == 3
    assert evaluations(ensemble(LINEAR)) == 1
    assert evaluations(eot(diverse(LINEAR), 7)) == 7
    assert evaluations(eot(diverse(trio), 7)) == 21
    assert evaluations(diverse(eot(diverse(LINEAR), 7))) == 7
    assert evaluations(ensemble(eot(diverse(LINEAR), 7), LINEAR)) == 8
    assert evaluations(jd.Normalized(jd.Purified(coarse, trio), 0.5, 0.5)) == 3
    curve = jd.sweep(PGD, LINEAR, X, Y, [0.1], KEY, trio)
    assert curve.evaluations.gradients == 3 * len(X) * PGD.cost.gradients
