"""Revisiting role of autoencoders (Kim, Kim, Lee and Ro 2020): is an autoencoder a defence?

The paper (arXiv 2005.10750) trains a classifier behind an autoencoder on clean images only and
attacks the whole by FGSM, PGD, CW and DeepFool: the autoencoder adds up to 48 points on MNIST and
up to 6 on CIFAR-10, and more against black boxes. Here AutoAttack, PGD with restarts, losses that
do not saturate and minimum norms are added, and controls that have learned nothing.

    python -m experiments.kim2020_revisiting_autoencoders --data-dir DIR   # two cores, one seed
    python -m experiments.kim2020_revisiting_autoencoders --data-dir DIR --preset paper   # a GPU
    python -m experiments.kim2020_revisiting_autoencoders --preset smoke   # a minute, other digits

Where the paper is silent: the autoencoder is trained to reconstruct, then frozen, then the
classifier is trained behind it (other readings: all trained jointly; the classifier frozen too);
PGD of 40 steps of a tenth of the radius on MNIST and 10 of a quarter on CIFAR-10. Expected: the
gains against FGSM on MNIST are there, those on CIFAR-10 are gone under AutoAttack, and no unbounded
attack leaves anything.
"""

import dataclasses
import types
from pathlib import Path

from experiments import kim2020_report, studies, together
from experiments.harness import Training
from experiments.kim2020_lineup import attack, surroundings
from experiments.kim2020_parts import Parts, train
from experiments.kim2020_settings import CIFAR, MNIST, TINY, Setting
from experiments.measuring import Around
from experiments.publish import publish
from jaxdefense.cli import launch
from jaxdefense.reporting import Record, ensure_folder

SETS = {"mnist": ("MNIST", "digits"), "cifar10": ("CIFAR-10", "typeface")}
"""Name -> the paper's name for it, and what stands in where it is not found."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; everything that decides the numbers."""

    mnist: Setting = MNIST
    cifar10: Setting = CIFAR
    datasets: tuple[str, ...] = tuple(SETS)
    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default. A set that is not there has a stand-in"""
    download: bool = False
    """fetch a data set if it is not there"""
    lambdas: tuple[float, ...] = (0, 0.5, 1, 2, 4, 8, 16, 784, 3136)
    """weights of the reconstruction in joint training; 0, 1 and 4 are printed. They weigh the mean
    over pixels; 784 and 3136 weigh it as 1 and 4 would the sum"""
    gammas: tuple[int, ...] = (1, 2, 3, 4)
    """reconstruction updates before each classification update; 1 and 2 are printed"""
    restarts: tuple[int, int] = (100, 2)
    """steps and restarts of the stronger PGD"""
    suite: str = "quick"
    """AutoAttack's version for C and AE-C, also trained with another loss"""
    suite_of_hardened: str = "quick"
    """the same for what is trained adversarially"""
    suite_of_others: str = "quick"
    """the same for all other networks"""
    thorough: bool = True
    """also PGD with restarts and on other losses, attacks without gradients, loss surfaces, and of
    unbounded attacks DDN and such as stop too early"""
    queries: int = 500
    """of Square, with `thorough`"""
    cw: tuple[int, int] = (4, 50)
    """searches and steps of each; the authors of the attack: 9 of 1000"""
    deepfool_steps: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    output: str = "runs"
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        mnist=TINY,
        cifar10=TINY,
        # Compiling takes nearly all the time, so the rest waits for real data.
        datasets=("mnist",),
        lambdas=(0, 4),
        gammas=(1,),
        thorough=False,
        cw=(2, 8),
        deepfool_steps=4,
        seeds=(0,),
        preset="smoke",
    ),
    "small": Config(seeds=(0,)),
    "paper": Config(
        mnist=dataclasses.replace(
            MNIST,
            autoencoder_widths=(16, 32, 32),
            classifier=Training(epochs=20, batch_size=64, lr=1e-3, shift=2),
            autoencoder=Training(epochs=20, lr=1e-3),
            other=Training(epochs=20, batch_size=64, lr=1e-3, shift=2),
            hardening=Training(epochs=40, lr=1e-3),
            hardening_steps=40,
            hardening_step=1 / 30,
            every=("substitutes", "hardened", "nets", "controls"),
            once=("smoothed", "readings"),
            n_other=None,
            n_eval=1000,
        ),
        cifar10=dataclasses.replace(
            CIFAR,
            width=64,
            substitute="resnet110",
            substitute_width=16,
            autoencoder_widths=(32, 64, 128),
            classifier=Training(epochs=100, lr=1e-3, shift=4, patience=100),
            autoencoder=Training(epochs=50, lr=1e-3),
            other=Training(epochs=100, lr=1e-3, shift=4, patience=100),
            hardening=Training(epochs=40, lr=1e-3, shift=4),
            every=("substitutes", "smoothed", "hardened"),
            once=("readings", "controls"),
            n_train=None,
            n_eval=1000,
        ),
        restarts=(100, 10),
        suite="standard",
        suite_of_hardened="standard",
        suite_of_others="standard",
        queries=5000,
        cw=(9, 1000),
        deepfool_steps=50,
        preset="paper",
    ),
}


def main(config: Config) -> None:
    """Revisiting role of autoencoders (Kim et al. 2020): tables 1 to 4, figures 2 and 4."""
    folder = ensure_folder(Path(config.output) / f"kim2020_revisiting_autoencoders-{config.preset}")
    titles: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    records: list[Record] = []
    around: dict[str, Around] = {}
    parts_in_all = 2 * len(config.datasets) * len(config.seeds)
    with studies.progress(parts_in_all, folder) as done:

        def train_one(unit: tuple[str, int]) -> Parts:
            (name, seed), setting = unit, getattr(config, unit[0])
            sizes = {"n_train": setting.n_train, "n_eval": setting.n_eval}
            study = studies.prepare(
                types.SimpleNamespace(**vars(config), **sizes), name, SETS[name][1], seed, folder,
                size=setting.size, channels=setting.channels,
            )  # fmt: skip
            first = seed == config.seeds[0]
            parts = train(setting, config.lambdas, config.gammas, study, first)
            done(f"{name}, seed {seed}: trained")
            return parts

        for name in config.datasets:
            paper_name, _ = SETS[name]
            seeds = [(name, seed) for seed in config.seeds]
            for (_, seed), parts in zip(seeds, together.each(train_one, seeds), strict=True):
                records += attack(config, getattr(config, name), paper_name, parts)
                if seed == config.seeds[0] and config.thorough:
                    around |= surroundings(paper_name, parts)
                data = parts.study.data
                titles[paper_name], shapes[paper_name] = data.title, data.image_shape
                done(f"{name}, seed {seed}: attacked")
    outcome = kim2020_report.outcome(config, titles, shapes, records, around)
    publish(outcome, config, folder)


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
