"""scikit-learn's handwritten digits: 1,797 real 8 x 8 images that need no files.

Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), test part.
"""

import numpy as np

from jaxdefense.data.dataset import Dataset

TEST_SHARE = 0.25


def load_digits(seed: int = 0) -> Dataset:
    """The digits at their own 8 x 8 pixels, split at random by ``seed``, one quarter for testing.

    Grey levels 0..16 are scaled to 0..255. An eps on these images is not comparable with MNIST's.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int32)
    order = np.random.default_rng([seed, 8]).permutation(len(labels))
    cut = round(len(labels) * TEST_SHARE)
    test, train = order[:cut], order[cut:]
    return Dataset(
        "digits",
        images[train],
        labels[train],
        images[test],
        labels[test],
        tuple(map(str, range(10))),
        f"scikit-learn digits, random split (seed {seed}), grey levels 0..16 scaled to 0..255, "
        "read from scikit-learn",
    )
