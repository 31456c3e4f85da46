"""Checks that tell a robust defence from one whose gradients lead nowhere.

After Athalye et al. 2018 (arXiv 1802.00420, section 3.1), Carlini et al. 2019 (arXiv 1902.06705).
A check fails where chance does not explain what was seen: three images and two per cent of them, or
twice the deviation of a sign test where two attacks are compared image by image.
"""

import functools
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxdefense import attacks
from jaxdefense.attacks.probe import Goal, make_probe
from jaxdefense.auditing.claims import CERTIFICATE
from jaxdefense.auditing.plan import AGAIN, GREY, MORE, Cell
from jaxdefense.classifiers import Static, apply, fold, join, split
from jaxdefense.evaluation import Certificate, Robustness, craft, gradient_amplitude, sweep
from jaxdefense.evaluation.reliability import Check
from jaxdefense.geometry import Ball
from jaxdefense.losses import margin
from jaxdefense.precision import float32_products
from jaxdefense.typing import Classifier, example_keys

DECISIVE = (
    "randomness", "gradients", "differences", "iterative", "white-box", "more steps",
    "more restarts", "more draws", "no gradients needed", "unbounded", GREY, CERTIFICATE,
)  # fmt: skip
"""Checks without which the worst case over all attackers may be far too high."""

_DIRECTIONS, _DISTANCE = 16, 0.01


def doubts(found: Iterable[Check]) -> list[str]:
    """Names of failed checks without which the worst case may be far too high."""
    return [c.name for c in found if c.outcome == "fail" and c.name in DECISIVE]


def chance(n: int) -> float:
    """The share of n images that may go either way by chance."""
    return min(max(3 / n, 0.02), 0.5)


def iterative(one: Robustness, many: Robustness, at: int) -> Check:
    """Many steps must break no less than one, at a radius of the grid."""
    return _sign_test(
        "iterative", *_paired(one, many, at), one.n,
        "one step breaks more than many do: steps lose their way", "many steps break what one does",
    )  # fmt: skip


def informed(blind: Robustness, knowing: Robustness, at: int) -> Check:
    """Who knows the defence must break no less than who knows the classifier only."""
    return _sign_test(
        "white-box", *_paired(blind, knowing, at), blind.n,
        "who does not know the defence breaks more: its gradients lead astray",
        "who knows the defence breaks what others do",
    )  # fmt: skip


def further(
    cells: list[tuple[Cell, np.ndarray, np.ndarray]], suite: Robustness | None, at: int, n: int
) -> list[Check]:
    """More steps, and attackers without the defence's gradients, must find next to nothing more.

    Args:
        cells: in their order, each with the share of images ``[e]`` that it was first to break and
            the number ``[e]`` of those it tried.
        suite: AutoAttack's curve, of which Square is a part.
        at: index of the radius.
        n: number of images.
    """
    limit, found = chance(n), []
    for name in (MORE, AGAIN):
        for share in (float(new[at]) for cell, new, _ in cells if cell.name == name):
            says = f"{name} still find more: the attacks are not at their end"
            good = f"{name} find next to nothing more"
            found.append(_limited(name, share, limit, says, good))
    others = [
        (c.name, n * float(new[at]), int(tried[at]) if c.most else n)
        for c, new, tried in cells if c.kind in ("transfer", "query")
    ]  # fmt: skip
    if suite is not None:
        others.append(("AutoAttack's Square", (suite.broken_by[:, at] == "square").sum(), n))
    # Those that try all images together; one that tries a few by itself, of these.
    together = [one for one in others if one[2] == n]
    tests = [(name, broken / size, chance(size)) for name, broken, size in others if 0 < size < n]
    if together:
        most = max(together, key=lambda one: one[1])[0]
        tests.append((most, sum(broken for _, broken, _ in together) / n, limit))
    if tests:
        name, share, limit = max(tests, key=lambda test: test[1] / test[2])
        says = f"{name} breaks what withstood every gradient of the defence: gradients are masked"
        good = "attackers without the defence's gradients find next to nothing more"
        found.append(_limited("no gradients needed", float(share), limit, says, good))
    return found


def draws(ladder: Mapping[int, Robustness], at: int) -> Check:
    """Against a random defence, means over more draws must find next to nothing more.

    Args:
        ladder: number of draws -> what the same attack finds with means over so many, ascending.
        at: index of the radius.
    """
    *_, few, many = ladder.values()
    fewer, more = _paired(few, many, at)
    told = ", ".join(f"{n}: {100 * curve.robust_accuracy[at]:.1f} %" for n, curve in ladder.items())
    return _sign_test(
        "more draws", more, fewer, many.n, f"more draws still find more ({told})",
        f"more draws find next to nothing more ({told})",
    )  # fmt: skip


