"""What experiment scripts share: trained parts with checkpoints, measured curves as records."""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from jax.tree_util import Partial
from tqdm import tqdm

from experiments import together
from jaxdefense import Frozen, Purified, models
from jaxdefense.attacks import Attack
from jaxdefense.checkpoints import Checkpoints
from jaxdefense.data import Dataset, as_images, augment
from jaxdefense.training import (
    Classification,
    Objective,
    Reconstruction,
    Turns,
    alternating,
    joint,
    optimizer,
    reconstruction,
    schedule,
    supervised,
    validation,
    with_augmentation,
)
from jaxdefense.training.objectives import adversarial
from jaxdefense.typing import Classifier, Loss, Purifier


@dataclasses.dataclass(frozen=True)
class Training:
    """Settings of one training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step.
        lr: peak learning rate of Adam, cosine schedule.
        shift: random shifts of up to so many pixels, classifiers only.
        patience: epochs without a lower validation loss before it stops.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 2e-3
    shift: int = 0
    patience: int = 10


@dataclasses.dataclass(frozen=True)
class Study:
    """Data, folder and seed of one run: what trainings and measurements have in common."""

    name: str
    data: Dataset
    x_val: np.ndarray
    y_val: np.ndarray
    folder: Path
    seed: int
    n_eval: int

    @property
    def key(self) -> jax.Array:
        """The key everything random is derived from."""
        return jax.random.key(self.seed)

    @functools.cached_property
    def examples(self) -> tuple[np.ndarray, np.ndarray]:
        """The test images that are attacked, in [0, 1], and their labels."""
        subset = self.data.subset(n_test=min(self.n_eval, len(self.data.x_test)), seed=self.seed)
        return as_images(subset.x_test), subset.y_test


def train_classifier(
    study: Study,
    part: str,
    model: nn.Module,
    training: Training,
    purifier: Purifier | None = None,
    against: tuple[Attack, float] | None = None,
    initial: Frozen | None = None,
    loss: Loss | None = None,
    stream: str = "cla",
    betas: tuple[float, float] | None = None,
) -> tuple[Frozen, list[dict[str, float]]]:
    """A classifier, behind a frozen purifier where there is one; from its checkpoint if trained.

    Args:
        study: data, folder, seed.
        part: name of the checkpoint folder.
        model: a linen classifier.
        training: settings.
        purifier: applied to every image before the classifier sees it.
        against: an attack and its eps, for adversarial training; then the last epoch counts.
        initial: a trained classifier to start from. Small networks that meet strong attacks
            untrained learn to answer the same class always.
        loss: of logits and labels, per example; cross-entropy by default. With another one the
            last epoch counts, because the validation loss is the cross-entropy.
        stream: up to four letters. All classifiers share one: the same initial values and order of
            images, so that they differ by what stands in front of them only. Another one makes a
            second network of the same kind.
        betas: of Adam at a constant learning rate; the cosine schedule by default.

    Returns:
        The classifier and its training history.
    """
    objective = supervised(model, loss, preprocess=purifier)
    if against is not None:
        objective = adversarial(objective, *against, Partial(_deploy, purifier, model))
    if training.shift:
        objective = with_augmentation(objective, Partial(_shift, training.shift))
    apply = Partial(_behind, purifier, model)
    more = _in_front(purifier)
    if against is not None:
        more |= {"attack": against[0].settings, "eps": against[1]}
    if loss is not None:
        # Without addresses of functions, which differ between processes.
        more |= {"loss": re.sub(" at 0x[0-9a-f]+", "", repr(loss))}
    # The lowest loss on clean images would pick the least robust epoch.
    measure = None if against or loss else Classification(apply)
    adam = None if betas is None else _constant_adam(training.lr, *betas)
    more |= {} if betas is None else {"betas": list(betas)}
    return _train(study, part, stream, model, training, objective, measure, more, initial, adam)


def train_autoencoder(
    study: Study, part: str, model: nn.Module, training: Training
) -> tuple[Frozen, list[dict[str, float]]]:
    """An autoencoder that reconstructs clean images; arguments as in `train_classifier`."""
    measure = Reconstruction(Partial(_behind, None, model))
    objective = reconstruction(model)
    trained = _train(study, part, part[:3], model, training, objective, measure, _in_front(None))
    tell_if_blind(study, part, min(row["validation_loss"] for row in trained[1]), study.x_val)
    return trained


def tell_if_blind(study: Study, part: str, error: float, wanted: np.ndarray) -> None:
    """Says so where an autoencoder's mean squared error on images is that of their mean, or more.

    A training that fails ends in one picture for all images, and nothing behind that tells anything
    of the defence.
    """
    mean = float(as_images(wanted).var(axis=0).mean())
    if not error < mean:
        tqdm.write(
            f"{study.data.title}, seed {study.seed}: {part} restores images no better than their "
            f"mean does (mean squared error {error:.4f}; of the mean {mean:.4f}). Nothing behind "
            "it is worth measuring: train it longer, at another learning rate or brightness"
        )


def train_jointly(
    study: Study,
    part: str,
    model: nn.Module,
    training: Training,
    weight: float = 0.0,
    reconstructions: int = 0,
    initial: Frozen | None = None,
) -> tuple[Frozen, list[dict[str, float]]]:
    """A model that classifies and reconstructs, all of it trained; from its checkpoint if trained.

    Args:
        study, part, training, initial: as in `train_classifier`; images are shifted only where
            `reconstructions` is 0.
        model: a `models.Chain` or a `models.EncoderClassifier`.
        weight: of the reconstruction in the loss (lambda).
        reconstructions: updates before each classification update instead (gamma).

    Returns:
        The model and its training history.
    """
    if reconstructions:
        objective: Any = alternating(model, reconstructions)
    else:
        objective = joint(model, weight)
        if training.shift:
            objective = with_augmentation(objective, Partial(_shift, training.shift))
    measure = Classification(Partial(_behind, None, model))
    more = {"weight": weight, "reconstructions": reconstructions}
    return _train(study, part, "cla", model, training, objective, measure, more, initial)


def train_model(
    study: Study,
    part: str,
    model: nn.Module,
    training: Training,
    objective: Objective | Turns,
    about: Mapping[str, Any],
    initial: Frozen | None = None,
    betas: tuple[float, float] | None = None,
) -> tuple[Frozen, list[dict[str, float]]]:
    """A model by any objective, which says what counts, to its last epoch; from its checkpoint.

    Args:
        study, part, training, initial: as in `train_classifier`; images are not shifted.
        model: a linen module. Without `initial` it is called with images to be initialised.
        objective: made by a function of `jaxdefense.training`.
        about: what the objective holds, as plain values (of weights their `digest`): a checkpoint
            of another one is refused.
        betas: of Adam at a constant learning rate, as adversarial networks are trained; the cosine
            schedule of all other trainings by default.

    Returns:
        The model and its training history.
    """
    adam = None if betas is None else _constant_adam(training.lr, *betas)
    more = {**about, "betas": betas and list(betas)}
    return _train(study, part, "obj", model, training, objective, None, more, initial, adam)


def _in_front(purifier: Purifier | None) -> dict[str, Any]:
    """What tells a purifier from others, for the configuration of a checkpoint."""
    if purifier is None:
        return {"purifier": None, "purifier_weights": None}
    kind = getattr(purifier, "module", None) or jax.tree.structure(purifier)
    return {"purifier": repr(kind), "purifier_weights": digest(purifier)}


def _shift(pixels: int, key: jax.Array, x: jax.Array) -> jax.Array:
    return augment.random_shift(key, x, pixels)


def _behind(purifier: Purifier | None, model: nn.Module, variables: Any, x: jax.Array) -> Any:
    return model.apply(variables, x if purifier is None else purifier(x))


def _deploy(purifier: Purifier | None, model: nn.Module, variables: Any) -> Classifier:
    net = Frozen(model, variables)
    return net if purifier is None else Purified(purifier, net)


def _train(study, part, stream, model, training, objective, measure, more, initial=None, adam=None):
    data = study.data
    # From a name and not from a count, so that adding a part changes no other.
    key = jax.random.fold_in(study.key, int.from_bytes(stream.encode(), "little"))
    if initial is None:
        variables = models.initialize(model, key, data.image_shape)
    else:
        variables = initial.variables
        more = more | {"initial": digest(variables)}
    steps = training.epochs * max(1, len(data.x_train) // training.batch_size)
    config = {
        "part": part,
        "model": repr(model),
        "data": data.provenance,
        "seed": study.seed,
        **more,
        **dataclasses.asdict(training),
    }
    validate = measure and validation(measure, study.x_val, study.y_val)
    with Checkpoints(study.folder / "checkpoints" / part, config) as checkpoint:
        result = together.fit(
            objective,
            variables,
            _adam(training.lr, steps) if adam is None else adam,
            data.x_train,
            data.y_train,
            key=key,
            epochs=training.epochs,
            batch_size=training.batch_size,
            validate=validate,
            patience=training.patience if validate else None,
            checkpoint=checkpoint,
            name=part,
        )
    return Frozen(_in_float32(model), result.variables), result.history


@functools.cache  # optimizers are compared by identity
def _adam(lr: float, steps: int) -> optax.GradientTransformation:
    return optimizer("adam", schedule("cosine", lr, steps))


@functools.cache
def _constant_adam(lr: float, b1: float, b2: float) -> optax.GradientTransformation:
    return optax.adam(lr, b1, b2)


def _in_float32(model: nn.Module) -> nn.Module:
    """Attacked and scored in float32, whatever it was trained in."""
    if isinstance(model, models.Chain):
        purifier, classifier = map(_in_float32, (model.purifier, model.classifier))
        return models.Chain(purifier=purifier, classifier=classifier)
    if isinstance(model, models.GAN):
        generator = model.generator.clone(dtype=np.float32)
        return models.GAN(generator=generator, critic=model.critic.clone(dtype=np.float32))
    return model.clone(dtype=np.float32)


def digest(variables: Any) -> str:
    """What tells weights from others."""
    leaves = jax.tree.leaves(variables)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()[:16]
