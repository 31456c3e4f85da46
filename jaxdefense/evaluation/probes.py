"""Whether two sets of features can be told apart: a linear probe puts a number on "overlap"."""

from typing import NamedTuple

import numpy as np
import scipy.stats

from jaxdefense.errors import InputError


class Separability(NamedTuple):
    """How well two sets are told apart; made by `linear_probe`.

    Attributes:
        auc: area under the ROC curve; 0.5 where nothing tells them apart, 1 where everything does.
        low, high: its 95 % interval.
    """

    auc: float
    low: float
    high: float


def linear_probe(
    one: np.ndarray, other: np.ndarray, folds: int = 5, draws: int = 2000, seed: int = 0
) -> Separability:
    """Tells the features of images from those of the same images altered, by a linear classifier.

    Ridge classification of standardised features (its penalty chosen within the training folds),
    cross-validated: both versions of an image lie in the same fold, so that no image is recognised
    by its other version. The interval is a percentile bootstrap over images of the held-out scores.

    Args:
        one: ``[n, ...]``, flattened; for example of clean images.
        other: ``[n, ...]``; row i belongs to the same image.
        folds: of the cross-validation.
        draws: of the bootstrap.
        seed: of folds and bootstrap.

    Raises:
        InputError: sets of different shape, or fewer images than folds.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(40, 3))
        >>> linear_probe(x, x + 9.0).auc, linear_probe(x, x).auc
        (1.0, 0.5)
    """
    # scikit-learn takes a second to import, and few need it.
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    one, other = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (one, other))
    count = len(one)
    if one.shape != other.shape or not 2 <= folds <= count:
        raise InputError(
            f"features have shapes {list(one.shape)} and {list(other.shape)} for {folds} folds: "
            "give two sets of equal shape and at least as many images as folds, which are two or "
            "more"
        )
    generator = np.random.default_rng(seed)
    fold = generator.permutation(np.arange(count) % folds)
    scored = np.empty((2, count))
    for held in range(folds):
        train, test = fold != held, fold == held
        probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 6, 8)))
        labels = np.repeat([0, 1], train.sum())
        probe.fit(np.concatenate([one[train], other[train]]), labels)
        scored[:, test] = [probe.decision_function(part[test]) for part in (one, other)]
    return _area(scored, fold, draws, generator)


def _area(
    scored: np.ndarray, fold: np.ndarray, draws: int, generator: np.random.Generator
) -> Separability:
    """Area under the curve, fold by fold: scores of different probes do not compare."""
    wins = (np.sign(scored[1][None, :] - scored[0][:, None]) + 1) / 2
    wins = wins * (fold[:, None] == fold[None, :])
    pairs = (fold[:, None] == fold[None, :]).astype(float)
    count = len(fold)
    weights = generator.multinomial(count, np.full(count, 1 / count), draws).astype(float)
    area = lambda w: ((w @ wins) * w).sum(-1) / ((w @ pairs) * w).sum(-1)
    auc = float(area(np.ones((1, count)))[0])
    low, high = scipy.stats.mstats.mquantiles(area(weights), [0.025, 0.975])
    return Separability(auc, min(float(low), auc), max(float(high), auc))
