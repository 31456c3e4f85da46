"""Trainings side by side end as each would alone, whatever happens to one of them."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from tiny_training import Memory, TinyNet, data, train, variables

from jaxdefense.errors import InputError, TrainingError
from jaxdefense.training import Classification, fit_together, supervised, validation

KEYS = [jax.random.key(seed) for seed in (7, 8, 9)]
X, Y = zip(*(data(40, seed=seed) for seed in (3, 4, 5)), strict=True)
VALIDATE = [validation(Classification(TinyNet().apply), *data(20, seed=s)) for s in (0, 1, 2)]
STARTS = [
    jax.tree.map(lambda leaf, scale=scale: scale * leaf, variables(TinyNet()))
    for scale in (1.0, 0.9, 1.1)
]
close = functools.partial(
    jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4)
)


def dim(factor, x):
    return factor * x


OBJECTIVES = [
    supervised(TinyNet(), preprocess=Partial(dim, np.float32(factor))) for factor in (1, 0.5, 0.8)
]
# Adam would blow up the rounding in a bias whose gradient is zero, the one before batch norm.
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def together(**settings):
    given = {"epochs": 3, "batch_size": 9, "keys": KEYS, "validate": VALIDATE, **settings}
    return fit_together(OBJECTIVES, STARTS, OPTIMIZER, X, Y, **given)


def alone(i, **settings):
    return train(
        objective=OBJECTIVES[i], variables=STARTS[i], optimizer=OPTIMIZER, x_train=X[i],
        y_train=Y[i], key=KEYS[i], epochs=3, validate=VALIDATE[i], **settings,
    )  # fmt: skip


def assert_close(results, singles):
    for found, wanted in zip(results, singles, strict=True):
        close(found.variables, wanted.variables)
        assert (found.steps, found.stopped_early) == (wanted.steps, wanted.stopped_early)
        for row, other in zip(found.history, wanted.history, strict=True):
            assert row == pytest.approx(other, rel=1e-2)


@pytest.fixture(scope="module")
def singles():
    return [alone(i) for i in range(3)]


def test_every_training_ends_as_it_would_alone(singles):
    assert_close(together(), singles)
    losses = [result.history[-1]["loss"] for result in singles]
    assert len({round(loss, 3) for loss in losses}) == 3  # or the mapping would not show


def test_one_runs_out_of_patience_and_the_others_go_on():
    rising = lambda variables: {"loss": float(next(count))}
    count = iter(range(100))
    results = together(validate=[rising, VALIDATE[1], VALIDATE[2]], patience=1)
    assert results[0].steps == 8
    assert results[0].stopped_early
    assert [result.steps for result in results[1:]] == [alone(i, patience=1).steps for i in (1, 2)]


@pytest.mark.parametrize("saves", [2, 5, 9])
def test_a_kill_between_their_saves_loses_nothing(singles, saves):
    memories = [Memory(), Memory(die_after=saves), Memory()]
    with pytest.raises(KeyboardInterrupt):
        together(checkpoints=memories, save_seconds=0)
    assert len(memories[0].states) == saves == len(memories[2].states) + 1
    memories[1].die_after = None
    assert_close(together(checkpoints=memories, save_seconds=0), singles)


def test_a_training_kept_together_goes_on_alone(singles):
    memories = [Memory(), Memory(die_after=6), Memory()]
    with pytest.raises(KeyboardInterrupt):
        together(checkpoints=memories, save_seconds=0)
    memories[1].die_after = None
    assert_close([alone(1, checkpoint=memories[1], save_seconds=0)], singles[1:2])


def test_a_loss_that_is_not_finite_is_named():
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), STARTS[1])
    with pytest.raises(TrainingError, match="not finite at step 1"):
        fit_together(
            OBJECTIVES, [STARTS[0], broken, STARTS[2]], OPTIMIZER, X, Y, keys=KEYS, epochs=1,
            batch_size=9,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": KEYS[:2]}, "give one for each"),
        ({"x_train": [X[0], X[1], X[2][:30]], "y_train": [Y[0], Y[1], Y[2][:30]]}, "one shape"),
        ({"objectives": [*OBJECTIVES[:2], supervised(TinyNet())]}, "arrays they hold only"),
    ],
)
def test_what_cannot_run_together_is_said(change, message):
    given = {
        "objectives": OBJECTIVES, "variables": STARTS, "optimizer": OPTIMIZER, "x_train": X,
        "y_train": Y, "keys": KEYS, "epochs": 1, "batch_size": 9, **change,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        fit_together(**given)
