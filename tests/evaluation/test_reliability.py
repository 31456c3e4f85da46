"""The checks of the function under attack: each fails on a defence that hides its gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.evaluation.reliability import reliability
from tests.attacks import contract
from tests.conftest import Linear

KEY = jax.random.key(0)


def outcomes(classifier, x, y, **options):
    found = reliability(classifier, x, y, KEY, eps=0.05, **options)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_an_ordinary_network_passes():
    net, x, y = contract.batch()
    assert {check.outcome for check in outcomes(net, x, y).values()} == {"pass"}


def test_probabilities_are_seen():
    net, x, y = contract.batch()
    assert outcomes(lambda x: jax.nn.softmax(net(x)), x, y)["probabilities"].outcome == "fail"


def test_zero_gradients_are_counted():
    net, x, y = contract.batch()
    half = lambda x: net(jnp.where(x.mean((1, 2, 3), keepdims=True) > cut, jnp.round(x), x))
    cut = float(jnp.median(x.mean((1, 2, 3))))
    found = outcomes(half, x, y)
    assert found["zero gradients"].outcome == "fail"
    assert 0 < found["zero gradients"].value < 1
    assert found["forward pass"].outcome == "note"
    assert "round" in found["forward pass"].says


def test_randomness_is_seen_whether_declared_or_not():
    net, x, y = contract.batch()
    draw = np.random.default_rng(0)
    noise = lambda shape: draw.normal(size=shape).astype(np.float32)

    def secret(x):
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return net(x + 0.5 * jax.pure_callback(lambda: noise(x.shape), shape))

    # A callback cannot be differentiated unless it is told how; the noise does not depend on x.
    found = outcomes(secret, x, y)
    assert found["randomness"].outcome == "fail"
    assert "pure_callback" in found["forward pass"].says
    normal = lambda key, x: x + 0.5 * jax.random.normal(key, x.shape)
    declared = jd.Randomized(lambda keys, x: net(jax.vmap(normal)(keys, x)))
    assert outcomes(declared, x, y)["randomness"].outcome == "note"


def test_loops_in_the_forward_pass_are_seen():
    net, x, y = contract.batch()
    looped = lambda x: net(jax.lax.fori_loop(0, 3, lambda _, x: 0.9 * x, x))
    found = outcomes(looped, x, y)["forward pass"]
    assert found.outcome == "note"
    assert "scan" in found.says or "while" in found.says


@pytest.mark.parametrize(("classes", "outcome"), [(2, "note"), (3, "note"), (4, "pass")])
def test_dlr_below_four_classes_is_said(classes, outcome):
    x, y = Linear.data(classes=classes)
    found = outcomes(Linear.classifier(Linear.weights(classes=classes)), x, y)
    assert found["classes"].outcome == outcome
    assert found["zero gradients"].outcome == "pass"


def test_square_finding_more_than_gradients_is_a_failure():
    net, x, y = contract.batch()
    curve = jd.sweep(jd.attacks.fgsm(), net, x, y, [0.0, 0.05], KEY)
    by = np.full((6, 2), "apgd-ce")
    assert outcomes(net, x, y, curve=dataclasses.replace(curve, broken_by=by))[
        "square"
    ].outcome == ("pass")
    by[2, 1] = "square"
    found = outcomes(net, x, y, curve=dataclasses.replace(curve, broken_by=by))["square"]
    assert found.outcome == "fail"
    assert found.value == pytest.approx(1 / 6)


def test_a_function_without_derivative_is_a_failure_not_a_crash():
    net, x, y = contract.batch()
    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    rounded = lambda x: net(jax.pure_callback(lambda x: np.round(np.asarray(x)), shape, x))
    found = outcomes(rounded, x, y)["zero gradients"]
    assert found.outcome == "fail"
    assert "bpda" in found.says


def test_images_of_other_units_are_refused():
    net, x, y = contract.batch()
    with pytest.raises(jd.errors.InputError, match="divide by 255"):
        outcomes(net, 255 * x, y)


def test_votes_are_attacked_and_checked_by_the_gradient_of_one_vote():
    """Counts of votes are flat: PGD would stay where it starts, and hardly anything would break."""
    net, x, y = contract.batch()
    vote = jd.defenses.smoothed(net, 0.1, draws=50)
    found = jd.autoattack(vote, x, y, 0.5, KEY, version="rand", draws=8)
    assert {check.name: check.outcome for check in found.checks}["zero gradients"] == "pass"
    averaged = jd.sweep(jd.attacks.pgd(jd.linf, 10), vote, x, y, [0.5], KEY, jd.eot(vote, 8))
    single = jd.sweep(jd.attacks.pgd(jd.linf, 10), vote, x, y, [0.5], KEY)
    assert averaged.knowledge == "white-box"
    assert averaged.robust_accuracy[0] < 0.1 < single.robust_accuracy[0]
    assert any("eot(deployed" in said for said in single.warnings)


def test_square_is_judged_only_where_it_ran_by_itself():
    """A pass for an attack that never ran, or that shares its credit, would be an empty one."""
    net, x, y = contract.batch()
    result = jd.autoattack(net, x, y, 0.02, KEY, version="quick")
    assert "square" not in {check.name for check in result.checks}
    assert set(result.after) == {"apgd-ce", "apgd-t"}
    np.testing.assert_allclose(result.after["apgd-t"], result.curve.raw_accuracy)
    normal = lambda key, x: x + 0.01 * jax.random.normal(key, x.shape)
    noisy = jd.Randomized(lambda keys, x: net(jax.vmap(normal)(keys, x)))
    chance = jd.autoattack(noisy, x, y, 0.02, KEY, version="rand", draws=2)
    assert "square" not in {check.name for check in chance.checks}
    assert set(chance.after) == {"apgd-ce", "apgd-dlr"}
    np.testing.assert_allclose(chance.after["apgd-dlr"], chance.curve.robust_accuracy, atol=1e-6)


def test_single_draws_of_a_random_function_are_not_to_be_relied_on():
    net, x, y = contract.batch()
    normal = lambda key, x: x + 0.1 * jax.random.normal(key, x.shape)
    noisy = jd.Randomized(lambda keys, x: net(jax.vmap(normal)(keys, x)))
    weak = jd.autoattack(noisy, x, y, 0.02, KEY, version="quick")
    assert not weak.reliable
    (check,) = [check for check in weak.checks if check.name == "randomness"]
    assert check.outcome == "fail"
    assert "version='rand'" in check.says
    assert "single draws" in weak.curve.warnings[0]
    assert "surrogate=jaxdefense.eot" in weak.curve.warnings[0]
    averaged = jd.autoattack(noisy, x, y, 0.02, KEY, version="rand", draws=2)
    steady = jd.Randomized(lambda keys, x: net(x))  # random by its type alone
    for result in (averaged, jd.autoattack(steady, x, y, 0.02, KEY, version="quick")):
        assert "note" in [c.outcome for c in result.checks if c.name == "randomness"]
    assert averaged.curve.warnings == ()
