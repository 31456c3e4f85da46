"""What experiment scripts share: trained parts with checkpoints, measured curves as records."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from jaxdefense import Frozen, Purified, models
from jaxdefense.attacks import Attack
from jaxdefense.checkpoints import Checkpoints
from jaxdefense.data import Dataset, as_images, augment
from jaxdefense.models.chain import Chain, chain_variables, part_variables
from jaxdefense.training import (
    Classification,
    Reconstruction,
    fit,
    joint,
    optimizer,
    reconstruction,
    schedule,
    supervised,
    validation,
    with_augmentation,
)
from jaxdefense.training.objectives import adversarial
from jaxdefense.typing import Classifier, Purifier


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
    purifier: Frozen | None = None,
    against: tuple[Attack, float] | None = None,
    initial: Frozen | None = None,
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

    Returns:
        The classifier and its training history.
    """
    shift = functools.partial(_shift, training.shift)
    objective = supervised(model, preprocess=purifier)
    if against is not None:
        deploy = functools.partial(_deploy, purifier, model)
        objective = adversarial(objective, *against, deploy)
    if training.shift:
        objective = with_augmentation(objective, shift)
    apply = functools.partial(_behind, purifier, model)
    # All classifiers share one stream: the same initial values and order of images, so that they
    # differ by what stands in front of them only.
    measure = Classification(apply)
    return _train(
        study, part, "classifier", model, training, objective, measure, purifier, against, initial
    )


def train_autoencoder(
    study: Study, part: str, model: nn.Module, training: Training
) -> tuple[Frozen, list[dict[str, float]]]:
    """An autoencoder that reconstructs clean images; arguments as in `train_classifier`."""
    measure = Reconstruction(functools.partial(_behind, None, model))
    return _train(study, part, part, model, training, reconstruction(model), measure, None)


def train_jointly(
    study: Study,
    part: str,
    purifier: nn.Module,
    classifier: nn.Module,
    training: Training,
    weight: float = 1.0,
) -> Purified:
    """A purifier and a classifier trained together, on cross-entropy plus `weight` times the MSE.

    Both begin as the parts of `train_autoencoder` and `train_classifier` do.
    """
    chain = Chain(purifier=purifier, classifier=classifier)
    initial = chain_variables(
        _initial(study, "autoencoder", purifier), _initial(study, "classifier", classifier)
    )
    objective = joint(chain, weight)
    if training.shift:
        objective = with_augmentation(objective, functools.partial(_shift, training.shift))
    measure = Classification(functools.partial(_behind, None, chain))
    trained, _ = _train(
        study,
        part,
        "classifier",
        chain,
        training,
        objective,
        measure,
        None,
        None,
        Frozen(chain, initial),
    )
    first, second = part_variables(trained.variables)
    return Purified(
        Frozen(trained.module.purifier, first), Frozen(trained.module.classifier, second)
    )


def _initial(study: Study, stream: str, model: nn.Module) -> Any:
    return models.initialize(model, _stream(study, stream), study.data.image_shape)


def _stream(study: Study, name: str) -> jax.Array:
    # From a name and not from a count, so that adding a part changes no other.
    return jax.random.fold_in(study.key, int.from_bytes(name[:3].encode(), "little"))


def _shift(pixels: int, key: jax.Array, x: jax.Array) -> jax.Array:
    return augment.random_shift(key, x, pixels)


def _behind(purifier: Purifier | None, model: nn.Module, variables: Any, x: jax.Array) -> Any:
    return model.apply(variables, x if purifier is None else purifier(x))


def _deploy(purifier: Purifier | None, model: nn.Module, variables: Any) -> Classifier:
    net = Frozen(model, variables)
    return net if purifier is None else Purified(purifier, net)


def _train(
    study, part, stream, model, training, objective, measure, purifier, against=None, initial=None
):
    data = study.data
    key = _stream(study, stream)
    variables = _initial(study, stream, model) if initial is None else initial.variables
    steps = training.epochs * max(1, len(data.x_train) // training.batch_size)
    config = {
        "part": part,
        "model": repr(model),
        "data": data.provenance,
        "seed": study.seed,
        "purifier": purifier and repr(purifier.module),
        "purifier_weights": purifier and _digest(purifier.variables),
        **dataclasses.asdict(training),
    }
    if against is not None:
        config |= {"attack": against[0].settings, "eps": against[1]}
    if initial is not None:
        config |= {"initial": _digest(initial.variables)}
    # The lowest loss on clean images would pick the least robust epoch.
    validate = None if against else validation(measure, study.x_val, study.y_val)
    with Checkpoints(study.folder / "checkpoints" / part, config) as checkpoint:
        result = fit(
            objective,
            variables,
            optimizer("adam", schedule("cosine", training.lr, steps)),
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


def _in_float32(model: nn.Module) -> nn.Module:
    """Attacked and scored in float32, whatever it was trained in."""
    if isinstance(model, Chain):
        purifier, classifier = map(_in_float32, (model.purifier, model.classifier))
        return Chain(purifier=purifier, classifier=classifier)
    return model.clone(dtype=np.float32)


def _digest(variables: Any) -> str:
    leaves = jax.tree.leaves(variables)
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()[:16]
