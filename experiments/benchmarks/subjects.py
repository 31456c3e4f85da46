"""The networks under attack in the benchmarks, and the radii at which attacks on them differ."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import harness
from jaxdefense import Frozen, Purified, attacks, data, linf, models


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network under attack.

    Attributes:
        model: name of the architecture.
        settings: of it.
        training: of it.
        n_train: training images; all by default.
        eps: radius of adversarial training with PGD in l-inf; 0 for none.
        after: the network that adversarial training starts from.
        radii: by norm; chosen so that attacks can differ there.
        dataset: instead of the one that is asked for.
        autoencoder: settings of one that stands before the classifier.
    """

    model: str
    settings: dict[str, int]
    training: harness.Training
    radii: Mapping[str, tuple[float, ...]]
    n_train: int | None = None
    eps: float = 0.0
    after: str | None = None
    dataset: str | None = None
    autoencoder: Mapping[str, int] | None = None


SUBJECTS = {
    "standard": Subject(
        "lenet5", {}, harness.Training(epochs=3),
        {"linf": (0.05, 0.1, 0.15), "l2": (0.75, 1.25, 1.75), "l1": (4.0, 7.0, 10.0)},
    ),
    "adversarial": Subject(
        "lenet5", {}, harness.Training(epochs=4, batch_size=64, lr=1e-3),
        {"linf": (0.1, 0.2, 0.25), "l2": (1.0, 1.5, 2.0), "l1": (5.0, 10.0, 15.0)},
        n_train=12_000, eps=0.2, after="standard",
    ),
    "resnet": Subject(
        "resnet8", {"width": 4}, harness.Training(epochs=3),
        {"linf": (0.01, 0.02, 0.03), "l2": (0.1, 0.2, 0.3), "l1": (0.75, 1.5, 2.5)},
    ),
    "resnet20": Subject(
        "resnet20", {}, harness.Training(epochs=4), {"linf": (0.002, 0.004, 0.008)},
        n_train=20_000, dataset="cifar10",
    ),
    "resnet18": Subject(
        "resnet18", {}, harness.Training(epochs=3, batch_size=64), {"linf": (0.002, 0.004, 0.008)},
        n_train=5_000, dataset="cifar10",
    ),
    "purified": Subject(
        "resnet20", {}, harness.Training(epochs=1, lr=1e-3), {"linf": (0.002, 0.004, 0.008)},
        n_train=20_000, after="resnet20", dataset="cifar10", autoencoder={"width": 32},
    ),
}  # fmt: skip


def prepare(
    name: str,
    source: tuple[str, str | None, int | None],
    folder: Path,
    n_eval: int,
    seed: int,
    training: harness.Training | None = None,
) -> tuple[harness.Study, Frozen | Purified]:
    """A network of `SUBJECTS`, trained or from its checkpoint, and what it is attacked on.

    Args:
        name: a key of `SUBJECTS`.
        source: name of the data set, where it lies, size of the images.
        folder: for checkpoints.
        n_eval: attack so many test images.
        seed: of everything.
        training: instead of the network's own.
    """
    subject, (dataset, data_dir, size) = SUBJECTS[name], source
    images = data.load(subject.dataset or dataset, data_dir=data_dir, size=size)
    if subject.n_train is not None:
        images = images.subset(n_train=min(subject.n_train, len(images.x_train)), seed=seed)
    images, x_val, y_val = images.split_validation(seed=seed)
    study = harness.Study("parity", images, x_val, y_val, folder, seed, n_eval)
    model = models.build(subject.model, images.num_classes, **subject.settings)
    against = (attacks.pgd(linf, 7, 0.25), subject.eps) if subject.eps else None
    initial: Any = None
    purifier = None
    if subject.after is not None:
        initial = prepare(subject.after, source, folder, n_eval, seed, training)[1]
    training = training or subject.training
    if subject.autoencoder is not None:
        autoencoder = models.build("autoencoder", **subject.autoencoder)
        purifier, _ = harness.train_autoencoder(study, f"{name}-ae", autoencoder, training)
    net, _ = harness.train_classifier(
        study, name, model, training, purifier, against=against, initial=initial
    )
    return study, net if purifier is None else Purified(purifier, net)
