"""The contract over every registered attack in every ball, and properties over random inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdefense.attacks import REGISTRY, make
from jaxdefense.errors import UnknownNameError
from jaxdefense.geometry import inside64
from tests.attacks import contract
from tests.conftest import EPS, conv_net

ALL = [(name, norm) for name, entry in REGISTRY.items() for norm in entry.norms]
# One group per attack, so that its programs are compiled in one worker and used by all its tests.
EVERY = pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param(name, norm, id=f"{name}-{norm}", marks=pytest.mark.xdist_group(name + norm))
        for name, norm in ALL
    ],
)


@EVERY
@pytest.mark.parametrize("check", contract.ALWAYS, ids=lambda f: f.__name__)
def test_contract(name, norm, check):
    if (name, check) == ("gaussian", contract.uses_its_radius):
        pytest.skip("noise of a given sigma does not grow with the radius")
    check(make(name, norm))


@EVERY
@pytest.mark.parametrize("check", contract.OF_GRADIENTS, ids=lambda f: f.__name__)
def test_contract_of_gradient_attacks(name, norm, check):
    if not REGISTRY[name].follows_gradients:
        pytest.skip("does not follow gradients")
    if name == "pgd-dlr" and check is contract.beats_noise:
        pytest.skip("DLR is bounded: once it fools it goes no further; see test_closed_form")
    check(make(name, norm))


@EVERY
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0, 6, width=32, allow_subnormal=False))
def test_bounds_hold_for_any_network_image_and_radius(name, norm, seed, scale):
    attack = make(name, norm)
    key = jax.random.key(seed)
    net = conv_net(seed)
    # Black, white and grey regions, and weights of any size.
    x = jnp.clip(3 * jax.random.uniform(key, (6, 6, 6, 3)) - 1, 0, 1)
    y = jax.random.randint(key, (6,), 0, 4)
    eps = EPS[norm] * scale * jnp.array([1.0, 0.25, 0.0, 0.5, 2.0, 1.0])
    x_adv = np.asarray(attack(key, net, x, y, eps))
    assert inside64(attack.ball, np.asarray(x), x_adv, np.asarray(eps)).all()
    np.testing.assert_array_equal(x_adv[2], x[2])


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'fgsm'"):
        make("fgms")
    with pytest.raises(UnknownNameError, match="linf"):
        make("pgd", "l7")


@EVERY
def test_cost_is_what_is_evaluated(name, norm):
    """The formula against a classifier that counts its own calls."""
    attack = make(name, norm)
    calls = {"forward": 0, "backward": 0}

    @jax.custom_vjp
    def counted(x):
        jax.debug.callback(lambda: calls.__setitem__("forward", calls["forward"] + 1))
        return x

    def backward(_, g):
        jax.debug.callback(lambda: calls.__setitem__("backward", calls["backward"] + 1))
        return (g,)

    counted.defvjp(lambda x: (counted(x), None), backward)
    net = conv_net()
    x = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3))
    attack(jax.random.key(0), lambda x: net(counted(x)), x, jnp.array([0, 1]), EPS[norm])
    jax.effects_barrier()
    assert calls["backward"] == attack.cost.gradients
    assert calls["forward"] == attack.cost.gradients + attack.cost.forwards
