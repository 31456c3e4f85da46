"""Checks that tell a robust defence from one whose gradients lead nowhere.

After Athalye et al. 2018 (arXiv 1802.00420, section 3.1), Carlini et al. 2019 (arXiv 1902.06705).
A check fails where chance does not explain what was seen: three images and two per cent of them, or
twice the deviation of a sign test where two attacks are compared image by image.
"""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense import attacks
from jaxdefense.attacks.probe import Goal, make_probe
from jaxdefense.auditing.claims import CERTIFICATE
from jaxdefense.auditing.plan import GREY
from jaxdefense.classifiers import Static, apply, fold, join, split
from jaxdefense.evaluation import craft, gradient_amplitude, sweep
from jaxdefense.evaluation.reliability import Check
from jaxdefense.geometry import Ball
from jaxdefense.losses import margin
from jaxdefense.precision import float32_products
from jaxdefense.surrogates import evaluations
from jaxdefense.typing import Classifier, example_keys

DECISIVE = (
    "randomness", "gradients", "differences", "iterative", "white-box", "more steps",
    "more restarts", "more draws", "no gradients needed", "unbounded", GREY, CERTIFICATE,
)  # fmt: skip
"""Checks without which the worst case over all attackers may be far too high."""

_DIRECTIONS, _DISTANCE = 16, 0.01
# Cosine between what a gradient says of the directions and what happens along them.
_AGREED = 0.3
_ROWS = 64  # forward passes of one program


def doubts(found: Iterable[Check]) -> list[str]:
    """Names of failed checks without which the worst case may be far too high."""
    return [c.name for c in found if c.outcome == "fail" and c.name in DECISIVE]


def chance(n: int) -> float:
    """The share of n images that may go either way by chance."""
    return min(max(3 / n, 0.02), 0.5)


def unbounded(surrogates: list[Classifier], scored: Classifier, x, y, steps, ball, key) -> Check:
    """Without a radius an attack must reach zero on whatever has gradients of use."""
    attack = attacks.unbounded(attacks.pgd(ball, steps, loss=margin))
    left = np.ones(len(x), bool)
    for surrogate in surrogates:
        curve = sweep(attack, scored, x, y, [1.0], key, surrogate)
        left &= ~(curve.smallest_radius <= 1.0)
    says = "an attack without a radius does not reach zero: gradients do not lead to where it fails"
    good = "an attack without a radius reaches zero"
    return limited("unbounded", float(left.mean()), chance(len(x)), says, good)


def flatness(function: Classifier, x, y, eps: float, ball: Ball, key) -> tuple[float, str]:
    """Share of images without a gradient (or NaN), and why there can be none at all, where so.

    Of the margin, at a random point of the ball: unlike the cross-entropy's it does not vanish
    where a network is only very sure.
    """
    arrays, static = split(function)
    keys, radii = example_keys(key, len(x)), jnp.full(len(x), eps, jnp.float32)
    try:
        with float32_products():
            flat = np.asarray(_flat(static, ball, arrays, keys, jnp.asarray(x), y, radii))
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:  # of a user's function: callbacks, while loops
        return 1.0, (str(error).strip() or type(error).__name__).splitlines()[0]
    return float(flat.mean()), ""


def gradients(
    route: Classifier, x, y, eps: float, ball: Ball, key, pair: tuple[Classifier, Classifier] | None
) -> Check:
    """Of the images that are left, next to none may be without a gradient that says something.

    Args:
        route: whose gradients attacks ascend.
        x, y: the images that nothing broke, and their labels.
        eps, ball: of the attacks.
        key: of points and directions.
        pair: whose gradients are compared with whose values, as in `differences`; None where a
            staircase is gone around, of which each image by itself says too little.
    """
    share, _ = flatness(route, x, y, eps, ball, key)
    limit = max(0.05, chance(len(x)))
    if share <= limit and pair is not None:
        agreement, moved = _agreement(*pair, x, y, key, _DISTANCE)
        astray = float((moved & (agreement < _AGREED)).mean())
        says = "gradients lead astray on images that nothing broke: nothing was tried on them"
        if astray > limit:
            return Check("gradients", "fail", astray, limit, says)
    says = "images that nothing broke have no gradient: nothing was tried on them"
    good = "the images that nothing broke have gradients, which say how the output changes"
    return limited("gradients", share, limit, says, good)


def differences(
    surrogate: Classifier, scored: Classifier, x, y, key: jax.Array, distance: float = 0.0
) -> Check:
    """Gradients must say what the function does along random directions (as SPSA would see it).

    Args:
        surrogate: whose gradients attacks ascend.
        scored: whose values count.
        x, y: images and labels.
        key: of the directions.
        distance: how far every pixel moves, if that is more than 0.01.
    """
    agreement, moved = _agreement(surrogate, scored, x, y, key, max(distance, _DISTANCE))
    if not moved.any():
        return Check("differences", NOT_APPLICABLE, None, None, "the output does not change at all")
    value = float(agreement[moved].mean())
    says = "gradients do not say how the output changes along random directions"
    good = "gradients say how the output changes along random directions"
    return Check("differences", "fail" if value < _AGREED else "pass", value, _AGREED,
                 says if value < _AGREED else good)  # fmt: skip


