"""The one training loop: epochs, validation, early stop, progress, resuming to the same numbers.

Steps are dispatched from the host. A compiled scan over steps would be seventeen times slower on a
CPU, where XLA makes the gradients of convolutions fast only outside loops.
"""

import math
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxdefense.errors import InputError, TrainingError
from jaxdefense.training.evaluate import check_data
from jaxdefense.training.journal import Journal
from jaxdefense.training.objectives import Objective
from jaxdefense.training.state import Step, TrainState, init_state, make_step
from jaxdefense.training.turns import Turns
from jaxdefense.typing import PyTree

CHECK_STEPS, CHECK_SECONDS = 50, 1.0

Validate = Callable[[PyTree], dict[str, float]]


class Checkpoint(Protocol):
    """Where `fit` keeps its state; ``jaxdefense.checkpoints.Checkpoints`` is one."""

    def restore(self, template: PyTree) -> PyTree | None:
        """The newest good state, of the structure of ``template``; None when there is none."""

    def save(self, step: int, state: PyTree) -> None:
        """Keeps a state; it must not be lost if the process dies right after."""


@dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        variables: of the model; the best on the validation split when there is one, else the last.
        history: one row per epoch: ``epoch`` (from 1), ``step``, the mean of every metric over the
            steps of the epoch, and ``validation_<name>`` for everything ``validate`` returned.
        steps: optimizer steps taken.
        stopped_early: whether patience ran out before the last epoch.
    """

    variables: PyTree
    history: list[dict[str, float]]
    steps: int
    stopped_early: bool


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
    check_data(x_train, y_train)
    _check_settings(epochs, batch_size, validate, patience)
    batch_size = min(batch_size, len(x_train))
    x = jax.ShapeDtypeStruct((batch_size, *x_train.shape[1:]), jnp.float32)
    y = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    state = init_state(objective, optimizer, variables, x, y)
    training = _Training(
        state=state,
        best=None if validate is None else jax.tree.map(jnp.copy, state.variables),
        journal=Journal(_identity(key, x_train, y_train, batch_size, epochs, patience)),
        key=key,
        epochs=epochs,
        steps_per_epoch=len(x_train) // batch_size,
        validate=validate,
        patience=patience,
        checkpoint=checkpoint,
        save_seconds=save_seconds,
        title=f"training of {name}" if name else "training",
        bar=tqdm(
            total=epochs * (len(x_train) // batch_size),
            desc=name or None,
            unit="step",
            disable=None if progress else True,
            dynamic_ncols=True,
            leave=False,
        ),
    )
    with training.bar:
        training.restore()
        if not training.journal.done:
            step = make_step(objective, optimizer, batch_size)
            images, labels = jnp.asarray(x_train), jnp.asarray(y_train, jnp.int32)
            while not training.journal.done:
                training.run_epoch(step, images, labels)
                training.finish_epoch()
    return training.result()


@dataclass
class _Training:
    """One call of `fit`: what is saved (state, best variables, journal) and its settings."""

    state: TrainState
    best: PyTree | None
    journal: Journal
    key: jax.Array
    epochs: int
    steps_per_epoch: int
    validate: Validate | None
    patience: int | None
    checkpoint: Checkpoint | None
    save_seconds: float
    title: str
    bar: tqdm
    saved_at: float = field(default_factory=time.monotonic)

    def restore(self) -> None:
        """Takes over a kept training, if there is one and it is this one."""
        kept = None if self.checkpoint is None else self.checkpoint.restore(self._tree())
        if kept is None:
            return
        journal = Journal.decode(kept["journal"])
        differing = [
            f"{item} was {journal.identity.get(item)}, is {value}"
            for item, value in self.journal.identity.items()
            if journal.identity.get(item) != value
        ]
        if differing:
            raise TrainingError(
                f"{self.title}: the checkpoint belongs to another training "
                f"({'; '.join(differing)}), so going on from it would be neither of the two: "
                "use another folder, or delete this one to train anew"
            )
        self.state, self.best, self.journal = kept["state"], kept["best"], journal
        # Steps taken before count as done, but not towards the speed behind the time left.
        self.bar.initial = self.bar.n = int(self.state.step)

    def run_epoch(self, step: Step, images: jax.Array, labels: jax.Array) -> None:
        """The rest of an epoch, from wherever in it the state stands."""
        order_key, step_key = jax.random.split(self.key)
        epoch, done = divmod(int(self.state.step), self.steps_per_epoch)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), len(images))
        checked_at = time.monotonic()
        for position in range(done + 1, self.steps_per_epoch + 1):
            self.state = step(self.state, step_key, order, images, labels)
            last, now = position == self.steps_per_epoch, time.monotonic()
            save = now - self.saved_at > self.save_seconds and not last
            # Looking at the state waits for the device, so it is not done after every step.
            if save or last or position % CHECK_STEPS == 0 or now - checked_at > CHECK_SECONDS:
                self._check(position)
                checked_at = now
            if save:
                self._save()

    def finish_epoch(self) -> None:
        """Validates, notes the epoch in the journal, keeps the best variables, saves."""
        journal = self.journal
        means = {k: float(total) / self.steps_per_epoch for k, total in self.state.totals.items()}
        row = {"epoch": len(journal.history) + 1, "step": int(self.state.step), **means}
        if self.validate is not None:
            scores = {k: float(v) for k, v in self.validate(self.state.variables).items()}
            self._check_validation(scores, row)
            row |= {f"validation_{k}": v for k, v in scores.items()}
            if scores["loss"] < journal.best_loss:
                journal.best_loss, journal.stale = scores["loss"], 0
                # The step overwrites the state in place, so the best needs memory of its own.
                self.best = jax.tree.map(jnp.copy, self.state.variables)
            else:
                journal.stale += 1
        journal.history.append(row)
        out_of_epochs = len(journal.history) == self.epochs
        out_of_patience = self.patience is not None and journal.stale >= self.patience
        journal.done = out_of_epochs or out_of_patience
        journal.stopped_early = out_of_patience and not out_of_epochs
        self.bar.set_postfix({k: f"{v:.4g}" for k, v in row.items() if k != "step"})
        self._save()

    def result(self) -> FitResult:
        """The outcome of a training that is done."""
        return FitResult(
            variables=self.state.variables if self.best is None else self.best,
            history=self.journal.history,
            steps=int(self.state.step),
            stopped_early=self.journal.stopped_early,
        )

    def _tree(self) -> PyTree:
        code = self.journal.encode(self.epochs)
        return {"state": self.state, "best": self.best, "journal": code}

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(int(self.state.step), self._tree())
        self.saved_at = time.monotonic()

    def _check(self, position: int) -> None:
        """Stops at a value that is not finite; brings the bar up to what is really done."""
        bad = int(self.state.bad_step)
        if bad >= 0:
            raise TrainingError(
                f"{self.title}: loss or parameters are not finite at step {bad} (epoch "
                f"{(bad - 1) // self.steps_per_epoch + 1} of {self.epochs}). Most often the "
                "learning rate is too high: try a tenth of it, or a warm-up; a label that is not "
                "below the number of classes does this too. No such state was saved"
            )
        self.bar.update(int(self.state.step) - self.bar.n)
        means = {k: f"{float(total) / position:.4g}" for k, total in self.state.totals.items()}
        self.bar.set_postfix(means)

    def _check_validation(self, scores: dict[str, float], row: dict[str, float]) -> None:
        if "loss" not in scores:
            raise InputError(
                f"{self.title}: validate returned {sorted(scores)}, but 'loss' decides which "
                "variables are best: return it too"
            )
        if not math.isfinite(scores["loss"]):
            raise TrainingError(
                f"{self.title}: the validation loss is {scores['loss']} after epoch {row['epoch']} "
                f"(step {row['step']}): check the validation images and labels, or train with a "
                "lower learning rate"
            )


def _check_settings(
    epochs: int, batch_size: int, validate: Validate | None, patience: int | None
) -> None:
    if epochs < 1 or batch_size < 1:
        raise InputError(
            f"epochs is {epochs} and batch_size {batch_size}, but both must be at least 1"
        )
    if patience is not None and (validate is None or patience < 1):
        raise InputError(
            f"patience is {patience}, but early stopping needs a validate function and a patience "
            "of at least one epoch"
        )


def _identity(
    key: jax.Array,
    x: np.ndarray,
    y: np.ndarray,
    batch_size: int,
    epochs: int,
    patience: int | None,
) -> dict[str, Any]:
    """What must not change between two halves of one training, as plain JSON."""
    return {
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "images": [*x.shape, zlib.crc32(np.ascontiguousarray(x))],
        "labels": zlib.crc32(np.ascontiguousarray(y, dtype=np.int32)),
        "batch_size": batch_size,
        "epochs": epochs,
        "patience": patience,
    }
