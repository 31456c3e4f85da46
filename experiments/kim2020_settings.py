"""Settings of `kim2020_revisiting_autoencoders` for each data set."""

import dataclasses

from experiments.harness import Training


@dataclasses.dataclass(frozen=True)
class Setting:
    """One data set: what is trained on it, and how it is attacked.

    Attributes:
        model, width: of the classifier, see `jaxdefense.models.build`.
        substitute, substitute_width: of the attacker's network of a different architecture;
            "lenet_like" has two 3x3 convolutions with batch norm and one hidden dense layer.
        autoencoder_widths: channels of the autoencoder's three convolutions.
        brightness: of its untrained images; the mean of the data where that is dark.
        components: of the PCA among the controls.
        classifier: trainings of all classifiers that are compared.
        autoencoder: of autoencoders.
        other: of the attackers' substitutes of another architecture, and of the nets with a
            shared encoder (table 3).
        hardening, hardening_steps, hardening_step: adversarial training by PGD, from the trained
            classifier; the step as a share of the radius.
        hardening_eps: its radii in 1 / 255, one training after another: small networks that meet
            the largest first answer one class for ever. The last counts.
        eps: l-inf radii of the curves, in 1 / 255; the paper's are added.
        steps, step_size: of the paper's PGD, the size as a share of the radius.
        every: groups of networks that are trained for every seed; see `kim2020_parts.GROUPS`.
        once: groups for the first seed only.
        n_train: train on so many images only.
        n_other: train autoencoders, adversarially, jointly, and substitutes of another architecture
            on so many images only.
        n_eval: attack so many test images of each seed.
        size, channels: of the images; as they are by default.
    """

    model: str
    width: int | None
    substitute: str
    substitute_width: int | None
    autoencoder_widths: tuple[int, ...]
    brightness: float
    components: int
    classifier: Training
    autoencoder: Training
    other: Training
    hardening: Training
    hardening_eps: tuple[float, ...]
    hardening_steps: int
    hardening_step: float
    eps: tuple[float, ...]
    steps: int
    step_size: float
    every: tuple[str, ...]
    once: tuple[str, ...]
    n_train: int | None
    n_other: int | None
    n_eval: int
    size: int | None = None
    channels: int | None = None


MNIST = Setting(
    model="lenet5",
    width=None,
    substitute="lenet_like",
    substitute_width=None,
    autoencoder_widths=(8, 16, 16),
    brightness=0.13,
    components=64,
    classifier=Training(epochs=5, shift=2),
    autoencoder=Training(epochs=3, batch_size=32, lr=1e-3),
    other=Training(epochs=4, shift=2),
    hardening=Training(epochs=3, lr=1e-3),
    hardening_eps=(0.1 * 255, 0.2 * 255, 0.3 * 255),
    hardening_steps=7,
    hardening_step=0.25,
    eps=(0, 5, 10, 20, 40, 60, 80),
    steps=40,
    step_size=0.1,
    every=("substitutes", "nets", "controls"),
    once=("hardened", "readings"),
    n_train=None,
    n_other=8000,
    n_eval=64,
    size=28,
    channels=1,
)
CIFAR = Setting(
    model="vgg16",
    width=8,
    substitute="resnet20",
    substitute_width=8,
    autoencoder_widths=(8, 16, 32),
    brightness=0.5,
    components=128,
    classifier=Training(epochs=8, shift=2),
    autoencoder=Training(epochs=8, batch_size=32, lr=1e-3),
    other=Training(epochs=5, shift=2),
    hardening=Training(epochs=2, shift=2, lr=1e-3),
    hardening_eps=(4, 8),
    hardening_steps=7,
    hardening_step=0.25,
    eps=(0, 1, 2, 5, 8, 10),
    steps=10,
    step_size=0.25,
    every=("substitutes", "smoothed"),
    once=("hardened", "readings", "controls"),
    n_train=4000,
    n_other=None,
    n_eval=64,
    size=32,
    channels=3,
)
TINY = dataclasses.replace(
    MNIST,
    autoencoder_widths=(4, 8, 8),
    classifier=Training(epochs=2, batch_size=16, lr=5e-3),
    autoencoder=Training(epochs=4, batch_size=8, lr=3e-3),
    other=Training(epochs=1, batch_size=16, lr=5e-3),
    hardening=Training(epochs=1, batch_size=64),
    hardening_steps=1,
    eps=(0, 20),
    steps=2,
    step_size=0.75,
    every=("nets",),
    once=(),
    n_train=480,
    n_other=None,
    n_eval=8,
    size=16,
    channels=1,
)