def _agreement(
    surrogate: Classifier, scored: Classifier, x, y, key: jax.Array, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """How well a gradient foretells each image ``[n]``, and whether the output moves at all."""
    (arrays, static), (given, deployed) = split(surrogate), split(scored)
    keys, rows = example_keys(key, len(x)), max(1, _ROWS // evaluations(surrogate))
    said, done = [], []
    with float32_products():
        for start in range(0, len(x), rows):
            index = np.minimum(np.arange(start, start + rows), len(x) - 1)
            point = keys[index], x[index], y[index], distance
            said.append(np.asarray(_slopes(static, arrays, *point))[:, : len(x) - start])
            done.append(np.asarray(_rises(deployed, given, *point))[:, : len(x) - start])
    told, seen = np.concatenate(said, axis=1), np.concatenate(done, axis=1)
    size = np.linalg.norm(told, axis=0) * np.linalg.norm(seen, axis=0)
    return (told * seen).sum(0) / np.where(size > 0, size, 1.0), np.linalg.norm(seen, axis=0) > 0


def label_leak(bare: Classifier, scored: Classifier, x, y, eps, ball, key) -> Check:
    """A defence must not learn the label from the perturbation that was made with it.

    Images are attacked as if another class were theirs. What moves an image away from a class
    must not make the defence answer that class (Kurakin et al. 2017, arXiv 1611.01236, section 4).
    """
    classes = int(y.max()) + 1
    if classes < 3:
        return Check("label leak", NOT_APPLICABLE, None, None, "needs three classes")
    draw = np.asarray(jax.random.randint(key, (len(y),), 1, classes))
    wrong = ((y + draw) % classes).astype(np.int32)
    fgsm = attacks.fgsm(ball)
    # The best point read may be the clean image, and betrays nothing then.
    fgsm = fgsm if ball.name == "l1" else attacks.last_iterate(fgsm)
    crafted = craft(fgsm, bare, x, wrong, eps, key)
    shown = np.where(crafted.valid[:, None, None, None], crafted.x_adv, x)
    before, after = (_answers(scored, images, key) == wrong for images in (x, shown))
    share = float(after.mean() - before.mean())
    says = "its answer becomes the label that the attacker was given: it reads the perturbation"
    good = "its answer does not become the label that the attacker was given"
    # Perturbed images are answered more at random, which raises every class a little.
    return limited("label leak", share, 1 / classes + chance(len(x)), says, good)


def amplitude(surrogate: Classifier, bare: Classifier | None, x, y, key) -> Check:
    """How large gradients are, beside those of the undefended classifier; proves nothing."""
    of = lambda f: float(gradient_amplitude(f, x, y, of="cross_entropy", key=key).mean.mean())
    value = of(surrogate)
    if bare is None:
        return Check("gradient amplitude", "note", value, None, "mean of the cross-entropy's")
    before = of(bare)
    ratio = value / before if before else float("nan")
    says = f"{ratio:.2g} times that of the classifier alone; small gradients are no robustness"
    return Check("gradient amplitude", "note", value, before, says)


NOT_APPLICABLE = "not applicable"


def untested(name: str, reason: str) -> Check:
    """A check that could not be made, and why."""
    return Check(name, NOT_APPLICABLE, None, None, reason)


def limited(name: str, value: float, limit: float, bad: str, good: str) -> Check:
    """A check that fails above a limit, and what to say of either."""
    fails = value > limit + 1e-9
    return Check(name, "fail" if fails else "pass", value, limit, bad if fails else good)


def _answers(function: Classifier, x: np.ndarray, key: jax.Array) -> np.ndarray:
    arrays, static = split(function)
    with float32_products():
        logits = _logits(static, arrays, example_keys(key, len(x)), jnp.asarray(x))
    return np.asarray(logits).argmax(-1)


@functools.partial(jax.jit, static_argnums=0)
def _logits(static: Static, arrays, keys, x):
    return apply(join(arrays, static), keys, x)


def _around(keys, x, distance):
    """Pairs of points ``[d, b, ...]`` on either side of each image, within [0, 1]."""

    def signs(index):
        one = lambda key: jax.random.rademacher(key, x.shape[1:], x.dtype)
        return jax.vmap(one)(fold(keys, index))

    step = distance * jax.vmap(signs)(jnp.arange(_DIRECTIONS))
    return jnp.clip(x[None] + step, 0, 1), jnp.clip(x[None] - step, 0, 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _flat(static: Static, ball: Ball, arrays, keys, x, y, eps):
    start = ball.project(x, x + ball.sample(keys, x, eps), eps)
    function = join(arrays, static)
    slope = jax.grad(lambda point: margin(apply(function, keys, point), y).sum())(start)
    # Attacks take a pixel's NaN for 0; of an image that is mostly NaN next to nothing is left.
    lost = jnp.isnan(slope)
    return ~(jnp.where(lost, 0.0, slope).any((1, 2, 3))) | (lost.mean((1, 2, 3)) > 0.5)


@functools.partial(jax.jit, static_argnums=0)
def _slopes(static: Static, arrays, keys, x, y, distance):
    probe = make_probe(margin, join(arrays, static))
    gradient = probe.differentiate(keys, x, Goal(y, y))[1]
    up, down = _around(keys, x, distance)
    return (gradient[None] * (up - down)).sum((2, 3, 4))


@functools.partial(jax.jit, static_argnums=0)
def _rises(static: Static, arrays, keys, x, y, distance):
    probe = make_probe(margin, join(arrays, static))  # the draws are those of its gradient
    read = lambda point: probe.read(keys, point, Goal(y, y)).loss
    up, down = _around(keys, x, distance)
    return jax.lax.map(read, up) - jax.lax.map(read, down)
