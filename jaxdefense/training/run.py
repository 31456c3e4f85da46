"""One training that can be stopped anywhere: its state, its journal, where it is kept."""

import math
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from jaxdefense.errors import InputError, TrainingError
from jaxdefense.programs import make_room
from jaxdefense.training.evaluate import check_data
from jaxdefense.training.journal import Journal
from jaxdefense.training.objectives import Objective
from jaxdefense.training.state import Step, TrainState, init_state
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


@dataclass
class Run:
    """One training: what is saved (state, best variables, journal) and its settings."""

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
        self.save()

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

    def save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(int(self.state.step), self._tree())
        self.saved_at = time.monotonic()

    def check(self, position: int) -> None:
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


def begin(
    objective: Objective | Turns,
    variables: PyTree,
    optimizer: optax.GradientTransformation,
    x_train: np.ndarray,
    y_train: np.ndarray,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int,
    validate: Validate | None,
    patience: int | None,
    checkpoint: Checkpoint | None,
    save_seconds: float,
    progress: bool,
    name: str,
) -> Run:
    """A training before its first step; arguments and errors of `fit`."""
    make_room()
    check_data(x_train, y_train)
    _check_settings(epochs, batch_size, validate, patience)
    batch_size = min(batch_size, len(x_train))
    x = jax.ShapeDtypeStruct((batch_size, *x_train.shape[1:]), jnp.float32)
    y = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    state = init_state(objective, optimizer, variables, x, y)
    return Run(
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


def run_epoch(runs: Sequence[Run], step: Step, images: jax.Array, labels: jax.Array) -> None:
    """The rest of an epoch of one training, or of several that stand at the same step.

    Args:
        runs: the trainings.
        step: of one (`make_step`), or of several in one program (`make_steps`).
        images, labels: on the device; with a leading axis of trainings where there are several.
    """
    first, split = runs[0], [jax.random.split(run.key) for run in runs]
    epoch, done = divmod(int(first.state.step), first.steps_per_epoch)
    count = images.shape[-4]
    order = packed(
        [jax.random.permutation(jax.random.fold_in(key, epoch), count) for key, _ in split]
    )
    key = packed([key for _, key in split])
    state = packed([run.state for run in runs])
    checked_at = time.monotonic()
    for position in range(done + 1, first.steps_per_epoch + 1):
        state = step(state, key, order, images, labels)
        last, now = position == first.steps_per_epoch, time.monotonic()
        save = now - first.saved_at > first.save_seconds and not last
        # Looking at the state waits for the device, so it is not done after every step.
        if save or last or position % CHECK_STEPS == 0 or now - checked_at > CHECK_SECONDS:
            for run, own in zip(runs, _unpacked(state, len(runs)), strict=True):
                run.state = own
                run.check(position)
            checked_at = now
        if save:
            for run in runs:
                run.save()


def packed(trees: Sequence[Any]) -> Any:
    """Trees of several trainings as one with a leading axis; of one training as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *a: jnp.stack(a), *trees)


def _unpacked(tree: Any, count: int) -> list[Any]:
    if count == 1:
        return [tree]
    leaves, treedef = jax.tree.flatten(tree)
    return [jax.tree.unflatten(treedef, [leaf[i] for leaf in leaves]) for i in range(count)]


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
