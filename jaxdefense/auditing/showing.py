"""What a report shows: images under attack, and the loss around them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import attacks
from jaxdefense.auditing.budgets import Budget
from jaxdefense.auditing.defence import Defence
from jaxdefense.classifiers import apply, is_random
from jaxdefense.evaluation import craft, loss_surface
from jaxdefense.geometry import Ball
from jaxdefense.precision import float32_products
from jaxdefense.typing import example_keys

_SHOWN, _AROUND = 6, 16


def examples(
    defence: Defence, x: np.ndarray, y: np.ndarray, eps: float, ball: Ball, budget: Budget, key
) -> dict[str, np.ndarray]:
    """A few images as the defence sees them, clean and attacked through it.

    Returns:
        ``x``, ``x_adv`` ``[m, h, w, c]``, labels ``y``, the defence's ``clean_answer`` and
        ``answer`` ``[m]``; ``purified`` and ``purified_adv`` where there is a purifier; ``by``,
        who attacked.
    """
    x, y = x[:_SHOWN], y[:_SHOWN]
    attacked = defence.averaged(defence.route, budget.draws)
    try:
        by, crafted = "White-box", craft(attacks.pgd(ball, budget.steps), attacked, x, y, eps, key)
    except jax.errors.JaxRuntimeError:
        raise
    except Exception:  # of a user's function, which cannot be differentiated
        by = "Square, without gradients,"
        crafted = craft(attacks.square(ball, budget.queries), defence.scored, x, y, eps, key)
    keys = example_keys(key, len(x))
    answer = lambda images: _call(defence.scored, keys, images).argmax(-1)
    shown = {"x": x, "x_adv": crafted.x_adv, "y": y, "by": np.array(by)}
    shown |= {"clean_answer": answer(x), "answer": answer(crafted.x_adv)}
    if defence.purifier is not None:
        shown["purified"] = _call(defence.purifier, keys, x)
        shown["purified_adv"] = _call(defence.purifier, keys, crafted.x_adv)
    return shown


def surface(defence: Defence, x, y, eps: float, key) -> tuple[np.ndarray, np.ndarray] | None:
    """Offsets and mean loss ``[p, p]`` around a few images; None where there is no gradient.

    Args:
        defence: what is audited.
        x, y: images and labels.
        eps: how far every pixel moves.
        key: of directions.
    """
    try:
        found = loss_surface(defence.attacked, x[:_AROUND], y[:_AROUND], min(eps, 1.0), key=key)
    except jax.errors.JaxRuntimeError:
        raise
    except Exception:  # of a user's function, which has no gradient at all
        return None
    return found.offsets, found.loss.mean(0)


def _call(function: Callable, keys: jax.Array, x: np.ndarray) -> np.ndarray:
    with float32_products():
        return np.asarray(apply(function, keys if is_random(function) else None, jnp.asarray(x)))
