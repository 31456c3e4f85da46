"""Attacks against closed forms on linear classifiers, and against the originals' own values."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxdefense as jd
from jaxdefense import attacks, losses
from jaxdefense.geometry import BALLS
from tests.attacks import contract
from tests.conftest import Linear, reference


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("build", [attacks.pgd, attacks.mifgsm, attacks.bim])
def test_iterative_attacks_reach_the_linear_optimum(norm, build):
    contract.reaches_linear_optimum(build(BALLS[norm], steps=40), share=0.97)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_fgsm_is_the_linear_optimum(norm):
    contract.reaches_linear_optimum(attacks.fgsm(BALLS[norm]), share=0.9999)


def test_fgsm_l2_is_the_linear_optimum_away_from_the_box():
    classifier = Linear.classifier(Linear.weights(classes=2))
    x, y = Linear.data(low=0.4, high=0.6, classes=2)
    x_adv = attacks.fgsm(jd.l2)(jax.random.key(0), classifier, x, y, 0.2)
    weights = Linear.weights(classes=2)
    rise = losses.margin(classifier(x_adv), y) - losses.margin(classifier(x), y)
    best = 0.2 * np.linalg.norm(weights[:, 1] - weights[:, 0])
    np.testing.assert_allclose(rise, best, rtol=1e-4)


def test_adam_pgd_reaches_the_linear_optimum():
    contract.reaches_linear_optimum(attacks.adam_pgd(steps=40), share=0.97)


def test_fgsm_is_x_plus_eps_sign_of_the_gradient():
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    gradient = jax.grad(lambda x: losses.cross_entropy(classifier(x), y).sum())(x)
    expected = jnp.clip(x + 0.1 * jnp.sign(gradient), 0, 1)
    x_adv = attacks.fgsm()(jax.random.key(0), classifier, x, y, 0.1)
    np.testing.assert_allclose(x_adv, expected, atol=1e-6)


def test_confident_networks_are_attacked_all_the_same():
    """Logits 60 to 1,000 apart leave a float32 softmax without gradient; we must not care."""
    weights, (x, y) = Linear.weights(classes=2), Linear.data(classes=2, low=0.3, high=0.7)
    gap = float((-losses.margin(Linear.classifier(weights)(x), y)).min())
    confident = Linear.classifier(weights * 60 / gap)
    plain = Linear.classifier(weights)
    attack = attacks.pgd(jd.l2, 10, random_start=False)
    there = attack(jax.random.key(0), confident, x, y, 0.5)
    here = attack(jax.random.key(0), plain, x, y, 0.5)
    np.testing.assert_allclose(there, here, atol=1e-4)


def test_targeted_attacks_reach_their_target():
    classifier = Linear.classifier(Linear.weights())
    x, y = Linear.data()
    target = (y + 1) % 3
    attack = attacks.pgd(jd.linf, 10, loss=losses.targeted(losses.cross_entropy))
    x_adv = attack(jax.random.key(0), classifier, x, target, 0.3)
    np.testing.assert_array_equal(classifier(x_adv).argmax(-1), target)
    # A targeted success is an untargeted one.
    assert (classifier(x_adv).argmax(-1) != y).all()


def test_rules_apply_to_each_example_and_must_ascend():
    contract.rows_are_independent(attacks.pgd(jd.linf, 4, rule=optax.trace(0.9)))
    contract.rows_are_independent(attacks.pgd(jd.linf, 4, rule=optax.clip_by_global_norm(1.0)))
    with pytest.raises(jd.errors.InputError, match=r"ascend.*scale_by_adam"):
        attacks.pgd(jd.linf, 4, rule=optax.adam(0.1))


def test_bad_settings_are_refused():
    with pytest.raises(jd.errors.InputError, match="at least 1 step"):
        attacks.pgd(jd.linf, 0)
    with pytest.raises(jd.errors.InputError, match="fraction of eps"):
        attacks.pgd(jd.linf, 5, 0.0)
    with pytest.raises(jd.errors.InputError, match="divide by 255"):
        attacks.gaussian(16.0)
    with pytest.raises(jd.errors.InputError, match="linf only"):
        attacks.adam_pgd(jd.l2)


def test_gaussian_noise_has_its_sigma():
    x = jnp.full((20, 16, 16, 3), 0.5)
    classifier = lambda x: jnp.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], -1)
    y = jnp.zeros(20, jnp.int32)
    for attack, eps in ((attacks.gaussian(0.1), jnp.inf), (attacks.gaussian(), 0.1)):
        noise = attack(jax.random.key(0), classifier, x, y, eps) - x
        assert abs(float(noise.std()) - 0.1) < 0.003
        assert abs(float(noise.mean())) < 0.003


# ------------------------------------------------ networks with values from AutoAttack's code


# How far plain PGD-40 may stay behind Auto-PGD with 100 steps, in points: it is the weaker attack.
BEHIND = {
    ("standard", "Linf"): 1.5, ("standard", "L2"): 1.5, ("standard", "L1"): 6,
    ("adversarial", "Linf"): 3, ("adversarial", "L2"): 5, ("adversarial", "L1"): 26,
}  # fmt: skip


def test_pgd_with_dlr_is_about_as_strong_as_with_cross_entropy():
    classifier, x, y, values = reference("standard")
    radii = [float(k.split()[-1]) for k in values if k.startswith("autoattack Linf ")]
    curve = jd.sweep(attacks.make("pgd-dlr"), classifier, x, y, radii, jax.random.key(0))
    for eps, accuracy in zip(radii, curve.raw_accuracy, strict=True):
        assert 100 * (accuracy - values[f"autoattack Linf {eps}"]["apgd-ce"]) <= 3


@pytest.mark.parametrize(("name", "norm"), BEHIND)
def test_pgd_next_to_autoattacks_own_apgd(name, norm):
    classifier, x, y, values = reference(name)
    radii = [float(k.split()[-1]) for k in values if k.startswith(f"autoattack {norm} ")]
    attack = attacks.pgd(BALLS[norm.lower()], 40)
    curve = jd.sweep(attack, classifier, x, y, radii, jax.random.key(0))
    assert curve.clean_accuracy == pytest.approx(values["clean"])
    for eps, accuracy in zip(radii, curve.raw_accuracy, strict=True):
        theirs = values[f"autoattack {norm} {eps}"]
        assert 100 * (accuracy - theirs["apgd-ce"]) <= BEHIND[name, norm]
        # Nor may it beat the whole ensemble by more than luck: then it would have left the ball.
        assert 100 * (accuracy - theirs["all"]) >= -2.5
