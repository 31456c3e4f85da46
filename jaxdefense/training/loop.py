"""The one training loop: epochs, validation, early stop, progress, resuming to the same numbers.

Steps are dispatched from the host. A compiled scan over steps would be seventeen times slower on a
CPU, where XLA makes the gradients of convolutions fast only outside loops.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdefense.errors import InputError
from jaxdefense.training.objectives import Objective
from jaxdefense.training.run import Checkpoint, FitResult, Validate, begin, packed, run_epoch
from jaxdefense.training.state import Step, make_step, make_steps
from jaxdefense.training.turns import Turns
from jaxdefense.typing import PyTree


def fit(
    objective: Objective | Turns,
    variables: PyTree,
    optimizer: optax.GradientTransformation,
    x_train: np.ndarray,
    y_train: np.ndarray,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int,
    validate: Validate | None = None,
    patience: int | None = None,
    checkpoint: Checkpoint | None = None,
    save_seconds: float = 30.0,
    progress: bool = True,
    name: str = "",
) -> FitResult:
    """Trains a model, or goes on where a checkpoint left off.

    Every random number is a function of the key and the step, and everything that decides what
    happens next is in the checkpoint: a training that was killed at any moment and started again
    ends, on a CPU, in parameters bit-identical to an uninterrupted one. A finished training is
    restored without a step.

    Args:
        objective: what to minimise, see `jaxdefense.training.objectives`; or several in turn.
        variables: of the model, ``{"params": ..., ...}``; left untouched.
        optimizer: an optax optimizer.
        x_train: uint8 images ``[n, h, w, c]``; they are put on the device once.
        y_train: integer labels ``[n]``.
        key: PRNG key of the order of the images and of whatever the objective draws.
        epochs: passes over the data.
        batch_size: images per step, at most ``n``. The images that do not fill a last batch are
            left out of an epoch; each epoch has an order of its own.
        validate: ``variables -> {"loss": ..., ...}`` on a validation split, called after every
            epoch (see `validation`). The variables with the lowest loss are returned. Never give
            it the test set.
        patience: stop after so many epochs without a lower validation loss; None to go on.
        checkpoint: where to keep the state: after every epoch, every ``save_seconds`` within one,
            and at the end. The caller closes it.
        save_seconds: seconds between two saves within an epoch.
        progress: show a progress bar with the time left and the metrics, if there is a terminal.
        name: of this training, for the progress bar and for messages.

    Returns:
        The trained variables, the history, the number of steps.

    Raises:
        InputError: data or settings that cannot be trained with.
        TrainingError: the loss or the parameters are not finite any more (the step is named, no
            such state is ever saved), or the checkpoint belongs to another training.

    Example:
        >>> import jax, numpy as np, optax
        >>> from jaxdefense import models
        >>> from jaxdefense.training import fit, supervised
        >>> model = models.build("lenet5")
        >>> variables = models.initialize(model, jax.random.key(0), (28, 28, 1))
        >>> x, y = np.zeros((8, 28, 28, 1), np.uint8), np.arange(8)
        >>> result = fit(supervised(model), variables, optax.adam(1e-3), x, y,
        ...              key=jax.random.key(1), epochs=2, batch_size=4)
        >>> result.steps
        4
    """
    run = begin(
        objective, variables, optimizer, x_train, y_train, key=key, epochs=epochs,
        batch_size=batch_size, validate=validate, patience=patience, checkpoint=checkpoint,
        save_seconds=save_seconds, progress=progress, name=name,
    )  # fmt: skip
    with run.bar:
        run.restore()
        if not run.journal.done:
            step = make_step(objective, optimizer, min(batch_size, len(x_train)))
            images, labels = jnp.asarray(x_train), jnp.asarray(y_train, jnp.int32)
            while not run.journal.done:
                run_epoch([run], step, images, labels)
                run.finish_epoch()
    return run.result()


def fit_together(
    objectives: Sequence[Objective | Turns],
    variables: Sequence[PyTree],
    optimizer: optax.GradientTransformation,
    x_train: Sequence[np.ndarray],
    y_train: Sequence[np.ndarray],
    *,
    keys: Sequence[jax.Array],
    epochs: int,
    batch_size: int,
    validate: Sequence[Validate | None] | None = None,
    patience: int | None = None,
    checkpoints: Sequence[Checkpoint | None] | None = None,
    save_seconds: float = 30.0,
    progress: bool = True,
    name: str = "",
) -> list[FitResult]:
    """Several trainings of one kind as one program, such as the seeds of an experiment.

    Small networks leave an accelerator idle; several of them side by side (``vmap``) cost little
    more than one. On a CPU one after another by `fit` is faster, since convolutions with weights of
    their own for each image have no fast kernel there. Every training has its own data, order,
    validation, best variables, patience and checkpoint, and ends as it would alone up to the order
    of sums; a training kept by `fit` goes on here and the other way round.

    Args:
        objectives: one for each training; they may differ by the arrays they hold only.
        variables, x_train, y_train, keys, validate, checkpoints: of each training; see `fit`. Data
            of all trainings have one shape.
        optimizer, epochs, batch_size, patience, save_seconds, progress, name: of all; see `fit`.

    Returns:
        One result for each training, as `fit` returns it.

    Raises:
        InputError: numbers or shapes that do not agree, objectives of different kinds, and what
            `fit` raises.
        TrainingError: as `fit`; the others are kept up to their last save.

    Example:
        >>> import jax, numpy as np, optax
        >>> from jaxdefense import models
        >>> from jaxdefense.training import fit_together, supervised
        >>> model, keys = models.build("lenet5"), jax.random.split(jax.random.key(0))
        >>> starts = [models.initialize(model, key, (28, 28, 1)) for key in keys]
        >>> x, y = np.zeros((8, 28, 28, 1), np.uint8), np.arange(8)
        >>> both = fit_together([supervised(model)] * 2, starts, optax.adam(1e-3), [x, x], [y, y],
        ...                     keys=keys, epochs=1, batch_size=4)
        >>> [result.steps for result in both]
        [2, 2]
    """
    count = len(objectives)
    validate = [None] * count if validate is None else validate
    checkpoints = [None] * count if checkpoints is None else checkpoints
    given = (variables, x_train, y_train, keys, validate, checkpoints)
    if not count or any(len(each) != count for each in given):
        raise InputError(
            f"there are {count} objectives, but {', '.join(str(len(each)) for each in given)} "
            "variables, images, labels, keys, validations and checkpoints: give one for each "
            "training, and at least one training"
        )
    shapes = {(np.shape(x), np.shape(y)) for x, y in zip(x_train, y_train, strict=True)}
    if len(shapes) > 1:
        raise InputError(
            f"images and labels of trainings in one program have one shape, but these have "
            f"{sorted(shapes)}: take subsets of one size"
        )
    size = min(batch_size, len(x_train[0]))
    runs = [
        begin(
            objectives[i], variables[i], optimizer, x_train[i], y_train[i], key=keys[i],
            epochs=epochs, batch_size=batch_size, validate=validate[i], patience=patience,
            checkpoint=checkpoints[i], save_seconds=save_seconds, progress=progress and i == 0,
            name=f"{name}, {count} together" if name else f"{count} together",
        )
        for i in range(count)
    ]  # fmt: skip
    with runs[0].bar:
        for run in runs:
            run.restore()
        held: tuple[list[int], Step, jax.Array, jax.Array] | None = None
        while pending := [i for i, run in enumerate(runs) if not run.journal.done]:
            # A kill may have come between two of their saves: those behind go first.
            behind = min(int(runs[i].state.step) for i in pending)
            group = [i for i in pending if int(runs[i].state.step) == behind]
            if held is None or held[0] != group:
                chosen = [objectives[i] for i in group]
                step = (
                    make_step(chosen[0], optimizer, size)
                    if len(group) == 1
                    else make_steps(chosen, optimizer, size)
                )
                images = packed([jnp.asarray(x_train[i]) for i in group])
                labels = packed([jnp.asarray(y_train[i], jnp.int32) for i in group])
                held = (group, step, images, labels)
            run_epoch([runs[i] for i in group], *held[1:])
            for i in group:
                runs[i].finish_epoch()
    return [run.result() for run in runs]
