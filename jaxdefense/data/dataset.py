"""A data set in memory: uint8 images, integer labels, and where they came from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jaxdefense.errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels of a training and a test split, checked when made.

    Attributes:
        name: registry name, or the stem of the file or folder it was read from.
        x_train: uint8 ``[n, h, w, c]``; grey levels 0 to 255.
        y_train: int32 ``[n]``; classes 0 to ``num_classes - 1``.
        x_test: uint8 ``[m, h, w, c]``.
        y_test: int32 ``[m]``.
        class_names: one name per class.
        provenance: one line: what it is, which split, how it was altered, what it was read from.
            Every method that alters the images adds to it.
        synthetic: True where the images are drawn by a program rather than recorded.
        groups_train: optional ``[n]``: what the split keeps together (font, track, hand).
        groups_test: optional ``[m]``.

    Raises:
        InputError: an array has the wrong type, shape or length, or a label is out of range.

    Example:
        >>> import numpy as np
        >>> x, y = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1], np.int32)
        >>> data = Dataset("mine", x, y, x, y, ("a", "b"), "made by hand")
        >>> data.resize(16).to_channels(3).image_shape
        (16, 16, 3)
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    class_names: tuple[str, ...]
    provenance: str
    synthetic: bool = False
    groups_train: np.ndarray | None = None
    groups_test: np.ndarray | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images = getattr(self, f"x_{split}")
            labels = getattr(self, f"y_{split}")
            _check(split, images, labels, getattr(self, f"groups_{split}"), self.num_classes)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise InputError(
                f"training images are {_by(self.x_train.shape[1:])} and test images "
                f"{_by(self.x_test.shape[1:])}: both splits need one shape"
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one image."""
        height, width, channels = self.x_train.shape[1:]
        return int(height), int(width), int(channels)

    @property
    def title(self) -> str:
        """What to call the set in a figure, for example ``CIFAR-10 (JPEG quality 75)``."""
        return self.provenance.split(", ")[0]

    def resize(self, size: int) -> Dataset:
        """The same set at ``size`` x ``size`` pixels (bilinear, anti-aliased when shrinking).

        Raises:
            InputError: ``size`` is not a positive whole number.
        """
        size = whole("size", size, 1)
        height, width, _ = self.image_shape
        if (height, width) == (size, size):
            return self
        return self._with(
            f"resized from {height}x{width} to {size}x{size}",
            x_train=_resize(self.x_train, size),
            x_test=_resize(self.x_test, size),
        )

    def to_channels(self, channels: int) -> Dataset:
        """The same set with 1 (luma, ITU-R 601) or 3 channels (grey repeated).

        Raises:
            InputError: ``channels`` is neither 1 nor 3, or the images have neither.
        """
        have = self.image_shape[2]
        if channels == have:
            return self
        if {channels, have} != {1, 3}:
            raise InputError(
                f"cannot turn {have}-channel images into {channels} channels: "
                "only 1 (grey) and 3 (RGB) convert into each other"
            )
        convert = _to_grey if channels == 1 else lambda x: np.repeat(x, 3, axis=-1)
        note = "RGB turned to grey" if channels == 1 else "grey repeated to 3 channels"
        return self._with(note, x_train=convert(self.x_train), x_test=convert(self.x_test))

    def subset(
        self, n_train: int | None = None, n_test: int | None = None, seed: int = 0
    ) -> Dataset:
        """A random but repeatable part of the set; None keeps the whole split.

        Smaller subsets of one seed are contained in larger ones. A count above what there is
        keeps the whole split in its order.

        Raises:
            InputError: a count is not a positive whole number.
        """
        changed: dict[str, Any] = {}
        notes = []
        for number, (split, count) in enumerate((("train", n_train), ("test", n_test))):
            total = len(getattr(self, f"y_{split}"))
            if count is None or whole(f"n_{split}", count, 1) >= total:
                continue
            rows = np.random.default_rng([seed, number]).permutation(total)[:count]
            changed |= self._rows(split, rows)
            notes.append(f"{count:,} {split}")
        if not notes:
            return self
        return self._with(f"random subset of {' and '.join(notes)} (seed {seed})", **changed)

    def split_validation(
        self, fraction: float = 0.1, seed: int = 0
    ) -> tuple[Dataset, np.ndarray, np.ndarray]:
        """Hold out a random part of the training images; the test split is never touched.

        Args:
            fraction: share of the training images to hold out, strictly between 0 and 1.
            seed: which images; the same seed gives the same images.

        Returns:
            The set with fewer training images, the held-out images uint8 ``[k, h, w, c]`` and
            their labels int32 ``[k]``; at least one image lies on each side.

        Raises:
            InputError: ``fraction`` is not between 0 and 1, or there is only one image.
        """
        if not 0 < fraction < 1:
            raise InputError(f"fraction must lie strictly between 0 and 1, not {fraction}")
        total = len(self.y_train)
        if total < 2:
            raise InputError("one training image cannot be split; a validation split needs two")
        count = min(max(round(fraction * total), 1), total - 1)
        order = np.random.default_rng([seed, 2]).permutation(total)
        held, kept = order[:count], np.sort(order[count:])
        note = f"{count:,} training images held out for validation (seed {seed})"
        smaller = self._with(note, **self._rows("train", kept))
        return smaller, self.x_train[held], self.y_train[held]

    def _rows(self, split: str, rows: np.ndarray) -> dict[str, Any]:
        names = (f"x_{split}", f"y_{split}", f"groups_{split}")
        parts = {name: getattr(self, name) for name in names}
        return {name: part[rows] for name, part in parts.items() if part is not None}

    def _with(self, note: str, **changed: Any) -> Dataset:
        return dataclasses.replace(self, provenance=f"{self.provenance}, {note}", **changed)

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}, {len(self.y_train):,} train + {len(self.y_test):,} test, "
            f"{_by(self.image_shape)}, {self.num_classes} classes: {self.provenance})"
        )


