"""What else a classifier's answers are worth: calibration, uncertainty, errors by class."""

from typing import NamedTuple

import numpy as np
import scipy.special

from jaxdefense.errors import InputError


class Calibration(NamedTuple):
    """A reliability curve: how often answers of a confidence are right.

    Attributes:
        confidence: mean confidence of the answers in each bin, ``[bins]``; NaN in an empty one.
        accuracy: share of them that is right, ``[bins]``; NaN in an empty one.
        size: how many there are, ``[bins]``.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    size: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: ``sum_b size_b / n |accuracy_b - confidence_b|``."""
        full = self.size > 0
        gaps = np.abs(self.accuracy[full] - self.confidence[full])
        return float((gaps * self.size[full]).sum() / self.size.sum())


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """The reliability curve of a classifier, and with it the expected calibration error.

    Guo et al. 2017 (arXiv 1706.04599, eq. 3): answers are sorted by the probability of the
    predicted class into bins of equal width, ``(0, 1/bins], ..., (1 - 1/bins, 1]``.

    Args:
        probabilities: ``[n, k]``, rows of sum 1.
        labels: true classes ``[n]``.
        bins: how many.

    Raises:
        InputError: no probabilities, or no bin.

    Example:
        >>> found = calibration(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
        >>> round(found.error, 3)  # 80 % sure, right half of the time
        0.3
    """
    p, y = _checked(probabilities, labels)
    if bins < 1:
        raise InputError(f"bins is {bins}, but a reliability curve needs at least one")
    sure, right = p.max(-1), p.argmax(-1) == y
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    size = np.bincount(place, minlength=bins)
    total = np.where(size > 0, size, np.nan)
    mean = lambda values: np.bincount(place, values, minlength=bins) / total
    return Calibration(mean(sure), mean(right.astype(float)), size)


class Scores(NamedTuple):
    """Errors by class, calibration and uncertainty of a classifier; made by `scores`.

    Attributes:
        precision, recall, f1: of class 1 where there are two classes, else means over the classes;
            0 where nothing was predicted, or nothing was there.
        top1_error: share of wrong answers.
        ece: expected calibration error, see `calibration`.
        entropy: of the predicted distribution, in nats, mean over images.
        confusion: ``[k, k]`` counts, true class by predicted class.
    """

    precision: float
    recall: float
    f1: float
    top1_error: float
    ece: float
    entropy: float
    confusion: np.ndarray


def scores(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> Scores:
    """What a classifier's logits are worth, beyond accuracy; by scikit-learn where it has it.

    Args:
        logits: ``[n, k]``.
        labels: true classes ``[n]``.
        bins: of the calibration error.

    Raises:
        InputError: no logits, logits that are not finite, labels of another number.

    Example:
        >>> found = scores(np.array([[0.0, 9.0], [0.0, 9.0], [9.0, 0.0]]), np.array([1, 0, 0]))
        >>> found.precision, found.recall, found.confusion.tolist()
        (0.5, 1.0, [[1, 1], [0, 1]])
    """
    # scikit-learn takes a second to import, and few need it.
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    logits = np.asarray(logits, np.float64)
    p, y = _checked(scipy.special.softmax(logits, axis=-1) if logits.size else logits, labels)
    said, classes = p.argmax(-1), np.arange(p.shape[1])
    average = "binary" if len(classes) == 2 else "macro"
    over = None if len(classes) == 2 else classes
    precision, recall, f1, _ = precision_recall_fscore_support(
        y, said, labels=over, average=average, zero_division=0.0
    )
    return Scores(
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        top1_error=float((said != y).mean()),
        ece=calibration(p, y, bins).error,
        entropy=float(entropy(p).mean()),
        confusion=confusion_matrix(y, said, labels=classes),
    )


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of predicted distributions in nats: ``[n, k]`` to ``[n]``; 0 where certain.

    Example:
        >>> entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).round(3).tolist()
        [0.693, 0.0]
    """
    return scipy.special.entr(np.asarray(probabilities, np.float64)).sum(-1)


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels)
    if p.ndim != 2 or not p.size or y.shape != (len(p),) or not np.isfinite(p).all():
        raise InputError(
            f"answers have shape {list(p.shape)} and labels {list(y.shape)}: give finite numbers "
            "[n, k] and one label for each row, at least one"
        )
    return p, y
