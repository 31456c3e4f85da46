"""Parameters, operations and time: against formulas, and against functions that sleep."""

import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdefense as jd
from jaxdefense.errors import InputError
from jaxdefense.evaluation import flops, latency, parameters


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), padding="VALID")(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        return nn.Dense(5)(x.reshape(len(x), -1))


SHAPE = (2, 6, 6, 3)
VARIABLES = jax.eval_shape(Net().init, jax.random.key(0), jnp.zeros(SHAPE))
NET = jd.Frozen(Net(), jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), VARIABLES))


def test_parameters_are_what_was_trained():
    expected = (27 * 4 + 4) + 2 * 4 + (64 * 5 + 5)  # not the batch statistics
    assert parameters(NET) == expected
    assert parameters(jd.Purified(NET, jd.Normalized(NET, 0.5, jnp.ones(3)))) == 2 * expected + 3
    assert parameters(lambda x: x) == 0
    assert parameters(jax.tree_util.Partial(jnp.dot, jnp.ones((3, 4)))) == 12


def test_flops_of_a_convolution():
    kernel = jnp.ones((3, 3, 3, 4))
    valid = lambda x: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # Every one of 2 * 4 * 4 positions and 4 channels multiplies and adds 27 numbers.
    assert flops(valid, SHAPE) == 2 * 27 * (2 * 4 * 4 * 4)


def test_flops_add_up_and_grow_with_the_batch():
    product = jax.tree_util.Partial(jnp.matmul, jnp.ones((7, 6)))
    one = flops(product, (1, 5, 6, 3))
    assert one == 2 * 5 * 7 * 6 * 3
    assert flops(product, (4, 5, 6, 3)) == 4 * one
    back = jax.tree_util.Partial(jnp.matmul, jnp.ones((2, 7)))
    assert flops(jd.Purified(product, back), (1, 5, 6, 3)) == one + 2 * 5 * 2 * 7 * 3
    with pytest.raises(InputError, match=r"\(b, h, w, c\)"):
        flops(product, (5, 6, 3))


def test_random_functions_are_counted_and_timed_too():
    noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE[1:]))
    noisy = jd.Randomized(lambda keys, x: NET(x + noise(keys)))
    assert flops(noisy, SHAPE) > flops(NET, SHAPE)
    assert latency(noisy, np.zeros(SHAPE), repeats=2).median > 0


def sleeping(seconds):
    """A function that takes so long on the host, every time it is called."""

    def wait(x):
        time.sleep(next(seconds))
        return np.asarray(x)

    shape = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    return lambda x: jax.pure_callback(wait, shape, x)


def test_latency_waits_for_the_answer_and_leaves_out_the_warm_up():
    calls = iter([0.5, 0.02, 0.02, 0.3, 0.02, 0.02, 0.02, 0.02])
    taken = latency(sleeping(calls), np.zeros(SHAPE), repeats=7, warmup=1)
    assert next(calls, None) is None  # called as often as said
    assert 0.02 <= taken.median < 0.15  # neither the first call nor the one outlier
    assert taken.low <= taken.median <= taken.high < 0.3


def test_latency_needs_a_call_to_time():
    for settings in ({"repeats": 0}, {"warmup": 0}):
        with pytest.raises(InputError, match="1 or more"):
            latency(NET, np.zeros(SHAPE), **settings)
