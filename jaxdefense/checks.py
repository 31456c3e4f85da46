"""Input that is refused, each with one message: what is wrong, why, what to do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball


def check_images(x: np.ndarray) -> None:
    """Images must be float ``[n, h, w, c]``, finite and in [0, 1].

    Raises:
        InputError: naming the first offending index where there is one.
    """
    if x.ndim != 4:
        raise InputError(
            f"x has shape {x.shape}, but images are [n, h, w, c]: add the missing axes "
            "(grey images have c = 1; NCHW arrays need x.transpose(0, 2, 3, 1))"
        )
    if not len(x):
        raise InputError("x holds no images: give at least one")
    check_dtype(x.dtype)
    finite = np.isfinite(x).reshape(len(x), -1).all(-1)
    if not finite.all():
        raise InputError(
            f"x is not finite in {int((~finite).sum())} of {len(x)} images (first: index "
            f"{int(np.argmin(finite))}): remove NaN and inf before measuring"
        )
    check_range(float(x.min()), float(x.max()))


def check_dtype(dtype: np.dtype) -> None:
    """Images must be floats.

    Raises:
        InputError: integers, which would also make every eps 0.
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(
            f"x has dtype {dtype}, but images are float32 in [0, 1]: "
            "use jaxdefense.data.as_images(x), which divides by 255"
        )


def check_range(low: float, high: float) -> None:
    """Pixels must lie in [0, 1].

    Raises:
        InputError: with a guess at what they are instead.
    """
    if low < 0 or high > 1:
        if high > 2 and low >= 0:
            advice = "these look like 0-255 pixels: divide by 255"
        elif low < 0:
            advice = "these look normalised: undo it, and put jaxdefense.Normalized(classifier, "
            advice += "mean, std) in front of the classifier instead"
        else:
            advice = "clip them to [0, 1]"
        raise InputError(f"x has pixels from {low:g} to {high:g}, outside [0, 1]: {advice}")


def check_grid(x: np.ndarray) -> None:
    """Images must be of 8 bits: every pixel k / 255, up to rounding.

    Raises:
        InputError: naming the first offending index.
    """
    off = np.abs(x - np.round(255 * x) / 255).reshape(len(x), -1).max(-1) > 2.0**-23
    if off.any():
        raise InputError(
            f"{int(off.sum())} of {len(x)} images have pixels between the 8-bit values k / 255 "
            f"(first: index {int(np.argmax(off))}), from which an 8-bit attack cannot start: round "
            "them with jnp.round(x * 255) / 255 and evaluate on those"
        )


def check_labels(y: np.ndarray, count: int) -> None:
    """Labels must be integers ``[n]``, one per image; their range is checked against logits.

    Raises:
        InputError: wrong dtype, rank, length or sign.
    """
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.integer):
        column = y.ndim == 2 and y.shape[1] == 1
        advice = "use y[:, 0]" if column else "use y.argmax(-1) if they are one-hot"
        if y.ndim == 1:
            number = np.issubdtype(y.dtype, np.number)
            advice = f"use {'y.astype(int)' if number else 'np.unique(y, return_inverse=True)[1]'}"
        raise InputError(
            f"y has shape {y.shape} and dtype {y.dtype}, but labels are integers [n]: {advice}"
        )
    if len(y) != count:
        raise InputError(f"{count} images but {len(y)} labels: give exactly one label per image")
    if (y < 0).any():
        raise InputError(f"y has negative labels (smallest {y.min()}): classes count from 0")


def check_ball(attack: str, ball: Ball, norms: tuple[str, ...], advice: str = "") -> None:
    """An attack must get a ball in which it works.

    Args:
        attack: what the message calls it.
        ball: what it was given.
        norms: in which it works.
        advice: what to do in another one.

    Raises:
        InputError: no ball, or one of another norm.
    """
    if not isinstance(ball, Ball):
        raise InputError(
            f"{attack}: the ball is {ball!r}, but must be one of "
            f"{', '.join(f'jaxdefense.{norm}' for norm in norms)}"
        )
    if ball.name not in norms:
        only = " only" if len(norms) == 1 else ""
        raise InputError(
            f"{attack} works in {' and '.join(norms)}{only}, got {ball.name}"
            + (f": {advice}" if advice else "")
        )