def as_images(x: Any) -> Any:
    """uint8 images as float32 in [0, 1]; works on NumPy arrays, jax arrays and inside jit.

    The factor is multiplied, not divided by: compilers turn a division by a constant into this
    product anyway, so all three give the same bits.

    Args:
        x: uint8 array of any shape.

    Returns:
        float32 array of the same kind and shape.

    Raises:
        InputError: ``x`` is not uint8 (already floats, or labels).

    Example:
        >>> import numpy as np
        >>> as_images(np.array([0, 255], np.uint8))
        array([0., 1.], dtype=float32)
    """
    if getattr(x, "dtype", None) != np.uint8:
        raise InputError(
            f"as_images takes uint8 pixels, not {getattr(x, 'dtype', type(x).__name__)}; "
            "float images in [0, 1] need no conversion"
        )
    return x.astype(np.float32) * np.float32(1 / 255)


def whole(what: str, value: Any, least: int) -> int:
    """``value`` as an int, or an InputError that says what was wrong."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{what} must be a whole number of at least {least}, not {value!r}")
    return int(value)


def _check(split: str, images: Any, labels: Any, groups: Any, classes: int) -> None:
    shape: tuple[int, ...] = getattr(images, "shape", ())
    kind = getattr(images, "dtype", None)
    if kind != np.uint8 or len(shape) != 4:
        raise InputError(
            f"x_{split} must be uint8 [n, h, w, c], not {kind} {list(shape)}; "
            "scale floats to 0..255 and round, and put channels last"
        )
    if 0 in shape:
        raise InputError(f"x_{split} is empty: its shape is {list(shape)}")
    if getattr(labels, "dtype", None) != np.int32 or labels.shape != (shape[0],):
        raise InputError(
            f"y_{split} must be int32 [{shape[0]}], one label per image, not "
            f"{getattr(labels, 'dtype', None)} {list(getattr(labels, 'shape', ()))}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"y_{split} holds labels from {low} to {high}, but there are {classes} classes: "
            f"labels run from 0 to {classes - 1}"
        )
    if groups is not None and len(groups) != shape[0]:
        raise InputError(f"groups_{split} has {len(groups)} entries for {shape[0]} images")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    count, _, _, channels = images.shape
    out = np.empty((count, size, size, channels), np.uint8)
    for image, target in zip(images, out, strict=True):
        planes = [image] if channels == 3 else np.moveaxis(image, -1, 0)
        small = [
            np.asarray(Image.fromarray(p).resize((size, size), Image.Resampling.BILINEAR))
            for p in planes
        ]
        target[:] = small[0] if channels == 3 else np.stack(small, -1)
    return out


def _to_grey(images: np.ndarray) -> np.ndarray:
    # Pillow's own integer formula, so that a file converted on reading gives the same bytes.
    wide = images.astype(np.uint32)
    luma = wide[..., 0] * 19595 + wide[..., 1] * 38470 + wide[..., 2] * 7471 + 0x8000
    return (luma >> 16).astype(np.uint8)[..., None]
