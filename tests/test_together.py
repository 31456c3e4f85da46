"""Seeds in threads meet at their trainings, and none waits for one that has gone."""

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments import together
from jaxdefense import models, training
from jaxdefense.training import supervised


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x.reshape(len(x), -1))


OPTIMIZER = optax.sgd(0.1)
X = np.random.default_rng(0).integers(0, 255, (3, 12, 4, 4, 1), np.uint8)
Y = np.arange(36, dtype=np.int32).reshape(3, 12) % 3


def fit(seed, name):
    start = models.initialize(Net(), jax.random.key(seed), (4, 4, 1))
    return together.fit(
        supervised(Net()), start, OPTIMIZER, X[seed], Y[seed],
        key=jax.random.key(seed), epochs=2, batch_size=4, name=name,
    )  # fmt: skip


def both(seed):
    """Two trainings, and the first seed has one more between them."""
    parts = ["first", *["only of this seed"] * (seed == 0), "second"]
    return [fit(seed, part).variables["params"]["Dense_0"]["kernel"] for part in parts]


@pytest.fixture
def programs(monkeypatch):
    """How many trainings ran as one, in order."""
    ran = []
    for name, size in (("fit", lambda *a: 1), ("fit_together", lambda *a: len(a[0]))):
        original = getattr(training, name)

        def noted(*args, _run=original, _size=size, **settings):
            ran.append((_size(*args), settings["name"]))
            return _run(*args, **settings)

        monkeypatch.setattr(training, name, noted)
    return ran


def test_the_same_part_of_all_seeds_is_one_program(programs):
    found = together.each(both, [0, 1, 2], together=True)
    assert programs == [(3, "first"), (1, "only of this seed"), (3, "second")]
    del programs[:]
    for one, other in zip(found, together.each(both, [0, 1, 2]), strict=True):
        assert len(one) == len(other)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    assert {size for size, _ in programs} == {1}  # on a CPU one after another


def test_a_seed_that_fails_fails_alone(programs):
    def fails(seed):
        if seed == 1:
            raise ValueError("no data")
        return both(seed)

    with pytest.raises(ValueError, match="no data"):
        together.each(fails, [0, 1, 2], together=True)
    assert programs == [(2, "first"), (1, "only of this seed"), (2, "second")]


def test_an_error_of_a_training_reaches_all_who_were_in_it(monkeypatch):
    def broken(*args, **settings):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(training, "fit_together", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        together.each(both, [0, 1, 2], together=True)
