"""Classification and reconstruction by one model, together and in turn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_training import CLASSES, Memory, TinyAutoencoder, TinyNet, assert_same, data, train
from tiny_training import variables as random_variables

from jaxdefense import models
from jaxdefense.errors import InputError
from jaxdefense.training import (
    Classification,
    alternating,
    in_turn,
    joint,
    reconstruction,
    supervised,
    validation,
)
from jaxdefense.training.state import init_state, make_step

MODEL = models.build("encoder_classifier", widths=(4, 6, 8), hidden=(8,), num_classes=CLASSES)
CHAIN = models.Chain(purifier=TinyAutoencoder(), classifier=TinyNet())
X, Y = data(16)
IMAGES = X.astype(np.float32) / 255
RESTORE = reconstruction(MODEL, method="reconstruct")
CLASSIFY = supervised(MODEL)
TURNS = {n: alternating(MODEL, n) for n in (1, 2)}  # the same ones, so that they compile once


@functools.cache
def compiled(objective):
    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def evaluated(objective, model=MODEL, key=0):
    state = dict(random_variables(model))
    params = state.pop("params")
    return compiled(objective)(params, state, jax.random.key(key), IMAGES, Y)


def trained(objective, **settings):
    return train(objective=objective, variables=random_variables(MODEL), **settings)


def moved(before, after):
    """Names of the parts that differ at all."""
    differs = lambda a, b: bool((np.asarray(a) != np.asarray(b)).any())
    return {part for part in before if jax.tree.reduce(
        lambda x, y: x or y, jax.tree.map(differs, before[part], after[part]))}  # fmt: skip


@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_joint_is_the_weighted_sum_of_both(weight):
    (value, (_, metrics)), gradient = evaluated(joint(MODEL, weight))
    (classification, (_, scores)), one = evaluated(CLASSIFY)
    (restored, _), other = evaluated(RESTORE)
    assert float(value) == pytest.approx(float(classification + weight * restored), rel=1e-5)
    assert float(metrics["loss"]) == float(value)
    assert float(metrics["accuracy"]) == float(scores["accuracy"])
    assert float(metrics["classification"]) == pytest.approx(float(classification), rel=1e-5)
    assert float(metrics["reconstruction"]) == pytest.approx(float(restored), rel=1e-5)
    jax.tree.map(
        lambda total, a, b: np.testing.assert_allclose(total, a + weight * b, atol=1e-5),
        gradient,
        one,
        other,
    )


def test_joint_takes_another_loss():
    half = lambda logits, y: 0.5 * optax.softmax_cross_entropy_with_integer_labels(logits, y)
    (_, (_, metrics)), _ = evaluated(joint(MODEL, 1.0, half))
    (_, (_, plain)), _ = evaluated(joint(MODEL, 1.0))
    expected = 0.5 * float(plain["classification"])
    assert float(metrics["classification"]) == pytest.approx(expected, rel=1e-5)


def test_joint_trains_a_purifier_and_a_classifier_with_batch_statistics_and_dropout():
    (_, (state, _)), gradient = evaluated(joint(CHAIN), CHAIN)
    assert moved(random_variables(CHAIN)["batch_stats"], state["batch_stats"]) == {"classifier"}
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert {part for part in gradient if any(map(jnp.any, jax.tree.leaves(gradient[part])))} == {
        "purifier",
        "classifier",
    }
    values = [float(evaluated(joint(CHAIN), CHAIN, key)[0][0]) for key in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_both_losses_fall_in_joint_training():
    rows = trained(joint(MODEL, 1.0), epochs=15).history
    assert rows[-1]["classification"] < 0.9 * rows[0]["classification"]
    assert rows[-1]["reconstruction"] < 0.9 * rows[0]["reconstruction"]


def test_each_turn_moves_only_what_it_depends_on():
    before = random_variables(MODEL)["params"]
    restored = trained(in_turn(RESTORE), epochs=1).variables["params"]
    assert moved(before, restored) == {"encoder", "decoder"}
    classified = trained(in_turn(CLASSIFY), epochs=1).variables["params"]
    assert moved(before, classified) == {"encoder", "head_0", "head_1"}


def test_a_step_of_turns_is_their_updates_one_after_another():
    """By hand, with Adam, whose moments would carry a gradient of zero on for many steps."""
    optimizer, turns = optax.adam(3e-2), in_turn(RESTORE, CLASSIFY)
    state = init_state(turns, optimizer, random_variables(MODEL), *map(abstract, (IMAGES, Y)))
    order, key = jnp.arange(16), jax.random.key(5)
    params = jax.tree.map(jnp.asarray, random_variables(MODEL)["params"])
    states = [optimizer.init(params), optimizer.init(params)]
    step = make_step(turns, optimizer, 16)
    for count in range(3):
        state = step(state, key, order, X, Y)
        before_last = params
        for turn, objective in enumerate((RESTORE, CLASSIFY)):
            _, gradient = compiled(objective)(params, {}, key, IMAGES, Y)
            updates, states[turn] = optimizer.update(gradient, states[turn], params)
            if count == 2:
                parts = {"head_0", "head_1"} if turn == 0 else {"decoder"}
                assert not any(leaf.any() for p in parts for leaf in jax.tree.leaves(updates[p]))
            params = optax.apply_updates(params, updates)
    assert moved(before_last, params) == set(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), state.params, params)
    for one, other in zip(state.opt_state, states, strict=True):
        assert int(one[0].count) == int(other[0].count) == 3
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), one[0].mu, other[0].mu
        )


def abstract(array):
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def test_one_turn_is_the_objective_itself():
    alone, turn = (trained(each, epochs=2) for each in (CLASSIFY, in_turn(CLASSIFY)))
    assert_same(alone.variables, turn.variables)
    assert alone.history == turn.history
    none = trained(alternating(MODEL, 0), epochs=2)
    assert_same(none.variables, alone.variables)


def test_turns_draw_from_different_keys():
    seen = []

    def objective(params, state, key, x, y):
        seen.append(key)
        return jnp.sum(params["w"] ** 2), (state, {})

    turns = in_turn(objective, objective)
    x, y = abstract(IMAGES), abstract(Y)
    state = init_state(turns, optax.sgd(0.1), {"params": {"w": np.ones(2)}}, x, y)
    with jax.disable_jit():
        make_step(turns, optax.sgd(0.1), 16)(state, jax.random.key(0), jnp.arange(16), X, Y)
    first, second = (jax.random.key_data(key).tolist() for key in seen[-2:])
    assert first != second
    assert first == jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0)).tolist()


def test_alternating_notes_both_losses_and_both_fall():
    rows = trained(TURNS[2], epochs=15).history
    assert {"loss", "accuracy", "reconstruction"} <= set(rows[0])
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert rows[-1]["reconstruction"] < 0.9 * rows[0]["reconstruction"]


def test_alternating_is_so_many_reconstructions_before_each_classification():
    alternated = trained(TURNS[2], epochs=2)
    by_hand = trained(in_turn(RESTORE, RESTORE, CLASSIFY), epochs=2)
    # Two programs, whose sums need not have one order.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(close, alternated.variables, by_hand.variables)
    assert not np.array_equal(
        alternated.variables["params"]["decoder"]["Conv_0"]["kernel"],
        trained(TURNS[1], epochs=2).variables["params"]["decoder"]["Conv_0"]["kernel"],
    )


@pytest.mark.parametrize("saves", [1, 6])
def test_turns_resume_to_the_same_bits(saves):
    settings = {"validate": validation(Classification(MODEL.apply), X, Y), "save_seconds": 0}
    whole = trained(TURNS[1], **settings)
    memory = Memory(die_after=saves)
    with pytest.raises(KeyboardInterrupt):
        trained(TURNS[1], checkpoint=memory, **settings)
    memory.die_after = None
    resumed = trained(TURNS[1], checkpoint=memory, **settings)
    assert_same(resumed.variables, whole.variables)
    assert resumed.history == whole.history


def test_settings_out_of_range_are_refused():
    for weight in (-1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="weight of the reconstruction"):
            joint(MODEL, weight)
    with pytest.raises(InputError, match="reconstructions is -1"):
        alternating(MODEL, -1)
    with pytest.raises(InputError, match="at least one objective"):
        in_turn()
