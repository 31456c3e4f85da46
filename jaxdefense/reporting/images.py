"""Grids of images: clean, attacked, what changed, reconstructed."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from jaxdefense.errors import InputError

from .figures import styled


def difference(x: ArrayLike, x_adv: ArrayLike, gain: float = 5.0) -> tuple[str, np.ndarray]:
    """What an attack changed, made visible: a column for `image_grid`.

    Args:
        x: images ``[n, h, w, c]`` in [0, 1].
        x_adv: the attacked images.
        gain: how many times the difference is amplified.

    Returns:
        A title that states the gain, and the images ``0.5 + gain * (x_adv - x)``, clipped to
        [0, 1]: grey where nothing changed.

    Example:
        >>> title, images = difference(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.05))
        >>> title, float(images[0, 0, 0, 0])
        ('difference ×5', 0.75)
    """
    change = np.asarray(x_adv, np.float64) - np.asarray(x, np.float64)
    return f"difference \N{MULTIPLICATION SIGN}{gain:g}", np.clip(0.5 + gain * change, 0, 1)


def overlay(x: ArrayLike, heat: ArrayLike, share: float = 0.45) -> np.ndarray:
    """Heat maps laid over images, as colours: a column for `image_grid`.

    Args:
        x: images ``[n, h, w, c]`` in [0, 1], c 1 or 3.
        heat: ``[n, h, w]`` in [0, 1], for example of `jaxdefense.evaluation.grad_cam`.
        share: of the colours in the mixture.

    Returns:
        ``[n, h, w, 3]`` in [0, 1]: dark violet where the heat is 0, yellow where it is 1.

    Raises:
        InputError: images that are none, or heat of another size.

    Example:
        >>> overlay(np.zeros((2, 4, 4, 1)), np.zeros((2, 4, 4))).shape
        (2, 4, 4, 3)
    """
    images, values = _images("heat map", x), np.asarray(heat, np.float64)
    if values.shape != images.shape[:3]:
        raise InputError(f"heat of shape {values.shape} over images of shape {images.shape}")
    colours = matplotlib.colormaps["inferno"](np.clip(values, 0, 1))[..., :3]
    return (1 - share) * np.broadcast_to(images, colours.shape) + share * colours


def verdict(true: object, predicted: object) -> str:
    """A caption for one image: ``"7 → 3 ✗"`` when the prediction is wrong, else ``"7 → 7"``."""
    return f"{true} → {predicted}" + ("" if true == predicted else " ✗")


@styled
def image_grid(
    columns: Mapping[str, ArrayLike],
    captions: Mapping[str, Sequence[str]] | None = None,
    rows: Sequence[str] | None = None,
) -> Figure:
    """Images side by side: one column per stage (clean, attacked, difference, reconstructed).

    Args:
        columns: title of a column to its images ``[n, h, w, c]`` in [0, 1], c 1 or 3.
        captions: title of a column to one caption per image, as `verdict` makes them.
        rows: one label per row.

    Returns:
        The figure.

    Raises:
        InputError: no images, columns of different length, or pixels outside [0, 1].
    """
    captions = captions or {}
    stacks = {title: _images(title, images) for title, images in columns.items()}
    counts = {len(images) for images in stacks.values()}
    texts = [len(texts) for texts in captions.values()] + ([] if rows is None else [len(rows)])
    if len(counts) != 1 or 0 in counts or any(n not in counts for n in texts):
        raise InputError(
            "an image grid needs columns, captions and row labels of one length, at least 1; got "
            f"images {[len(s) for s in stacks.values()]} and texts {texts}"
        )
    if unknown := set(captions) - set(columns):
        raise InputError(f"captions for no column: {sorted(unknown)}; columns are {list(columns)}")
    n = counts.pop()
    # Room for the deepest title and caption, so that the images keep their size.
    title_lines = max(_wrap(title).count("\n") + 1 for title in columns)
    under = [_wrap(text).count("\n") + 1 for column in captions.values() for text in column]
    height = n * (1.03 + 0.15 * max(under, default=0)) + 0.2 * title_lines + 0.2
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    fig = Figure(figsize=(1.03 * len(stacks) + 0.2, height), layout=layout)
    grid = fig.subplots(n, len(stacks), squeeze=False)
    for j, (title, images) in enumerate(stacks.items()):
        for i, image in enumerate(images):
            axes = grid[i, j]
            axes.imshow(
                image.squeeze(-1) if image.shape[-1] == 1 else image,
                cmap="gray",
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
            for spine in axes.spines.values():
                spine.set(visible=True, linewidth=0.5, color="#999999")
            if title in captions:
                axes.set_xlabel(_wrap(captions[title][i]), labelpad=2, fontsize=8.5)
        grid[0, j].set_title(_wrap(title), fontsize=8.5)
    for axes, label in zip(grid[:, 0], rows or [], strict=False):
        axes.set_ylabel(label)
    return fig


def _wrap(text: str) -> str:
    """Break a title or caption where an image ends."""
    lines = (textwrap.fill(line, 15, break_on_hyphens=False) for line in text.splitlines())
    return "\n".join(lines)


def _images(title: str, images: ArrayLike) -> np.ndarray:
    stack = np.asarray(images, np.float64)
    if stack.ndim != 4 or stack.shape[-1] not in (1, 3):
        raise InputError(f"column {title!r} has shape {stack.shape}: give images [n, h, w, 1 or 3]")
    # not (a <= b), so that NaN is caught as well
    if stack.size and not (stack.min() >= -1e-6 and stack.max() <= 1 + 1e-6):
        raise InputError(f"column {title!r} has pixels outside [0, 1] or not finite: scale them")
    return np.clip(stack, 0, 1)
