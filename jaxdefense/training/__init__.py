"""Training: objectives, optimizers and one loop that resumes to the same numbers."""

from jaxdefense.training.evaluate import (
    Classification,
    Reconstruction,
    evaluate,
    mean,
    validation,
)
from jaxdefense.training.loop import Checkpoint, FitResult, fit
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
from jaxdefense.training.state import TrainState

__all__ = [
    "Checkpoint",
    "Classification",
    "FitResult",
    "Objective",
    "Reconstruction",
    "TrainState",
    "adversarial",
    "compute_dtype",
    "denoising",
    "evaluate",
    "fit",
    "gaussian_noise",
    "mean",
    "optimizer",
    "reconstruction",
    "schedule",
    "supervised",
    "validation",
    "with_augmentation",
]
