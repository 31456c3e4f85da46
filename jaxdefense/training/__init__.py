"""Training: objectives, optimizers and one loop that resumes to the same numbers."""

from jaxdefense.training.criteria import gce, tempered
from jaxdefense.training.evaluate import (
    Classification,
    Reconstruction,
    evaluate,
    mean,
    validation,
)
from jaxdefense.training.joint import alternating, joint
from jaxdefense.training.loop import Checkpoint, FitResult, fit, fit_together
from jaxdefense.training.objectives import (
    Objective,
    adversarial,
    denoising,
    gaussian_noise,
    reconstruction,
    supervised,
    with_augmentation,
)
from jaxdefense.training.optim import compute_dtype, optimizer, schedule
from jaxdefense.training.purification import paired, purification, restoration
from jaxdefense.training.state import TrainState
from jaxdefense.training.trades import trades
from jaxdefense.training.turns import Turns, in_turn
from jaxdefense.training.variational import variational
from jaxdefense.training.wasserstein import wasserstein

__all__ = [
    "Checkpoint",
    "Classification",
    "FitResult",
    "Objective",
    "Reconstruction",
    "TrainState",
    "Turns",
    "adversarial",
    "alternating",
    "compute_dtype",
    "denoising",
    "evaluate",
    "fit",
    "fit_together",
    "gaussian_noise",
    "gce",
    "in_turn",
    "joint",
    "mean",
    "optimizer",
    "paired",
    "purification",
    "reconstruction",
    "restoration",
    "schedule",
    "supervised",
    "tempered",
    "trades",
    "validation",
    "variational",
    "wasserstein",
    "with_augmentation",
]
