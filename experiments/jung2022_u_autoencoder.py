"""U-Autoencoder (Jung, Ham, Song and Moon 2022): does a U-shaped autoencoder withstand any attack?

The paper puts an autoencoder with additive skip connections in front of a ResNet-18 and reports 68
to 98 % under PGD at 0.1 on three data sets, without a penalty or an attack in training. Its numbers
look crafted on the bare ResNet (oblivious); here every cell is also attacked through the defence.

    python -m experiments.jung2022_u_autoencoder --data-dir DIR      # two cores, one seed
    python -m experiments.jung2022_u_autoencoder --data-dir DIR --preset paper      # a GPU
    python -m experiments.jung2022_u_autoencoder --preset smoke      # a minute, data we draw

Where the paper is silent: pixels in [0, 1]; PGD of 40 steps of a tenth of the radius from a random
start; staged training (autoencoder, then the classifier behind it); GTSRB for the traffic signs,
because the paper's reference for them is a table of vehicle counts; typeface digits where TMNIST is
not to be had.
"""

import dataclasses
import functools
import math
from pathlib import Path

from experiments import jung2022_report, measuring, studies, together
from experiments.harness import Training
from experiments.jung2022_parts import FAINT, SMOOTH, Parts, train, variants
from experiments.paper_numbers import radii
from experiments.publish import publish
from jaxdefense import Purified, attacks, defenses, l2, linf
from jaxdefense.cli import launch
from jaxdefense.reporting import Record, ensure_folder
from jaxdefense.typing import Purifier

CLASSIFIER = Training(epochs=5, batch_size=64, shift=2)
AUTOENCODER = Training(epochs=5, batch_size=32)
SETS = {
    "tmnist": ("TMNIST", "typeface"),
    "fingers": ("Fingers", "synthetic_fingers"),
    "gtsrb": ("TrafficSign", "synthetic_signs"),
}
"""Name -> the paper's name for it, and what stands in where it is not found."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; everything that decides the numbers."""

    datasets: tuple[str, ...] = tuple(SETS)
    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default. A set that is not there has a stand-in"""
    download: bool = False
    """fetch a data set if it is not there"""
    model: str = "resnet18"
    width: int = 8
    """channels of the classifier's first stage; 64 in the paper"""
    autoencoder_width: int = 16
    """channels of the autoencoders' first layer"""
    classifier: Training = CLASSIFIER
    autoencoder: Training = AUTOENCODER
    n_train: int | None = 6000
    """train on so many images only"""
    n_eval: int = 128
    """attack so many test images of each seed"""
    eps: tuple[float, ...] = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
    """l-inf radii of the white-box curves, pixels in [0, 1]; the paper's are added"""
    sigmas: tuple[float, ...] = (0.0, 0.06, 0.125, 0.225, 0.3)
    """standard deviations of Gaussian noise"""
    steps: int = 40
    """of PGD, each of a tenth of the radius"""
    suite: str | None = "standard"
    """the strongest attacker, besides all others: AutoAttack; none in preset smoke"""
    suite_of_faint: str | None = "quick"
    """the same at the radius of `jung2022_parts.FAINT`, also of smooth controls"""
    ladder: tuple[int, ...] = (7, 20, 100)
    """other numbers of steps, on the set `looked_into`"""
    cw: tuple[int, int] | None = (4, 50)
    """searches and steps of CW without a radius, on the set `looked_into`; none in preset smoke"""
    controls: bool = True
    """also purifiers that have learned nothing of attacks, a classifier behind an untrained
    autoencoder, and corrupted test images"""
    variant_seeds: int = 1
    """seeds of other readings of the paper, on the set `looked_into`"""
    looked_into: str = "fingers"
    """one of the data sets; where it is not among those of the run, their first"""
    seeds: tuple[int, ...] = (0, 1, 2)
    output: str = "runs"
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        datasets=("fingers",),
        model="resnet8",
        width=4,
        autoencoder_width=4,
        classifier=Training(epochs=4, batch_size=32, lr=5e-3),
        autoencoder=Training(epochs=8, batch_size=32, lr=1e-2),
        n_train=640,
        n_eval=12,
        eps=(0.0, 0.1),
        sigmas=(0.0, 0.125),
        steps=2,
        suite=None,
        suite_of_faint=None,
        ladder=(),
        cw=None,
        controls=False,
        variant_seeds=0,
        seeds=(0, 1),
        preset="smoke",
    ),
    "small": Config(seeds=(0,)),
    "paper": Config(
        width=64,
        autoencoder_width=32,
        classifier=Training(epochs=30, batch_size=128, shift=2),
        autoencoder=Training(epochs=30, batch_size=128, lr=1e-3),
        n_train=None,
        n_eval=1000,
        variant_seeds=3,
        preset="paper",
    ),
}


def main(config: Config) -> None:
    """U-Autoencoder (Jung et al. 2022): paper against ours, table 1 and figure 1."""
    folder = ensure_folder(Path(config.output) / f"jung2022_u_autoencoder-{config.preset}")
    units = [(name, seed) for name in config.datasets for seed in config.seeds]
    inner = looked_into(config)
    with studies.progress(2 * len(units), folder) as done:
        few = config.seeds[: config.variant_seeds]
        trained: dict[tuple[str, int], Parts] = {}

        def train_one(unit: tuple[str, int]) -> Parts:
            name, seed = unit
            study = studies.prepare(config, name, SETS[name][1], seed, folder, size=32, channels=3)
            parts = train(config, study)
            done(f"{name}, seed {seed}: trained")
            return parts

        for name in config.datasets:
            seeds = [(name, seed) for seed in config.seeds]
            trained |= zip(seeds, together.each(train_one, seeds), strict=True)
        records: list[Record] = []
        for name, seed in units:
            parts, others = trained[name, seed], [s for s in config.seeds if s != seed]
            other = trained[name, others[0]] if others else None
            records += attack(config, SETS[name][0], parts, other)
            if name == inner and seed in few:
                records += other_readings(config, SETS[name][0], parts)
            done(f"{name}, seed {seed}: attacked")
    paper_names = {
        trained[name, config.seeds[0]].study.data.title: SETS[name][0] for name in config.datasets
    }
    outcome = jung2022_report.outcome(config, trained, records, paper_names)
    publish(outcome, config, folder)


