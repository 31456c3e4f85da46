"""Quickstart: a classifier and two autoencoder defences, trained, attacked and compared.

The setting of Jung et al. 2022 (U-Autoencoder) in small: each autoencoder learns to reconstruct
clean images, is frozen, and a classifier is trained behind it. Gaussian noise, FGSM and PGD, once
from an attacker who knows the bare classifier only (oblivious) and once through the whole defence
(white-box). All classifiers start from the same initial values and see the same order of images.

    python -m experiments.quickstart                                  # typeface digits
    python -m experiments.quickstart --dataset mnist --model lenet5 --data-dir DIR

About four minutes on two CPU cores (preset small). Expected: both defences look strong against the
oblivious attacker and fall to about zero white-box, as the undefended classifier does.
"""

import dataclasses
import time
from pathlib import Path

from experiments import harness, measuring, quickstart_report
from experiments.harness import Training
from jaxdefense import Purified, attacks, data, linf, models
from jaxdefense.cli import launch
from jaxdefense.errors import InputError
from jaxdefense.reporting import ensure_folder
from jaxdefense.training import compute_dtype
from jaxdefense.typing import Classifier

CLASSIFIER = Training(epochs=4, batch_size=32, shift=2)
AUTOENCODER = Training(epochs=4, batch_size=32)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the quickstart; everything that decides its numbers."""

    dataset: str = "typeface"
    """a data set's name, an .npz, or a folder of class folders (see: jaxdefense list)"""
    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default"""
    download: bool = False
    """fetch the data set if it is not there"""
    fonts: str | None = None
    """a folder of fonts to add to the typeface digits"""
    size: int | None = None
    """resize images; 32 for typeface digits, else as they come"""
    channels: int | None = None
    """1 or 3; 3 for typeface digits, else as they come"""
    model: str = "resnet8"
    """the classifier (see: jaxdefense list)"""
    width: int | None = None
    """channels of its first stage, where it has a width; its own by default"""
    autoencoder_width: int = 16
    classifier: Training = CLASSIFIER
    autoencoder: Training = AUTOENCODER
    n_train: int | None = None
    """train on so many images only"""
    n_eval: int = 256
    """attack so many test images"""
    eps: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3)
    """l-inf radii, pixels in [0, 1]"""
    sigmas: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.225, 0.3, 0.4, 0.5)
    """standard deviations of the Gaussian noise"""
    headline_eps: float = 0.05
    """the radius of the side-by-side table"""
    steps: int = 20
    """of PGD"""
    precision: str = "auto"
    """of training: auto, float32 or bfloat16; attacks are always float32"""
    seed: int = 0
    output: str = "runs/quickstart"
    """results go to a folder below this one, named by data set, model and preset"""
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        dataset="digits",
        size=16,
        channels=1,
        model="lenet5",
        classifier=Training(epochs=5, batch_size=32, lr=5e-3),
        autoencoder=Training(epochs=3, batch_size=32, lr=1e-2),
        autoencoder_width=4,
        n_train=480,
        n_eval=12,
        eps=(0.0, 0.02, 0.05, 0.3),
        sigmas=(0.0, 0.2),
        steps=2,
        preset="smoke",
    ),
    "small": Config(),
    "paper": Config(
        model="resnet18",
        classifier=Training(epochs=30, batch_size=128, shift=2),
        autoencoder=Training(epochs=30, batch_size=128),
        autoencoder_width=32,
        steps=40,
        n_eval=2000,
        preset="paper",
    ),
}


def main(config: Config) -> None:
    """Train, attack and compare a classifier, an autoencoder and a U-autoencoder defence."""
    start = time.monotonic()
    if config.headline_eps not in config.eps:
        raise InputError(
            f"headline_eps is {config.headline_eps:g}, but is not measured: choose one of eps, "
            f"{', '.join(f'{eps:g}' for eps in config.eps)}"
        )
    folder = ensure_folder(
        Path(config.output) / f"{Path(config.dataset).stem}-{config.model}-{config.preset}"
    )
    study = prepare(config, folder)
    settings = {} if config.width is None else {"width": config.width}
    build = lambda: models.build(
        config.model, study.data.num_classes, dtype=compute_dtype(config.precision), **settings
    )
    print(f"training on {study.data.provenance}")
    histories = {}
    net, histories["classifier"] = harness.train_classifier(
        study, "classifier", build(), config.classifier
    )
    deployed: dict[str, Classifier] = {"none": net}
    purifiers = {}
    for name, part in (("AE", "autoencoder"), ("U-AE", "u_autoencoder")):
        model = models.build(part, width=config.autoencoder_width)
        purifier, history = harness.train_autoencoder(study, part, model, config.autoencoder)
        histories[name] = [
            {key.replace("loss", "reconstruction_error"): value for key, value in row.items()}
            for row in history
        ]
        behind, histories[f"classifier behind {name}"] = harness.train_classifier(
            study, f"classifier_behind_{part}", build(), config.classifier, purifier
        )
        purifiers[name], deployed[name] = purifier, Purified(purifier, behind)

    print(f"attacking {len(study.examples[1])} test images")
    records = []
    for name, defence in deployed.items():
        records.append(measuring.clean(study, config.model, name, defence))
        lineup: list[tuple] = [(attacks.gaussian(), config.sigmas, None)]
        for attack in (attacks.fgsm(linf), attacks.pgd(linf, config.steps)):
            if defence is not net:
                lineup.append((attack, config.eps, net))
            lineup.append((attack, config.eps, None))
        for attack, radii, surrogate in lineup:
            records += measuring.curve(study, config.model, name, attack, defence, radii, surrogate)
    seconds = time.monotonic() - start
    quickstart_report.write(config, study, records, histories, deployed, purifiers, seconds)


def prepare(config: Config, folder: Path) -> harness.Study:
    """Data at the size asked for, with a validation split off the training images."""
    size, channels = config.size, config.channels
    if config.dataset == "typeface":
        size, channels = size or 32, channels or 3
    dataset = data.load(
        config.dataset, data_dir=config.data_dir, download=config.download,
        size=size, channels=channels, fonts=config.fonts,
    )  # fmt: skip
    if config.n_train is not None:
        dataset = dataset.subset(n_train=config.n_train, seed=config.seed)
    dataset, x_val, y_val = dataset.split_validation(0.1, seed=config.seed)
    return harness.Study("quickstart", dataset, x_val, y_val, folder, config.seed, config.n_eval)


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
