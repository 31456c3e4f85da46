"""Denoising of CT slices (Ghosh and Chatterjee 2024): does an autoencoder undo attacks on a CNN?

The paper ("Findings on adversarial robustness through autoencoder-based denoising for image
security") classifies SARS-CoV-2 CT with 93.23 % and finds, from PCA and t-SNE of features that
overlap, that a denoising autoencoder cannot tell adversarial from benign slices. It prints no
accuracy under attack, no architecture and no radius, and names metrics (calibration, entropy,
active learning) that it does not show. Here all of it is measured, with an autoencoder that has
met clean and noisy slices only and one retrained on FGSM and PGD, by attackers who know the
classifier alone and by those who know the whole.

    python -m experiments.ghosh2024_ct_denoising --data-dir DIR  # two cores, one seed
    python -m experiments.ghosh2024_ct_denoising --data-dir DIR --preset paper  # a GPU
    python -m experiments.ghosh2024_ct_denoising --preset smoke  # a minute, drawn slices

The paper gives both 80 % for training and 1,241 of 2,482 images: both splits are run, and a third
that keeps near-duplicates together, because slices of one patient are in the files without ids.
Expected: about 93 % on both random splits, less on the third, much from the borders alone; next to
nothing under PGD at 8/255, with either autoencoder, by an attacker who knows it.
"""

import dataclasses
from pathlib import Path

from experiments import ghosh2024_report, studies, together
from experiments.ghosh2024_active import learned
from experiments.ghosh2024_cells import lineup, measured
from experiments.ghosh2024_looks import looked
from experiments.ghosh2024_parts import Parts, train
from experiments.harness import Training
from experiments.publish import publish
from jaxdefense.cli import launch
from jaxdefense.reporting import Record, ensure_folder

DATA, STAND_IN = "sars_cov2_ct", "synthetic_ct"
SIXTEEN = tuple(k / 255 for k in range(17))

CLASSIFIER = Training(epochs=15, batch_size=16, lr=1e-3)
DENOISER = Training(epochs=15, batch_size=16, lr=1e-3)
RETRAINED = Training(epochs=4, batch_size=16, lr=1e-3)
ACTIVE = Training(epochs=30, batch_size=16, lr=1e-3)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; everything that decides the numbers."""

    data_dir: str | None = None
    """where data lies; JAXDEFENSE_DATA by default. A set that is not there has a stand-in"""
    download: bool = False
    """fetch a data set if it is not there"""
    size: int = 48
    """pixels of a side; 128 in preset paper, and 224 in the paper"""
    widths: tuple[int, ...] = (16, 32, 64, 64)
    """channels of the classifier's stages; the paper gives none, preset paper has 32 to 128"""
    hidden: int = 64
    """its dense layer; 128 in preset paper"""
    autoencoder: tuple[int, ...] = (16, 32, 64)
    """channels of the encoder, mirrored by the decoder; 32 to 128 in preset paper"""
    classifier: Training = CLASSIFIER
    """1e-4 for up to 60 epochs (text: 50) in the paper, at a constant rate"""
    denoiser: Training = DENOISER
    """of the autoencoder on clean and noisy images"""
    retrained: Training = RETRAINED
    """of the same one, afterwards also on FGSM and PGD"""
    sigmas: tuple[float, float] = (0.05, 0.2)
    """weakest and strongest noise that the autoencoders have met"""
    met: tuple[int, float] = (3, 8 / 255)
    """steps of PGD that the retrained one has met, and the radius of it and FGSM"""
    radii: tuple[float, ...] = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 0.05, 16 / 255, 0.1)
    """of the curves; every 255th up to 16 of them in preset paper"""
    eps: float = 8 / 255
    """the one at which features, errors and images are looked at; one of the radii"""
    steps: int = 20
    """of PGD"""
    suite: str | None = "quick"
    """AutoAttack's version; none in preset smoke"""
    restarts: tuple[int, int] = (40, 2)
    """steps and restarts of a stronger PGD"""
    queries: int = 500
    """of Square; with 0 neither it nor the stronger PGD is run"""
    threshold: float = 0.94
    """correlation from which two slices, reduced to 16 x 16, are near-duplicates"""
    labels: tuple[int, int, int] = (100, 100, 3)
    """of active learning: at first, more in each cycle, cycles"""
    active: Training = ACTIVE
    """of the classifier in each cycle"""
    active_eps: float = 2 / 255
    """of FGSM on it: at `eps` nothing is left to compare"""
    own_classifier: bool = True
    """also a classifier trained behind an untrained autoencoder, of the first seed"""
    perplexities: tuple[float, ...] = (5.0, 30.0, 50.0)
    """of t-SNE"""
    n_train: int | None = None
    """train on so many images only"""
    n_eval: int = 128
    """attack so many test images of each seed"""
    n_probed: int = 496
    """tell the features of so many clean test images from those of the same attacked"""
    seeds: tuple[int, ...] = (0, 1, 2)
    output: str = "runs"
    preset: str = "small"


PRESETS = {
    "smoke": Config(
        size=32,
        widths=(4, 8, 8, 8),
        hidden=8,
        autoencoder=(4, 4, 4),
        classifier=Training(epochs=4, batch_size=16, lr=5e-3),
        denoiser=Training(epochs=3, batch_size=16, lr=5e-3),
        retrained=Training(epochs=1, batch_size=16, lr=5e-3),
        met=(1, 8 / 255),
        radii=(0.0, 8 / 255),
        steps=2,
        suite=None,
        queries=0,
        threshold=0.97,  # drawn slices are more alike
        labels=(32, 32, 1),
        active=Training(epochs=2, batch_size=16, lr=5e-3),
        own_classifier=False,
        perplexities=(5.0,),
        n_train=200,
        n_eval=16,
        n_probed=16,
        seeds=(0,),
        preset="smoke",
    ),
    "small": Config(seeds=(0,)),
    "paper": Config(
        size=128,
        widths=(32, 64, 128, 128),
        hidden=128,
        autoencoder=(32, 64, 128),
        classifier=Training(epochs=60, batch_size=16, lr=1e-4),
        denoiser=Training(epochs=60, batch_size=16, lr=1e-4),
        retrained=Training(epochs=30, batch_size=16, lr=1e-4),
        met=(10, 8 / 255),
        radii=(*SIXTEEN, 0.05, 0.1),
        steps=40,
        suite="standard",
        restarts=(100, 10),
        queries=5000,
        labels=(100, 100, 10),
        active=Training(epochs=40, batch_size=16, lr=1e-4),
        n_eval=496,
        preset="paper",
    ),
}


def main(config: Config) -> None:
    """Denoising of CT slices (Ghosh and Chatterjee 2024): tables 1 and 2, figures 3 to 8."""
    folder = ensure_folder(Path(config.output) / f"ghosh2024_ct_denoising-{config.preset}")
    team, records, every = lineup(config), list[Record](), list[Parts]()
    with studies.progress(3 * len(config.seeds), folder) as done:

        def train_one(seed: int) -> Parts:
            study = studies.prepare(
                config, DATA, STAND_IN, seed, folder, size=config.size, channels=1
            )
            parts = train(config, study)
            done(f"seed {seed}: trained")
            return parts

        every = together.each(train_one, config.seeds)
        for parts in every:
            records += measured(team, config, parts)
            records += looked(team, config, parts)
            done(f"seed {parts.study.seed}: attacked")
            records += learned(config, parts, team.fgsm)
            done(f"seed {parts.study.seed}: active learning")
    publish(ghosh2024_report.outcome(config, every[0], records), config, folder)


if __name__ == "__main__":
    launch(main, PRESETS, default="small")
