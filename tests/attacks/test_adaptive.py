"""Attacks made for defences: latent space, features; controls: no bound, grey, 8 bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks
from jaxdefense.attacks.controls import eight_bit, grey, on_grid, unbounded
from jaxdefense.attacks.ddn import ddn
from jaxdefense.attacks.features import feature_matching, of_other_classes
from jaxdefense.attacks.latent import latent
from jaxdefense.data import as_images
from jaxdefense.errors import InputError
from jaxdefense.geometry import BALLS, inside64
from tests.attacks import contract
from tests.conftest import EPS, Linear

KEY = jax.random.key(5)
LINEAR = Linear.classifier(Linear.weights())
X, Y = Linear.data(count=12)


def counted(attack, x=X[:2], y=Y[:2], eps=0.1, also=None):
    """Forward and backward passes that really ran through the classifier (and `also`)."""
    calls = {"forward": 0, "backward": 0}

    @jax.custom_vjp
    def count(x):
        jax.debug.callback(lambda: calls.__setitem__("forward", calls["forward"] + 1))
        return x

    def backward(_, g):
        jax.debug.callback(lambda: calls.__setitem__("backward", calls["backward"] + 1))
        return (g,)

    count.defvjp(lambda x: (count(x), None), backward)
    attack = attack if also is None else also(lambda x: count(x))
    attack(KEY, lambda x: LINEAR(count(x)), x, y, eps)
    jax.effects_barrier()
    assert calls["backward"] == attack.cost.gradients
    assert calls["forward"] == attack.cost.gradients + attack.cost.forwards


# ------------------------------------------------------------------------------- latent space

_BASIS = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (48, 5)))[0]


def generator(z):
    """Images on a surface of five dimensions."""
    return (0.5 + 0.45 * jnp.tanh(z @ _BASIS.T)).reshape(len(z), *Linear.SHAPE)


def encode(keys, x):
    flat = jnp.clip((x.reshape(len(x), -1) - 0.5) / 0.45, -0.9999, 0.9999)
    return jnp.arctanh(flat) @ _BASIS


def project(x):
    """What Defense-GAN does: the nearest image of the generator, without a gradient."""
    nearest = lambda x: generator(encode(None, x))
    return jax.lax.stop_gradient(nearest(x))


def on_the_surface(count=12):
    x = generator(2.0 * jax.random.normal(jax.random.key(2), (count, 5)))
    return x, LINEAR(x).argmax(-1).astype(jnp.int32)


LATENT_30 = latent(generator, encode, steps=30)


def test_latent_search_breaks_a_projection_that_pgd_does_not():
    deployed = jd.Purified(project, LINEAR)
    x, y = on_the_surface()
    assert (deployed(x).argmax(-1) == y).all()
    left = lambda attack, net: (deployed(attack(KEY, net, x, y, 0.25)).argmax(-1) == y).mean()
    ours = left(LATENT_30, LINEAR)
    assert ours < 0.3
    assert left(attacks.bim(), deployed) == 1  # there is no gradient
    assert left(attacks.pgd(steps=8), deployed) > ours + 0.5
    assert left(attacks.pgd(steps=8), LINEAR) > ours + 0.2  # leaves the surface, is projected


def test_latent_search_stays_on_the_surface_where_the_ball_allows():
    x, y = on_the_surface()
    x_adv = LATENT_30(KEY, LINEAR, x, y, 0.9)
    np.testing.assert_allclose(project(x_adv), x_adv, atol=1e-4)
    assert (LINEAR(x_adv).argmax(-1) != y).mean() > 0.9


def test_the_penalty_leads_back_towards_the_image():
    """From draws of the prior, which make other images altogether."""
    x, y = on_the_surface()
    start = lambda keys, x: jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)

    def off_the_surface(penalty):
        x_adv = latent(generator, start, steps=30, penalty=penalty)(KEY, LINEAR, x, y, 0.3)
        return jd.l2.norm(project(x_adv) - x_adv).mean()

    assert off_the_surface(3.0) < 0.8 * off_the_surface(1e-6)


_DECODER = jax.random.normal(jax.random.key(8), (5, 108))


def decoder(z):
    return jax.nn.sigmoid(z @ _DECODER).reshape(-1, 6, 6, 3)


def prior(keys, x):
    return jax.vmap(lambda key: jax.random.normal(key, (5,)))(keys)


def layer(x):
    return jnp.tanh((x.reshape(len(x), -1) - 0.5) @ _DECODER.T)


LATENT = {norm: latent(decoder, prior, ball, steps=4) for norm, ball in BALLS.items()}
FEATURES = {norm: feature_matching(layer, ball, steps=4) for norm, ball in BALLS.items()}


@pytest.mark.parametrize("norm", ["linf", "l1"])
@pytest.mark.parametrize("attack", [LATENT, FEATURES], ids=["latent", "features"])
def test_contract(attack, norm):
    contract.inside_ball_and_box(attack[norm])
    if norm == "linf":
        contract.rows_are_independent(attack[norm])
        contract.unchanged_at_zero(attack[norm])
        contract.same_key_same_bits(attack[norm])


def test_costs_are_what_is_evaluated():
    counted(latent(generator, encode, steps=3))
    counted(None, also=lambda count: feature_matching(lambda x: LINEAR(count(x)), steps=3))
    counted(grey())
    counted(eight_bit(attacks.pgd(steps=3)))
    counted(dataclasses.replace(unbounded(attacks.pgd(steps=3)), ball=jd.linf))


def test_a_generator_of_nan_fools_nobody():
    broken = lambda z: jnp.nan * generator(z)
    x_adv = latent(broken, encode, steps=2)(KEY, LINEAR, X, Y, 0.1)
    np.testing.assert_array_equal(x_adv, X)


def test_bad_settings_are_refused():
    for settings in ({"steps": 0}, {"step_size": 0.0}, {"penalty": -1.0}):
        with pytest.raises(InputError, match="latent needs"):
            latent(generator, encode, **settings)
    for settings, said in (({"steps": 0}, "1 step"), ({"step_size": -1}, "fraction of eps")):
        with pytest.raises(InputError, match=said):
            feature_matching(layer, **settings)
    with pytest.raises(InputError, match="two classes"):
        of_other_classes(X, jnp.zeros(12, jnp.int32))
    with pytest.raises(InputError, match="level in"):
        grey(level=128)
    with pytest.raises(InputError, match="no ball"):
        unbounded(attacks.gaussian())


def test_settings_tell_attacks_apart_and_parameters_have_no_name():
    named = {feature_matching(layer, step_size=s).settings for s in (0.1, 0.2)}
    named |= {latent(decoder, prior, penalty=p).settings for p in (1.0, 2.0)}
    named |= {a(attacks.pgd()).settings for a in (unbounded, eight_bit, lambda a: a)}
    named |= {grey(level=level).settings for level in (0.4, 0.5)}
    assert len(named) == 9
    assert not any(" at 0x" in settings for settings in named)
    module = jd.Frozen(None, {"w": X})  # arrays: two of them cannot be told apart by a name
    for attack in (latent(module, prior), feature_matching(module)):
        assert " at 0x" in attack.settings


# -------------------------------------------------------------------------------- features


def bottom(x):
    return (x.reshape(len(x), -1) - 0.5) @ Linear.weights(4, 8)


def test_features_move_as_far_as_a_linear_layer_can():
    """On a layer of one feature the furthest point is at hand: every pixel by eps."""
    one = lambda x: 1e-12 * (x.reshape(len(x), -1) @ Linear.weights(4, 1))  # squares underflow
    x = 0.3 + 0.4 * X
    # A classifier that answers by the size of the move, so that the largest is the best.
    moved = lambda z: jnp.abs(one(z) - one(x))[:, 0] * 1e12
    net = lambda z: jnp.stack([1e3 - moved(z), moved(z)], -1)
    x_adv = feature_matching(one, steps=10)(KEY, net, x, jnp.zeros(12, jnp.int32), 0.1)
    np.testing.assert_allclose(moved(x_adv), 0.1 * jnp.abs(Linear.weights(4, 1)).sum(), rtol=1e-3)


def test_features_imitate_their_guide():
    guides = of_other_classes(X, Y)
    chosen = guides(jd.example_keys(KEY, 12), X, Y)
    assert (LINEAR(chosen).argmax(-1) != Y).all()
    assert len(np.unique(np.asarray(chosen)[:, 0, 0, 0])) > 3
    fixed = lambda keys, x, y: jnp.roll(x, 1, axis=0)
    attack = feature_matching(bottom, jd.l2, 30, guides=fixed)
    # A classifier that answers by the distance left, so that the nearest is the best.
    left = lambda z: jnp.linalg.norm(bottom(z) - bottom(jnp.roll(X, 1, axis=0)), axis=-1)
    net = lambda z: jnp.stack([left(z), -left(z)], -1)
    x_adv = attack(KEY, net, X, jnp.zeros(12, jnp.int32), 2.0)
    assert (left(x_adv) < 0.3 * left(X)).all()


def test_features_break_a_classifier_that_gives_no_gradient():
    """Labels only: the encoder is the way in."""
    net = lambda x: jnp.round(2 * LINEAR(x))
    x, y = X, net(X).argmax(-1).astype(jnp.int32)
    sure = net(x).max(-1) - jnp.sort(net(x))[:, -2] > 0
    assert sure.sum() >= 6
    fooled = lambda attack: (net(attack(KEY, net, x, y, 0.3)).argmax(-1) != y)[sure].mean()
    assert fooled(attacks.bim()) == 0
    guided = feature_matching(LINEAR, steps=10, guides=of_other_classes(X, Y))
    assert fooled(feature_matching(LINEAR, steps=10)) > 0.3
    assert fooled(attacks.restarts(guided, 3)) > 0.8


# -------------------------------------------------------------------------------- controls


def test_unbounded_reaches_zero_at_any_eps():
    attack = unbounded(attacks.pgd(steps=10))
    assert attack.ball is None
    curve = jd.sweep(attack, LINEAR, X, Y, [1e-3, 1.0], KEY)
    np.testing.assert_array_equal(curve.robust_accuracy, 0.0)
    assert curve.violations == 0
    eps = jnp.array([0.0] + [1e-3] * 11)
    for ball in (jd.l2, jd.l1):
        x_adv = unbounded(attacks.pgd(ball, 10))(KEY, LINEAR, X, Y, eps)
        np.testing.assert_array_equal(x_adv[0], X[0])
        assert (LINEAR(x_adv).argmax(-1) != Y)[1:].all()


def test_unbounded_minimum_norm_attacks_keep_what_they_find():
    attack = unbounded(ddn(jd.l2, 10))
    assert not attack.minimal
    x_adv = attack(KEY, LINEAR, X, Y, 1e-3)
    assert (LINEAR(x_adv).argmax(-1) != Y).all()


def test_unbounded_does_not_reach_zero_without_gradients():
    """What it is for: here the attack fails, not the classifier."""
    blind = jd.Purified(lambda x: jax.lax.stop_gradient(0.5 + (x - 0.5) / 4), LINEAR)
    curve = jd.sweep(unbounded(attacks.bim()), blind, X, Y, [1.0], KEY)
    assert curve.robust_accuracy[0] == curve.clean_accuracy > 0.9


def test_grey_is_the_information_bound():
    """All images become one: no classifier is right more often than its one answer."""
    curve = jd.sweep(grey(), LINEAR, X, Y, [0.1, 0.5], KEY)
    answer = int(LINEAR(jnp.full((1, *Linear.SHAPE), 0.5)).argmax())
    assert curve.robust_accuracy[1] == (np.asarray(Y) == answer).mean() < 0.7
    assert curve.robust_accuracy[0] > curve.robust_accuracy[1]
    assert (curve.knowledge, curve.evaluations.gradients) == ("none", 0)
    np.testing.assert_array_equal(grey()(KEY, LINEAR, X, Y, 0.5), 0.5)
    # Before that, as far as the radius goes and no further.
    for norm, ball in BALLS.items():
        moved = ball.norm(grey(ball, 0.2)(KEY, LINEAR, X, Y, 0.3 * EPS[norm]) - X)
        np.testing.assert_allclose(moved, 0.3 * EPS[norm], rtol=1e-3)


# ----------------------------------------------------------------------------------- 8 bit

X8 = jnp.asarray(as_images(np.round(255 * np.asarray(X)).astype(np.uint8)))
Y8 = LINEAR(X8).argmax(-1).astype(jnp.int32)


def from_file(x_adv):
    """Saved as uint8 and read again."""
    return as_images(np.round(np.asarray(x_adv) * 255).astype(np.uint8))


@pytest.mark.parametrize("norm", BALLS)
def test_eight_bit_images_survive_a_file_and_stay_in_the_ball(norm):
    attack = eight_bit(attacks.pgd(BALLS[norm], 8))
    eps = EPS[norm] * jnp.array([0.0, 0.01, 0.3, 1.0, 2.0, 4.0] * 2)
    x_adv = np.asarray(attack(KEY, LINEAR, X8, Y8, eps))
    np.testing.assert_array_equal(x_adv, from_file(x_adv))
    assert inside64(attack.ball, np.asarray(X8), x_adv, np.asarray(eps)).all()
    assert (x_adv[4] != np.asarray(X8[4])).any()


def test_eight_bit_uses_every_level_of_its_radius():
    """At k / 255 exactly k levels, on every pixel value, whatever float32 makes of either."""
    x = as_images(np.arange(256, dtype=np.uint8)).reshape(1, 16, 16, 1)
    bright = lambda x: jnp.stack([-x.sum((1, 2, 3)), x.sum((1, 2, 3))], -1)
    attack = eight_bit(attacks.fgsm())
    for images in (x, (np.arange(256) / 255).astype(np.float32).reshape(x.shape)):
        batch = np.repeat(images, 256, 0)
        eps = (np.arange(256) / 255).astype(np.float32)
        x_adv = np.asarray(attack(KEY, bright, batch, np.zeros(256, np.int32), eps))
        assert inside64(jd.linf, batch, x_adv, eps).all()
        levels = np.rint(255 * x_adv).astype(int).reshape(256, 256)
        expected = np.minimum(np.arange(256)[None] + np.arange(256)[:, None], 255)
        np.testing.assert_array_equal(levels, expected)


def test_eight_bit_costs_no_strength_at_whole_levels():
    """FGSM from the grid ends on the grid: nothing is to round."""
    eps = jnp.arange(1, 24, 2) / 255
    plain = attacks.fgsm()(KEY, LINEAR, X8, Y8, eps)
    rounded = eight_bit(attacks.fgsm())(KEY, LINEAR, X8, Y8, eps)
    np.testing.assert_allclose(rounded, plain, atol=1e-6)


def test_eight_bit_is_judged_after_rounding():
    """What fools off the grid only is no success, and is not returned as one."""
    off = lambda x: (jnp.abs(255 * x - jnp.round(255 * x)) > 0.1).any((1, 2, 3))
    fragile = lambda x: jnp.stack([jnp.where(off(x), -1.0, 1.0), x[:, 0, 0, 0] / 2], -1)
    y = jnp.zeros(12, jnp.int32)
    attack = attacks.pgd(steps=3)
    assert (fragile(attack(KEY, fragile, X8, y, 0.05)).argmax(-1) == 1).all()
    # In a sweep success ends the work on a row: it must not do so before the rounding.
    curve = jd.sweep(eight_bit(attack), fragile, X8, y, [0.05], KEY)
    assert curve.robust_accuracy[0] == curve.clean_accuracy == 1.0


def test_eight_bit_minimum_norm_attacks_return_the_closest_rounded_image():
    search, attack = ddn(jd.l2, 15), eight_bit(ddn(jd.l2, 15))
    assert attack.minimal
    x_adv = np.asarray(attack(KEY, LINEAR, X8, Y8, jnp.inf))
    np.testing.assert_array_equal(x_adv, from_file(x_adv))
    assert (LINEAR(x_adv).argmax(-1) != Y8).all()
    plain = jd.l2.norm(search(KEY, LINEAR, X8, Y8, jnp.inf) - X8)
    rounded = jd.l2.norm(x_adv - X8)
    assert (rounded < 1.05 * plain + 1 / 255).all()
    # In a radius too small it stays inside and fails.
    x_adv = np.asarray(attack(KEY, LINEAR, X8, Y8, 0.8 * plain))
    assert inside64(jd.l2, np.asarray(X8), x_adv, 0.8 * np.asarray(plain)).all()
    assert (LINEAR(x_adv).argmax(-1) == Y8).all()


def test_eight_bit_refuses_rows_off_the_grid():
    x = X8.at[3, 1, 1, 1].add(0.4 / 255).at[7].multiply(0.999)
    np.testing.assert_array_equal(on_grid(x), ~np.isin(np.arange(12), (3, 7)))
    x_adv = eight_bit(attacks.pgd(steps=3))(KEY, LINEAR, x, Y8, 0.3)
    same = (x_adv == x).all((1, 2, 3))
    np.testing.assert_array_equal(same, np.isin(np.arange(12), (3, 7)))


def test_wrapped_attacks_keep_their_rows_apart(monkeypatch):
    net, x, y = contract.batch()
    gridded = jnp.asarray(from_file(x))
    monkeypatch.setattr(contract, "batch", lambda: (net, gridded, y))
    contract.rows_are_independent(eight_bit(attacks.pgd(jd.l2, 3)))
    contract.rows_are_independent(
        dataclasses.replace(unbounded(attacks.pgd(steps=3)), ball=jd.linf)
    )
    contract.rows_are_independent(grey())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_features_at_an_infinite_radius_are_numbers(norm):
    x = jnp.zeros((2, 3, 3, 1)).at[:, 0].set(0.5)
    flat = lambda x: jnp.maximum(x[:, :1] - 2.0, 0.0) + x[:, 1:2]  # no slope in most pixels
    net = lambda x: x.reshape(len(x), -1)[:, :2]
    attack = attacks.feature_matching(flat, getattr(jd, norm), 3)
    x_adv = attack(KEY, net, x, jnp.zeros(2, int), jnp.inf)
    assert bool(jnp.isfinite(x_adv).all())
