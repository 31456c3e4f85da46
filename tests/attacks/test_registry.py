"""The contract over every registered attack in every ball, and properties over random inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdefense import losses
from jaxdefense.attacks import REGISTRY, make
from jaxdefense.errors import UnknownNameError
from jaxdefense.geometry import inside64
from tests.attacks import contract
from tests.attacks.small import ALL, small
from tests.conftest import EPS, conv_net


def of(choose=lambda name, attack: True):
    """Parametrizes over the attacks chosen.

    One group per attack, so that its programs are compiled in one worker and used by all its tests.
    """
    return pytest.mark.parametrize(
        ("name", "norm"),
        [
            pytest.param(
                name, norm, id=f"{name}-{norm}", marks=pytest.mark.xdist_group(name + norm)
            )
            for name, norm in ALL
            if choose(name, small(name, norm))
        ],
    )


def climbs(name, attack):
    return REGISTRY[name].follows_gradients and not attack.minimal


def is_bounded(attack):
    """DLR is: once it fools it goes no further, so it cannot be asked for gain."""
    return {losses.dlr, losses.dlr_towards} & {stage.loss for stage in attack.stages}


EVERY = of()
# How far beyond the closed form of a linear classifier a minimum-norm attack may end. JSMA counts
# pixels and weighs both logits, which are not opposite here: 2 pixels where 1 would do.
SLACK = {"hopskipjump": 0.25, "lbfgs": 0.1, "carlini-wagner": 0.05, "jsma": 1.5}


@EVERY
@pytest.mark.parametrize("check", contract.ALWAYS, ids=lambda f: f.__name__)
def test_contract(name, norm, check):
    check(small(name, norm))


# Noise of a given strength and one pixel do not grow with the radius.
@of(lambda name, attack: not attack.minimal and name not in ("gaussian", "one-pixel"))
@pytest.mark.parametrize("check", contract.IN_A_RADIUS, ids=lambda f: f.__name__)
def test_contract_of_attacks_in_a_radius(name, norm, check):
    check(small(name, norm))


@of(climbs)
def test_gradient_attacks_keep_their_best(name, norm):
    contract.keeps_its_best(small(name, norm))


@of(lambda name, attack: climbs(name, attack) and not is_bounded(attack))
def test_gradient_attacks_beat_noise(name, norm):
    contract.beats_noise(small(name, norm))


@of(lambda name, attack: attack.minimal)
def test_minimum_norm_attacks_find_the_linear_distance(name, norm):
    contract.finds_the_linear_distance(small(name, norm), SLACK.get(name, 0.03))


@EVERY
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0, 6, width=32, allow_subnormal=False))
def test_bounds_hold_for_any_network_image_and_radius(name, norm, seed, scale):
    attack = small(name, norm)
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


def test_every_attack_says_all_its_settings():
    """What is kept on disk rests on them."""
    seen = {}
    for name, entry in REGISTRY.items():
        for norm in entry.norms:
            attack = make(name, norm)
            assert all(stage.search.settings for stage in attack.stages), name
            assert " at 0x" not in attack.settings, name
            assert seen.setdefault(attack.settings, (name, norm)) == (name, norm)
            assert make(name, norm) == attack  # equal settings share compiled programs


@EVERY
def test_cost_is_what_is_evaluated_and_nothing_is_traced_again(name, norm):
    """The formula against a classifier that counts its own calls."""
    attack = small(name, norm)
    calls, traces = {"forward": 0, "backward": 0}, []

    @jax.custom_vjp
    def counted(x):
        jax.debug.callback(lambda: calls.__setitem__("forward", calls["forward"] + 1))
        return x

    def backward(_, g):
        # An operand that depends on g, so that gradients taken together are counted one by one.
        add = lambda _: calls.__setitem__("backward", calls["backward"] + 1)
        jax.debug.callback(add, g.ravel()[0])
        return (g,)

    counted.defvjp(lambda x: (counted(x), None), backward)

    def classifier(net, x):
        traces.append(1)
        return net(counted(x))

    x = jax.random.uniform(jax.random.key(0), (2, 4, 4, 3))
    y = jnp.array([0, 1])
    run = lambda seed, eps: attack(
        jax.random.key(seed), jax.tree_util.Partial(classifier, conv_net(seed)), x, y, eps
    )
    run(0, EPS[norm])
    jax.effects_barrier()
    if name == "plus":  # its FAB asks for 9 classes, and the net has 3 wrong ones
        assert calls["backward"] < attack.cost.gradients
    else:
        assert calls["backward"] == attack.cost.gradients
    # Gradients of several classes at one point share a forward pass.
    shared = name in ("deepfool", "fab", "plus", "jsma")
    expected = attack.cost.gradients + attack.cost.forwards
    assert calls["forward"] <= expected if shared else calls["forward"] == expected
    before = len(traces)
    run(1, jnp.array([0.0, 0.5]) * EPS[norm])
    assert len(traces) == before
