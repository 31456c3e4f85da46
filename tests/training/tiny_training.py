"""A model, data and a checkpoint store small enough that compiling is all that takes time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxdefense.training import fit, supervised

CLASSES, SIDE = 3, 4


class TinyNet(nn.Module):
    """One dense layer with batch norm and dropout: everything that training has to carry."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(8)(x.reshape(len(x), -1))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.25, deterministic=not train)(nn.relu(x))
        return nn.Dense(CLASSES)(x)


class TinyAutoencoder(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        flat = x.reshape(len(x), -1)
        return nn.sigmoid(nn.Dense(flat.shape[-1])(flat)).reshape(x.shape)


def data(n=40, seed=0):
    """Images whose brightness tells the class, as uint8, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    images = 80 * labels[:, None, None, None] + rng.integers(0, 60, (n, SIDE, SIDE, 1))
    return images.astype(np.uint8), labels


def variables(model, seed=0):
    """Random variables made with numpy, which compiles nothing."""
    shapes = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIDE, SIDE, 1), jnp.float32)
    )
    rng = np.random.default_rng(seed)
    draw = lambda leaf: (0.3 * rng.normal(size=leaf.shape)).astype(np.float32)
    made = {"params": jax.tree.map(draw, shapes["params"])}
    if "batch_stats" in shapes:
        ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes["batch_stats"])
        made["batch_stats"] = ones
    return made


# The same objects every time, so that the step compiles once for a whole test file.
OBJECTIVE, OPTIMIZER = supervised(TinyNet()), optax.adam(3e-2)


def train(**settings):
    """A short training of `TinyNet`; settings override those of `fit`."""
    x, y = data()
    arguments = {
        "objective": OBJECTIVE,
        "variables": variables(TinyNet()),
        "optimizer": OPTIMIZER,
        "x_train": x,
        "y_train": y,
        "key": jax.random.key(7),
        "epochs": 4,
        "batch_size": 9,
        **settings,
    }
    return fit(**arguments)


class Memory:
    """A checkpoint store in memory that keeps everything, and can die after some saves."""

    def __init__(self, die_after=None):
        self.states, self.die_after = {}, die_after

    def restore(self, template):
        if not self.states:
            return None
        kept = self.states[max(self.states)]
        assert jax.tree.structure(kept) == jax.tree.structure(template)
        return jax.tree.map(jnp.array, kept)

    def save(self, step, state):
        assert step not in self.states
        self.states[step] = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        if self.die_after is not None and len(self.states) >= self.die_after:
            raise KeyboardInterrupt


def assert_same(a, b):
    """Equal trees, bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
