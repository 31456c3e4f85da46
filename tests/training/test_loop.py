"""The loop: it learns, stops, validates, and resumes to the same bits from anywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from tiny_training import CLASSES, Memory, TinyNet, assert_same, data, train, variables

from jaxdefense.errors import InputError, TrainingError
from jaxdefense.training import Classification, supervised, validation

validate = validation(Classification(TinyNet().apply), *data(20, seed=1))


@pytest.fixture(scope="module")
def uninterrupted():
    return train(validate=validate, checkpoint=Memory())


def test_loss_falls_and_the_history_tells(uninterrupted):
    rows = uninterrupted.history
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["step"] for row in rows] == [4, 8, 12, 16]  # 40 images, 4 batches of 9
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert rows[-1]["validation_loss"] < 0.8 * rows[0]["validation_loss"]
    assert {"accuracy", "validation_loss", "validation_accuracy"} <= set(rows[0])
    assert uninterrupted.steps == 16
    assert not uninterrupted.stopped_early


def test_metrics_are_means_over_the_steps_of_the_epoch():
    steps = train(epochs=1, optimizer=optax.set_to_zero(), objective=bright)
    x, _ = data()
    order_key, _ = jax.random.split(jax.random.key(7))
    order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, 0), 40))
    # 36 of the 40 images make four full batches.
    assert steps.history[0]["brightness"] == pytest.approx(x[order[:36]].mean() / 255, rel=1e-5)


def bright(params, model_state, key, x, y):
    loss = jax.tree.reduce(lambda a, b: a + b.sum(), params, 0.0)
    return loss, (model_state, {"brightness": x.mean()})


def test_variables_given_are_left_untouched():
    model = TinyNet()
    given = jax.tree.map(jnp.asarray, variables(model))
    result = train(variables=given, epochs=1)
    assert_same(given, jax.tree.map(jnp.asarray, variables(model)))
    assert not np.array_equal(
        given["params"]["Dense_0"]["kernel"], result.variables["params"]["Dense_0"]["kernel"]
    )


def test_the_step_is_traced_once():
    traces = []

    def counted(*arguments):
        traces.append(1)
        return supervised(TinyNet())(*arguments)

    train(objective=counted, validate=validate, checkpoint=Memory(), save_seconds=0)
    assert len(traces) == 2  # once for the names of the metrics, once for the step


def test_objectives_with_other_weights_share_a_program():
    traces = []

    def dim(factor, x):
        traces.append(1)
        return factor * x

    trained = [
        train(objective=supervised(TinyNet(), preprocess=Partial(dim, np.float32(factor))))
        for factor in (1.0, 0.5)
    ]
    assert len(traces) == 3  # of each objective for the names of the metrics, of the step once
    closures = [
        train(objective=supervised(TinyNet(), preprocess=lambda x, factor=factor: factor * x))
        for factor in (1.0, 0.5)
    ]
    assert trained[0].history != trained[1].history
    for held, closed in zip(trained, closures, strict=True):
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5),
            held.variables,
            closed.variables,
        )


def test_the_key_decides_everything(uninterrupted):
    again, other = train(validate=validate), train(key=jax.random.key(8), validate=validate)
    assert_same(again.variables, uninterrupted.variables)
    assert again.history == uninterrupted.history != other.history


@pytest.mark.parametrize("saves", [1, 6, 12])
def test_resuming_anywhere_is_bit_identical(uninterrupted, saves):
    memory = Memory(die_after=saves)
    settings = {"validate": validate, "checkpoint": memory, "save_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        train(**settings)
    assert list(memory.states) == list(range(1, saves + 1))  # every step, within epochs as well
    memory.die_after = None
    resumed = train(**settings)
    assert_same(resumed.variables, uninterrupted.variables)
    assert resumed.history == uninterrupted.history
    assert list(memory.states) == list(range(1, 17))


def test_a_finished_training_is_restored_without_a_step():
    memory = Memory()
    first = train(checkpoint=memory)
    assert list(memory.states) == [4, 8, 12, 16]
    memory.save = None
    calls = []

    def counted(*arguments):
        calls.append(1)
        return supervised(TinyNet())(*arguments)

    again = train(checkpoint=memory, objective=counted)
    assert len(calls) == 1  # for the names of the metrics, on shapes only
    assert_same(first.variables, again.variables)
    assert (again.history, again.steps) == (first.history, first.steps)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"key": jax.random.key(8)}, "key was"),
        ({"batch_size": 10}, "batch_size was 9, is 10"),
        ({"y_train": data()[1][::-1]}, "labels was"),
        ({"x_train": data(seed=3)[0]}, "images was"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(change, named):
    memory = Memory()
    train(checkpoint=memory, epochs=1)
    with pytest.raises(TrainingError, match=named):
        train(checkpoint=memory, **{"epochs": 1, **change})


def poisoned(step, value):
    """An optimizer whose given update is not finite."""
    rule = optax.sgd(1e-3)

    def update(gradients, state, params=None):
        count, inner = state
        updates, inner = rule.update(gradients, inner, params)
        scale = jnp.where(count + 1 == step, value, 1.0)
        return jax.tree.map(lambda leaf: scale * leaf, updates), (count + 1, inner)

    return optax.GradientTransformation(lambda p: (jnp.zeros((), jnp.int32), rule.init(p)), update)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_stops_at_the_first_bad_step_and_never_saves_it(value):
    memory = Memory()
    with pytest.raises(TrainingError, match=r"training of tiny: .* step 7 \(epoch 2 of 4\)"):
        train(optimizer=poisoned(7, value), checkpoint=memory, save_seconds=0, name="tiny")
    assert max(memory.states) == 6
    for state in memory.states.values():
        for leaf in jax.tree.leaves(state):
            assert np.isfinite(leaf).all()


def test_a_label_that_is_no_class_stops_training():
    _, y = data()
    with pytest.raises(TrainingError, match="number of classes"):
        train(y_train=np.where(y == 0, CLASSES, y))


def test_early_stop_restores_the_best():
    seen = []
    losses = iter([3.0, 2.0, 2.0, 2.5])

    def scripted(trained):
        seen.append(jax.tree.map(np.array, trained))
        return {"loss": next(losses)}

    result = train(epochs=20, validate=scripted, patience=2)
    assert result.stopped_early
    assert len(result.history) == 4
    assert result.steps == 16
    assert_same(jax.tree.map(np.asarray, result.variables), seen[1])
    assert [row["validation_loss"] for row in result.history] == [3.0, 2.0, 2.0, 2.5]


def test_without_patience_all_epochs_run_and_the_best_is_returned():
    seen = []

    def rising(trained):
        seen.append(jax.tree.map(np.array, trained))
        return {"loss": float(len(seen))}

    result = train(validate=rising)
    assert (len(result.history), result.stopped_early) == (4, False)
    assert_same(jax.tree.map(np.asarray, result.variables), seen[0])


def test_patience_survives_an_interruption():
    losses = [3.0, 2.0, 2.5, 2.6, 1.0]
    memory, calls = Memory(die_after=3), []

    def scripted(trained):
        calls.append(1)
        return {"loss": losses[len(calls) - 1]}

    settings = {"epochs": 20, "validate": scripted, "patience": 2, "checkpoint": memory}
    with pytest.raises(KeyboardInterrupt):
        train(**settings)
    memory.die_after = None
    result = train(**settings)
    assert len(result.history) == 4
    assert result.stopped_early


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ({"loss": float("nan")}, TrainingError, "validation loss is nan after epoch 1"),
        ({"accuracy": 1.0}, InputError, "'loss' decides"),
        ({"loss": 1.0, "x" * 9000: 1.0}, InputError, "history takes"),
    ],
)
def test_validation_that_cannot_be_used(scores, error, message):
    with pytest.raises(error, match=message):
        train(validate=lambda trained: scores, checkpoint=Memory(), epochs=1)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"patience": 2},
        {"patience": 0, "validate": lambda trained: {"loss": 1.0}},
        {"x_train": data()[0] / 255},
        {"y_train": data()[1][:-1]},
    ],
)
def test_settings_that_cannot_be_trained_with(change):
    with pytest.raises(InputError):
        train(**change)


def test_a_batch_larger_than_the_set_is_the_whole_set():
    assert train(batch_size=1000, epochs=2).steps == 2


def test_progress_is_silent_without_a_terminal(capsys):
    train(epochs=1, name="quiet")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