def check_radii(radii: np.ndarray, ball: Ball | None, pixels: int) -> None:
    """Radii must be a non-empty list of numbers >= 0 in pixel units.

    Raises:
        InputError: negative, not a number, or so large that they must be in 0-255 units.
    """
    if radii.ndim != 1 or not len(radii):
        raise InputError(
            f"radii has shape {radii.shape}, but must be a non-empty list of numbers, "
            "for example [0.0, 0.1, 0.2]"
        )
    if np.isnan(radii).any():
        raise InputError("radii holds NaN: give numbers >= 0")
    if (radii < 0).any():
        raise InputError(f"radii holds the negative eps {radii.min():g}: an eps is at least 0")
    name = "sigma" if ball is None else ball.name
    most = float(pixels)
    widest = {"sigma": 1.0, "linf": 1.0, "l2": pixels**0.5, "l1": most, "l0": most}[name]
    asked = radii if ball is None else radii[np.isfinite(radii)]
    largest = asked.max(initial=0.0)
    if largest > 1.5 * widest:
        raise InputError(
            f"radii go up to {largest:g}, but {widest:g} already spans all of [0, 1] in {name}: "
            f"these look like 0-255 units; divide by 255 ({largest:g}/255 = {largest / 255:.4g})"
        )


def check_output(output: Any, name: str = "classifier") -> None:
    """A function must return one array.

    Args:
        output: what it returns, or its shape.
        name: what the message calls it.

    Raises:
        InputError: a tuple, a dictionary or an object with several.
    """
    if not hasattr(output, "dtype"):
        raise InputError(
            f"the {name} returned a {type(output).__name__}, but must return one array, logits "
            "[n, k] of a classifier: pick it out, for example lambda x: model(x)['logits'] or "
            "lambda x: model(x)[0]"
        )


def check_logits(logits: np.ndarray, y: np.ndarray, name: str = "classifier") -> None:
    """Deployed function and surrogate must return finite logits ``[n, k]`` that cover the labels.

    Raises:
        InputError: wrong shape, NaN, probabilities, or labels out of range.
    """
    if logits.ndim != 2 or len(logits) != len(y):
        raise InputError(
            f"the {name} returned shape {logits.shape} for {len(y)} images, but logits "
            f"are [{len(y)}, k]"
        )
    classes = logits.shape[-1]
    if classes < 2:
        raise InputError(
            f"the {name} returned {classes} logit per image, but at least 2 are needed: "
            "for a binary score s return jnp.stack([-s, s], -1)"
        )
    if y.max() >= classes:
        raise InputError(
            f"y has the label {y.max()}, but the {name} has {classes} classes (0 to "
            f"{classes - 1}): wrong labels, or a {name} for another data set"
        )
    finite = np.isfinite(logits).all(-1)
    if not finite.all():
        raise InputError(
            f"the {name} returned NaN or inf on {int((~finite).sum())} of {len(y)} clean "
            f"images (first: index {int(np.argmin(finite))}): it cannot be evaluated like this"
        )
    sums = logits.sum(-1)
    if (logits >= 0).all() and (logits <= 1).all() and (np.abs(sums - 1) < 1e-4).all():
        raise InputError(
            f"the {name} returned probabilities, but logits are expected: softmax hides "
            "the gradient where it saturates, and the attack would be too weak. Leave the "
            "softmax out, or pass lambda x: jnp.log(jnp.maximum(model(x), 1e-38)) if you cannot"
        )


def check_deterministic(first: jax.Array, second: jax.Array, name: str = "classifier") -> None:
    """A classifier that is not marked random must answer the same twice.

    Raises:
        InputError: it does not.
    """
    # A GPU may sum in another order the second time.
    if not bool(jnp.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True)):
        refuse_hidden_randomness(name)


def check_rows(first: np.ndarray, second: np.ndarray, name: str = "classifier") -> None:
    """What a classifier answers to an image must not depend on the rest of its batch.

    Args:
        first, second: logits ``[n, k]`` of the same images, in other company.
        name: what the message calls it.

    Raises:
        InputError: they differ by more than rounding.
    """
    apart = np.abs(np.nan_to_num(first) - np.nan_to_num(second)).max(initial=0.0)
    size = np.abs(np.nan_to_num(first)).max(initial=0.0)
    if apart > 5e-3 * size + 1e-6:
        raise InputError(
            f"the {name} answers an image otherwise beside other images, or at another place of "
            f"its batch (outputs up to {size:.3g} change by {apart:.3g}): batch statistics, or "
            "random numbers that a whole batch shares. Call the network in evaluation mode "
            "(train=False, module.eval()); wrap what is random in jaxdefense.Randomized(lambda "
            "keys, x: ...), where row i uses keys[i]"
        )


def refuse_hidden_randomness(name: str) -> None:
    """A random classifier must say so by its type.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"the {name} gave two answers to the same images: it is random. Wrap it in "
        "jaxdefense.Randomized(lambda keys, x: ...), with all its randomness from keys"
    )
