"""Static examples: crafted once, judged in float64, scored on any function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.attacks.targets import least_likely, towards
from jaxdefense.errors import InputError
from jaxdefense.evaluation.robustness import interval
from jaxdefense.evaluation.static import craft
from tests.conftest import Linear

KEY = jax.random.key(9)
LINEAR = Linear.classifier(Linear.weights())
X, Y = Linear.data(count=12)
Y = Y.at[0].set((Y[0] + 1) % 3)  # one is wrong clean
PGD = attacks.pgd(jd.linf, 5)
CRAFTED = craft(PGD, LINEAR, X, Y, 0.05, KEY)


def test_what_was_crafted_says_where_it_comes_from():
    assert CRAFTED.n == 12
    assert (CRAFTED.attack, CRAFTED.norm) == ("pgd-5", "linf")
    assert CRAFTED.settings == PGD.settings
    assert CRAFTED.seed == (0, 9)
    assert CRAFTED.crafted_on == "Partial"
    assert CRAFTED.valid.all()
    np.testing.assert_array_equal(CRAFTED.eps, np.float32(0.05))
    assert str(CRAFTED) == "pgd-5 on Partial, eps 0.05 (linf), n = 12, seed (0, 9)"
    through = jd.Purified(jnp.round, lambda x: LINEAR(x))
    assert "Purified(round, a function)" in str(
        craft(attacks.bim(steps=1), through, X, Y, 0.1, KEY)
    )
    named = craft(PGD, LINEAR, X, Y, np.linspace(0, 0.3, 12), KEY, name="seed 3")
    assert "on seed 3, eps 0 to 0.3" in str(named)
    np.testing.assert_array_equal(named.x_adv[0], X[0])


def test_on_the_attacked_function_they_give_what_a_sweep_gives():
    """The same keys, so the same images: static and re-crafted agree where nothing changed."""
    static = CRAFTED.accuracy(LINEAR)
    curve = jd.sweep(PGD, LINEAR, X, Y, [0.05], KEY)
    assert 0 < static.accuracy < static.clean_accuracy == 11 / 12
    assert static.accuracy == pytest.approx(curve.robust_accuracy[0])
    np.testing.assert_array_equal(static.robust, curve.smallest_radius > 0.05)
    np.testing.assert_array_equal(static.interval, interval(round(12 * static.accuracy), 12))
    low, high = (100 * static.interval).round(1)
    assert str(static) == f"{100 * static.accuracy:.1f} % [{low}, {high}], n = 12"


def test_static_examples_flatter_a_defence_they_do_not_know():
    """A purifier that shuffles pixels before a network trained on it: crafted anew, it falls."""
    order = jax.random.permutation(jax.random.key(3), 48)
    flat = lambda x: x.reshape(len(x), -1)
    other = Linear.classifier(Linear.weights(7))
    y = other(X).argmax(-1).astype(jnp.int32)
    shuffled = jd.Purified(lambda x: flat(x)[:, order].reshape(x.shape), lambda x: (
        (flat(x) - 0.5) @ Linear.weights(7)[order]))  # fmt: skip
    np.testing.assert_allclose(shuffled(X), other(X), atol=1e-4)
    crafted = craft(PGD, LINEAR, X, y, 0.1, KEY)
    recrafted = craft(PGD, shuffled, X, y, 0.1, KEY)
    assert crafted.accuracy(shuffled).accuracy > recrafted.accuracy(shuffled).accuracy + 0.3


def test_batches_change_nothing():
    for rows in (5, 12, 100):
        again = craft(PGD, LINEAR, X, Y, 0.05, KEY, rows)
        np.testing.assert_allclose(again.x_adv, CRAFTED.x_adv, atol=1e-6)
        scored = again.accuracy(LINEAR, rows)
        np.testing.assert_array_equal(scored.robust, CRAFTED.accuracy(LINEAR).robust)
    np.testing.assert_array_equal(craft(PGD, LINEAR, X, Y, 0.05, KEY).x_adv, CRAFTED.x_adv)


def test_only_valid_examples_count():
    """Outside the ball, outside the box or not finite: the clean image is what is scored."""
    far = lambda x, point, eps: x + 3 * jnp.clip(point - x, -0.05, 0.05)
    loose = dataclasses.replace(attacks.pgd(jd.linf._replace(project=far), 5), ball=jd.linf)
    crafted = craft(loose, LINEAR, X, Y, 0.05, KEY)
    assert not crafted.valid.any()
    assert crafted.accuracy(LINEAR).accuracy == crafted.accuracy(LINEAR).clean_accuracy
    assert "12 invalid and not used" in str(crafted)
    torn = dataclasses.replace(CRAFTED, x_adv=np.full_like(CRAFTED.x_adv, np.nan),
                               valid=np.zeros(12, bool))  # fmt: skip
    assert torn.accuracy(LINEAR).accuracy == 11 / 12


def test_an_answer_of_nan_to_an_adversarial_image_is_wrong():
    extreme = lambda x: (jnp.abs(x - 0.5) > 0.49).any((1, 2, 3))[:, None]
    fragile = lambda x: LINEAR(x) * jnp.where(extreme(x), jnp.nan, 1.0)
    inner = 0.05 + 0.9 * X
    y = LINEAR(inner).argmax(-1).astype(jnp.int32)
    crafted = craft(PGD, lambda x: -LINEAR(x), inner, y, 0.1, KEY)
    wrong = ~crafted.accuracy(fragile).robust
    torn = np.isnan(np.asarray(fragile(crafted.x_adv))).any(-1)
    assert torn.sum() >= 3
    assert wrong[torn].all()


def test_random_functions_are_scored_with_keys_the_attack_has_not_seen():
    """A function that answers wrong on the very keys of the attack, right on others."""
    seen = {int(k) for k in np.asarray(jax.vmap(jax.random.bits)(jd.example_keys(KEY, 12)))}
    known = jnp.array(sorted(seen), jnp.uint32)
    # By the key: whatever the attack was given as it is must not be what scores it.
    caught = lambda keys: (jax.vmap(jax.random.bits)(keys)[:, None] == known[None]).any(-1)
    flip = lambda keys, x: LINEAR(x) * jnp.where(caught(keys), -1.0, 1.0)[:, None]
    deployed = jd.Randomized(flip)
    scored = CRAFTED.accuracy(deployed)
    np.testing.assert_array_equal(scored.robust, CRAFTED.accuracy(LINEAR).robust)
    noisy = jd.Randomized(lambda keys, x: LINEAR(x) + 8 * jax.vmap(
        lambda key: jax.random.normal(key, (3,)))(keys))  # fmt: skip
    first, second = CRAFTED.accuracy(noisy), CRAFTED.accuracy(noisy, 5)
    np.testing.assert_array_equal(first.robust, second.robust)
    assert 0 < first.accuracy < first.clean_accuracy <= 1


def test_attacks_without_a_ball_or_without_a_radius():
    noise = craft(attacks.gaussian(), LINEAR, X, Y, 0.3, KEY)
    assert noise.norm == "sigma"
    assert noise.valid.all()
    key = jax.random.key(1, impl="rbg")
    assert len(craft(attacks.gaussian(), LINEAR, X, Y, 0.3, key).seed) == 4
    assert craft(attacks.gaussian(), LINEAR, X, Y, 0.3, jax.random.PRNGKey(9)).seed == (0, 9)


def test_bad_input_is_refused():
    aimed = attacks.pgd(steps=2, loss=losses.targeted(losses.cross_entropy))
    for said, attack, x, y, eps in (
        ("is targeted", aimed, X, Y, 0.1),
        ("one label per image", PGD, X, Y[:3], 0.1),
        ("outside", PGD, 255 * X, Y, 0.1),
        ("0-255 units", PGD, X, Y, 8.0),
        ("give one, or one per image", PGD, X, Y, [0.1, 0.2]),
    ):
        with pytest.raises(InputError, match=said):
            craft(attack, LINEAR, x, y, eps, KEY)
    with pytest.raises(InputError, match="cannot be called"):
        CRAFTED.accuracy(lambda x: x @ jnp.ones((7, 2)))
    # One that picks its own targets has the true labels in y.
    assert craft(towards(PGD, least_likely), LINEAR, X, Y, 0.3, KEY).accuracy(LINEAR).accuracy < 0.2