def looked_into(config: Config) -> str:
    """The data set on which there is more than the paper has."""
    return config.looked_into if config.looked_into in config.datasets else config.datasets[0]


def attack(config: Config, dataset: str, parts: Parts, other: Parts | None) -> list[Record]:
    """All attackers on all three models of one data set and seed, and the controls."""
    study, records = parts.study, []
    curve = lambda *given, **more: measuring.curve(study, parts.model, *given, **more)
    fgsm, pgd = attacks.fgsm(linf), attacks.pgd(linf, config.steps, 0.1)
    at = radii("0", dataset, "pgd")
    both = tuple(sorted({*radii("0", dataset, "fgsm"), *at}))
    grid = tuple(sorted({*config.eps, *both}))
    sigmas = tuple(sorted({*config.sigmas, *radii("0", dataset, "gaussian")}))
    faint = FAINT[dataset]
    faintly = [attacks.SUITES[config.suite_of_faint](linf)] if config.suite_of_faint else []
    for name, deployed in parts.deployed.items():
        records.append(measuring.clean(study, parts.model, name, deployed))
        records += curve(name, fgsm, deployed, grid, method="grid")
        records += curve(name, pgd, deployed, grid)
        if config.suite is not None:
            records += curve(name, attacks.SUITES[config.suite](linf), deployed, both)
        for each in faintly:
            records += curve(name, each, deployed, (faint,))
        if dataset == SETS[looked_into(config)][0]:
            for steps in config.ladder:
                records += curve(name, attacks.pgd(linf, steps), deployed, (faint, *at))
            if config.cw is not None:
                cw = attacks.carlini_wagner(l2, *config.cw)
                records += measuring.minimum(study, parts.model, name, cw, deployed, LENGTHS)
        if other is not None and name != "none":
            source = other.deployed[name]
            records += curve(name, pgd, deployed, both, source, knowledge=measuring.TRANSFER)

    net = parts.deployed["none"]
    shown = {name: deployed for name, deployed in parts.deployed.items() if name != "none"}
    controls = parts.controls(other, purifiers=config.controls)
    shown |= controls
    for name, deployed in controls.items():
        records.append(measuring.clean(study, parts.model, name, deployed))
        if name in SMOOTH:
            records += curve(name, pgd, deployed, grid)
            for each in faintly:
                records += curve(name, each, deployed, (faint,))
    static = functools.partial(measuring.static, study, parts.model, source=net, alone=1)
    noisy = functools.partial(static, attacks.gaussian(), knowledge="none")
    records += noisy(shown_to=parts.deployed, radii=sigmas)
    records += noisy(shown_to=controls, radii=radii("0", dataset, "gaussian"))
    # One step hands on where it ends, even where that fools the bare classifier no better.
    for each in (attacks.last_iterate(fgsm), pgd):
        records += static(each, shown_to=shown, radii=tuple(eps for eps in grid if eps))
    # Two other readings of the paper's "rho": the radius of an l2 ball, and the size of a step.
    readings = (
        (attacks.pgd(l2, config.steps, 0.1), at),
        (attacks.pgd(linf, config.steps, 1 / 3, name=f"pgd-{config.steps}-step-third"), (0.3,)),
    )
    for each, eps in readings:
        records += curve("none", each, net, eps)
        records += static(each, shown_to=shown, radii=eps)
    for name, corruption in CORRUPTIONS.items() if config.controls else ():
        for defence, deployed in parts.deployed.items():
            model = f"{parts.model}, {name}"
            records.append(measuring.clean(study, model, defence, Purified(corruption, deployed)))
    return records


LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, math.sqrt(32 * 32 * 3))
"""l2 radii; the last holds every image."""
CORRUPTIONS: dict[str, Purifier] = {
    "16 x 16 pixels": defenses.resample(2),
    "8 x 8 pixels": defenses.resample(4),
    "blur 1 pixel": defenses.blur(1.0),
    "JPEG 25": defenses.jpeg(25),
}
"""Of clean test images, for the claims about low resolution and real-world noise."""


def other_readings(config: Config, dataset: str, parts: Parts) -> list[Record]:
    """Skips that concatenate or add the input, joint training, a classifier trained without."""
    study, records = parts.study, []
    fgsm = attacks.last_iterate(attacks.fgsm(linf))
    pgd = attacks.pgd(linf, config.steps, 0.1)
    both = tuple(sorted({*radii("0", dataset, "fgsm"), *radii("0", dataset, "pgd")}))
    readings = variants(config, parts)
    for name, deployed in readings.items():
        records.append(measuring.clean(study, parts.model, name, deployed))
        records += measuring.curve(study, parts.model, name, pgd, deployed, both)
    for each in (fgsm, pgd):
        net = parts.deployed["none"]
        records += measuring.static(study, parts.model, each, net, readings, both, alone=1)
    return records


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