def unbounded(surrogates: list[Classifier], scored: Classifier, x, y, steps, ball, key) -> Check:
    """Without a radius an attack must reach zero on whatever has gradients of use."""
    attack = attacks.unbounded(attacks.pgd(ball, steps, loss=margin))
    left = np.ones(len(x), bool)
    for surrogate in surrogates:
        curve = sweep(attack, scored, x, y, [1.0], key, surrogate)
        left &= ~(curve.smallest_radius <= 1.0)
    says = "an attack without a radius does not reach zero: gradients do not lead to where it fails"
    good = "an attack without a radius reaches zero"
    return _limited("unbounded", float(left.mean()), chance(len(x)), says, good)


def grey_image(worst: Robustness, y: np.ndarray) -> Check:
    """From eps 0.5 in l-inf on, one grey image lies in every ball."""
    at = (worst.radii >= 0.5) & (worst.norm == "linf")
    bound = float(np.bincount(y).max() / len(y))
    if not at.any():
        return Check(GREY, NOT_APPLICABLE, None, bound, "no l-inf radius of 0.5 or more")
    most = float(worst.robust_accuracy[at].max())
    says = "more is left than the share of the largest class, although all images can be made equal"
    return _limited(GREY, most, bound, says, "no more is left than the largest class")


def contradiction(certificate: Certificate, worst: Robustness, draws: int) -> Check:
    """Within a certified radius next to nothing may be broken, or attack or certificate are wrong.

    What is certified at R has at r the probability ``Phi((R - r) / sigma)`` of each draw or more: a
    vote goes wrong by chance where that is less than three deviations of the vote above one half.

    Args:
        certificate: of the same images.
        worst: what was broken.
        draws: behind each vote that was attacked.
    """
    slack = scipy.stats.norm.ppf(min(0.5 + 1.5 / draws**0.5, 0.999)) * certificate.sigma
    broken = float((worst.smallest_radius < certificate.radius - slack).mean())
    says = "images were broken within their certified radii: attack or certificate are wrong"
    return _limited(
        CERTIFICATE, broken, chance(certificate.n), says, "nothing was broken within its radius"
    )


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
    except (ValueError, TypeError, NotImplementedError) as error:  # callbacks, while loops
        return 1.0, (str(error).strip() or type(error).__name__).splitlines()[0]
    return float(flat.mean()), ""


def gradients(route: Classifier, x, y, eps: float, ball: Ball, key: jax.Array) -> Check:
    """Of the images that are left, next to none may be without a gradient."""
    share, _ = flatness(route, x, y, eps, ball, key)
    says = "images that nothing broke have no gradient: nothing was tried on them"
    return _limited("gradients", share, 0.05, says, "the images that nothing broke have gradients")


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
    distance = max(distance, _DISTANCE)
    (arrays, static), (given, deployed) = split(surrogate), split(scored)
    keys = example_keys(key, len(x))
    with float32_products():
        said = np.asarray(_slopes(static, arrays, keys, x, y, distance))
        done = np.asarray(_rises(deployed, given, keys, x, y, distance))
    size = np.linalg.norm(said, axis=0) * np.linalg.norm(done, axis=0)
    agreement = (said * done).sum(0) / np.where(size > 0, size, 1.0)
    moved = np.linalg.norm(done, axis=0) > 0
    if not moved.any():
        return Check("differences", NOT_APPLICABLE, None, None, "the output does not change at all")
    value = float(agreement[moved].mean())
    says = "gradients do not say how the output changes along random directions"
    good = "gradients say how the output changes along random directions"
    return Check("differences", "fail" if value < 0.3 else "pass", value, 0.3,
                 says if value < 0.3 else good)  # fmt: skip


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
    return _limited("label leak", share, 1 / classes + chance(len(x)), says, good)


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


def _paired(one: Robustness, other: Robustness, index: int) -> tuple[int, int]:
    """How many images only the one broke, and only the other, at a radius."""
    first, second = (r.smallest_radius <= r.radii[index] for r in (one, other))
    return int((first & ~second).sum()), int((second & ~first).sum())


def _sign_test(name: str, against: int, infavour: int, n: int, bad: str, good: str) -> Check:
    """Fails where more images speak against than chance has it."""
    excess = against - infavour
    limit = max(2 * (against + infavour) ** 0.5 + 1, chance(n) * n)
    return _limited(name, excess / n, limit / n, bad, good)


def _limited(name: str, value: float, limit: float, bad: str, good: str) -> Check:
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
    function = join(arrays, static)
    read = lambda point: margin(apply(function, keys, point), y)
    up, down = _around(keys, x, distance)
    return jax.lax.map(read, up) - jax.lax.map(read, down)
