"""Schedules and optimizers: values at the points that define them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdefense.errors import InputError, UnknownNameError
from jaxdefense.training import compute_dtype, optimizer, schedule


@pytest.mark.parametrize(
    ("name", "warmup", "points"),
    [
        ("constant", 0, {0: 0.1, 99: 0.1}),
        ("constant", 10, {0: 0.0, 5: 0.05, 10: 0.1, 99: 0.1}),
        ("cosine", 0, {0: 0.1, 50: 0.05, 100: 0.0}),
        ("cosine", 20, {0: 0.0, 10: 0.05, 20: 0.1, 60: 0.05, 100: 0.0}),
        ("piecewise", 0, {0: 0.1, 49: 0.1, 51: 0.01, 74: 0.01, 76: 0.001}),
        ("piecewise", 10, {0: 0.0, 10: 0.1, 49: 0.1, 51: 0.01, 74: 0.01, 76: 0.001}),
    ],
)
def test_schedules(name, warmup, points):
    rate = schedule(name, 0.1, total_steps=100, warmup=warmup)
    for step, expected in points.items():
        assert float(rate(step)) == pytest.approx(expected, abs=1e-7), step


@pytest.mark.parametrize(("lr", "warmup"), [(0, 0), (-1, 0), (float("nan"), 0), (0.1, 100)])
def test_schedules_reject_what_cannot_train(lr, warmup):
    with pytest.raises(InputError):
        schedule("constant", lr, total_steps=100, warmup=warmup)


def one_update(rule, gradient=0.5, weight=2.0):
    """How far the first step moves one weight."""
    params = {"w": jnp.array(weight)}
    updates, _ = rule.update({"w": jnp.array(gradient)}, rule.init(params), params)
    return float(updates["w"])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (optimizer("sgd", 0.1, momentum=0.0), -0.1 * 0.5),
        (optimizer("sgd", 0.1, weight_decay=0.2), -0.1 * (0.5 + 0.2 * 2.0)),
        (optimizer("adam", 0.1), -0.1),
        (optimizer("adamw", 0.1, weight_decay=0.2), -0.1 * (1 + 0.2 * 2.0)),
        (optimizer("adam", schedule("constant", 0.1, 10)), -0.1),
    ],
)
def test_first_update(rule, expected):
    assert one_update(rule) == pytest.approx(expected, rel=1e-5)


def test_momentum_is_kept():
    rule = optimizer("sgd", 0.1, momentum=0.5)
    params = {"w": jnp.array(0.0)}
    state = rule.init(params)
    _, state = rule.update({"w": jnp.array(1.0)}, state, params)
    updates, _ = rule.update({"w": jnp.array(1.0)}, state, params)
    assert float(updates["w"]) == pytest.approx(-0.15)


def test_adam_has_no_weight_decay():
    with pytest.raises(InputError, match="use adamw"):
        optimizer("adam", 0.1, weight_decay=0.1)
    with pytest.raises(InputError, match="must not be negative"):
        optimizer("sgd", 0.1, weight_decay=-0.1)


def test_unknown_names_give_the_nearest():
    with pytest.raises(UnknownNameError, match="'cosine'"):
        schedule("cosin", 0.1, 10)
    with pytest.raises(UnknownNameError, match="'adamw'"):
        optimizer("adamW", 0.1)
    with pytest.raises(UnknownNameError, match="'bfloat16'"):
        compute_dtype("float16")


def test_compute_dtype_is_float32_on_a_cpu(monkeypatch):
    assert compute_dtype("float32") == np.float32
    assert compute_dtype("bfloat16") == jnp.bfloat16
    for backend, expected in [("cpu", np.float32), ("gpu", jnp.bfloat16), ("tpu", jnp.bfloat16)]:
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert compute_dtype() == expected
