"""Denoising with networks (Gilbert 2020): does a small autoencoder make classifiers robust?

The paper trains an autoencoder of 3,795 parameters to undo FGSM and PGD at 8/255 on CIFAR-10, then
fine-tunes the classifier on attacked and restored images, and reports 79 % (ResNet-20) and 86 %
(SEPreResNet-56) under PGD. All its examples are crafted once, on the network before fine-tuning and
never through the autoencoder; its public code attacks un-normalised images by a loss of clipped
probabilities, and fine-tunes by one that takes logits for probabilities. Here everything is run as
coded, without these faults, with examples crafted anew, and attacked through the whole.

    python -m experiments.gilbert2020_denoising --data-dir DIR         # two cores, one seed
    python -m experiments.gilbert2020_denoising --data-dir DIR --preset paper    # a GPU
    python -m experiments.gilbert2020_denoising --preset smoke                   # a minute, digits

The networks are trained here, since pretrained ones are not to be had offline. Preset small has a
quarter of the published blocks and fewer channels, few images and few epochs, and leaves out most
of the model search; every output says so. Expected: as printed on static examples, little through
the autoencoder, and of the fine-tuned network much less once examples are crafted anew.
"""

import dataclasses
from pathlib import Path

from experiments import gilbert2020_report, studies, together
from experiments.gilbert2020_cells import measured
from experiments.gilbert2020_functions import RESNET, SEPRE, TITLES
from experiments.gilbert2020_parts import Parts, train
from experiments.harness import Training
from experiments.publish import publish
from jaxdefense.cli import launch
from jaxdefense.reporting import Record, ensure_folder

DATA, STAND_IN = "cifar10", "digits"
"""What the paper uses, and what stands in where it is not found."""
CLASSIFIER = Training(epochs=12, shift=2)
EFFICIENT_NET = Training(epochs=4, shift=2)
AUTOENCODER = Training(epochs=24, batch_size=16, lr=2e-3)
ROUND = Training(epochs=1, batch_size=64, lr=3e-4)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; everything that decides the numbers."""

    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default. A set that is not there has a stand-in"""
    download: bool = False
    """fetch the data set if it is not there"""
    size: int = 32
    """pixels of a side"""
    shallower: int = 4
    """the published blocks of each stage are divided by this"""
    stages: int = 3
    """of residual networks; 3 in the paper"""
    alike: bool = False
    """build every network as the first, which takes less time to compile"""
    width: int = 8
    """channels of the first stage of networks of 20 layers; 16 in the paper"""
    deep_width: int = 8
    """the same of deeper ones, and of EfficientNet over its published channels in sixteenths"""
    siblings: tuple[str, ...] = ("preresnet20",)
    """further networks of the model search, first seed, such as seresnet20 and sepreresnet20;
    efficientnet_b0, which the paper did not finish, can be one, but takes some 14 ms an image and
    step on two cores"""
    classifier: Training = CLASSIFIER
    efficient: Training = EFFICIENT_NET
    """of EfficientNet"""
    autoencoder: Training = AUTOENCODER
    finetune: Training = ROUND
    """batch and learning rate of the four logged rounds, whose epochs are multiplied"""
    n_static: int | None = 2000
    """craft examples on so many training images, once: for the autoencoder and fine-tuning"""
    channels: tuple[int, ...] = (1, 2, 32)
    """of the code of other autoencoders, first seed; 8 in the paper"""
    thorough: bool = True
    """also a longer PGD, momentum, AutoAttack, Square, FGSM with other labels, an autoencoder
    without clean inputs, and controls of their own training"""
    adaptive_steps: int = 40
    adaptive_restarts: int = 5
    """of the longer PGD"""
    suite: str = "quick"
    """AutoAttack's version, with `thorough`"""
    queries: int = 300
    """of Square, with `thorough`"""
    patience: int = 100
    """most steps of the attack that counts them"""
    repeats: int = 20
    """calls that are timed"""
    n_train: int | None = 12_000
    """load so many training images only; a tenth is held out"""
    n_test: int | None = 1000
    """score so many test images without an attack"""
    radii: tuple[float, ...] = (4, 8, 12, 16)
    """of curves, in 1 / 255; the paper's is 8"""
    n_eval: int = 96
    """attack so many of them"""
    seeds: tuple[int, ...] = (0, 1, 2)
    output: str = "runs"
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        size=16,
        shallower=9,
        stages=2,
        alike=True,
        width=4,
        deep_width=4,
        siblings=(),
        classifier=Training(epochs=4, batch_size=8, lr=5e-3),
        autoencoder=Training(epochs=4, batch_size=8, lr=1e-2),
        finetune=Training(epochs=1, batch_size=16, lr=3e-4),
        n_static=64,
        channels=(2,),
        thorough=False,
        patience=10,
        n_train=480,
        n_test=64,
        radii=(8,),
        n_eval=64,
        seeds=(0,),
        preset="smoke",
    ),
    "small": Config(seeds=(0,)),
    "paper": Config(
        shallower=1,
        width=16,
        deep_width=16,
        siblings=tuple(name for name in TITLES if name not in (RESNET, SEPRE)),
        classifier=Training(epochs=100, lr=1e-3, shift=4, patience=100),
        efficient=Training(epochs=100, lr=1e-3, shift=4, patience=100),
        autoencoder=Training(epochs=100, batch_size=64, lr=1e-3),
        finetune=Training(epochs=1, batch_size=256, lr=1e-4),
        n_static=None,
        channels=(1, 2, 4, 16, 32, 64),
        adaptive_restarts=10,
        suite="standard",
        queries=5000,
        repeats=100,
        n_train=None,
        n_test=None,
        n_eval=1000,
        preset="paper",
    ),
}


def main(config: Config) -> None:
    """Denoising with networks (Gilbert 2020): tables 2 and 3, the log, the model search."""
    folder = ensure_folder(Path(config.output) / f"gilbert2020_denoising-{config.preset}")
    records: list[Record] = []
    with studies.progress(2 * len(config.seeds), folder) as done:

        def train_one(seed: int) -> Parts:
            study = studies.prepare(
                config, DATA, STAND_IN, seed, folder, size=config.size, channels=3
            )
            data = study.data.subset(n_test=config.n_test, seed=seed)
            parts = train(config, dataclasses.replace(study, data=data))
            done(f"seed {seed}: trained")
            return parts

        every = together.each(train_one, config.seeds)
        for seed, parts in zip(config.seeds, every, strict=True):
            records += measured(config, parts)
            done(f"seed {seed}: attacked")
    publish(gilbert2020_report.outcome(config, every[0], records), config, folder)


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
