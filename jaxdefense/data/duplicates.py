"""Images that are nearly the same: where they lie on both sides of a split, the split leaks."""

import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from jaxdefense.errors import InputError

SIDE = 16


def similarity(one: np.ndarray, other: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Correlation of every image with every other one, after both were made small and grey.

    Args:
        one: uint8 images ``[n, h, w, c]``.
        other: uint8 images ``[m, h', w', c]``.
        side: pixels of a side to which all are reduced, so that noise and small shifts do not tell.

    Returns:
        float32 ``[n, m]`` in [-1, 1]; 0 with an image of one grey level. Memory grows with n m.

    Raises:
        InputError: images that are not uint8 ``[n, h, w, c]``.

    Example:
        >>> x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        >>> similarity(x, np.concatenate([x, 255 - x])).round(3).tolist()
        [[1.0, -1.0]]
    """
    return np.clip(_fingerprints(one, side) @ _fingerprints(other, side).T, -1, 1)


def near_duplicates(x: np.ndarray, threshold: float = 0.94, side: int = SIDE) -> np.ndarray:
    """Groups of images that are linked by correlations of at least a threshold.

    Links are transitive: two images of a group may differ if others lie between them, as slices of
    one scan do. For a split that keeps groups together.

    Args:
        x: uint8 images ``[n, h, w, c]``.
        threshold: correlation from which two images are linked, see `similarity`.
        side: as there.

    Returns:
        Number of its group for each image, ``[n]``, from 0.

    Raises:
        InputError: a threshold outside (-1, 1], images that are not uint8 ``[n, h, w, c]``.

    Example:
        >>> x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        >>> near_duplicates(np.concatenate([x, 255 - x, x // 2])).tolist()
        [0, 1, 0]
    """
    if not -1 < threshold <= 1:
        raise InputError(f"threshold is {threshold}, but correlations lie between -1 and 1")
    # Rounding may leave an image a little less than equal to its copy.
    linked = similarity(x, x, side) >= threshold - 1e-6
    return connected_components(csr_matrix(linked), directed=False)[1]


def _fingerprints(x: np.ndarray, side: int) -> np.ndarray:
    """Small grey images as unit vectors around zero, ``[n, side * side]``."""
    if getattr(x, "dtype", None) != np.uint8 or x.ndim != 4:
        raise InputError(
            f"images are {getattr(x, 'dtype', type(x).__name__)} {np.shape(x)}, but must be uint8 "
            "[n, h, w, c]"
        )
    grey = x.mean(-1, dtype=np.float32)
    small = np.stack([
        np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))
        for image in grey
    ]).reshape(len(x), -1)  # fmt: skip
    centred = small - small.mean(1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(length > 1e-3, length, np.inf)
