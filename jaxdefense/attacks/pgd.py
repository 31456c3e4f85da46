"""Projected gradient descent and its presets: FGSM, BIM, MI-FGSM, Adam-PGD."""

import functools

import jax
import jax.numpy as jnp
import optax

from jaxdefense.attacks.attack import Attack
from jaxdefense.attacks.search import Goal, Probe, Search, Stage, State, begin, keep
from jaxdefense.checks import check_ball
from jaxdefense.classifiers import fold
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, expand, linf, within_box
from jaxdefense.losses import cross_entropy
from jaxdefense.typing import Images, Keys, Loss, Radii

_PLAIN = optax.identity()
# Folded in for the start's length, apart from what its direction is drawn with.
_LENGTH = 2**22


def pgd(
    ball: Ball = linf,
    steps: int = 40,
    step_size: float | None = None,
    *,
    loss: Loss = cross_entropy,
    rule: optax.GradientTransformation | None = None,
    random_start: bool = True,
    steepest: bool = True,
    name: str | None = None,
) -> Attack:
    """Projected gradient descent (Madry et al. 2018, arXiv 1706.06083).

    ``x <- project(x + step_size * eps * steepest(rule(gradient)))``, from a point drawn uniformly
    in the ball (l2, l1: at a distance uniform up to eps), keeping the best iterate: one that fools,
    else the one with the largest margin.

    Args:
        ball: `linf`, `l2` or `l1`.
        steps: gradient evaluations.
        step_size: of one step, as a fraction of eps; ``max(2.5 / steps, 0.15)`` by default, since
            smaller steps measured weaker on adversarially trained networks.
        loss: ascended; with `losses.targeted` the label slot holds the targets.
        rule: any optax rule applied to each example's gradient on its own, for example
            ``optax.trace(1.0)`` (momentum) or ``optax.scale_by_adam()``. Not a whole optimiser
            such as ``optax.adam(lr)``, which descends.
        random_start: draw the start in the ball; else start at the image.
        steepest: turn the rule's output into the ball's steepest direction of norm 1; False takes
            it as it is (Adam in l-inf).
        name: in tables; ``"pgd-<steps>"`` by default.

    In l1 any PGD stays well behind Auto-PGD with its growing radii: on an adversarially trained
    network of the tests it leaves 36 % where Auto-PGD leaves 14 %. Do not rest an l1 claim on it.

    Returns:
        An `Attack`; it costs `steps` gradients and one forward pass per example.

    Raises:
        InputError: another ball, steps below 1, a step size that is not positive, or a rule that
            descends.

    Example:
        >>> pgd(linf, 40).cost
        Cost(gradients=40, forwards=1)
    """
    check_ball(name or "pgd", ball, ("linf", "l2", "l1"))
    if steps < 1:
        raise InputError(f"pgd needs at least 1 step, got {steps}")
    step_size = max(2.5 / steps, 0.15) if step_size is None else step_size
    if not step_size > 0:
        raise InputError(
            f"step_size is {step_size}, but must be positive: it is a fraction of eps "
            "(0.25 moves a quarter of the radius)"
        )
    rule = _PLAIN if rule is None else rule
    _check_ascends(rule)

    search = _search(ball, step_size, rule, random_start, steepest)
    return Attack(name or f"pgd-{steps}", (Stage(search, steps, loss),), ball)


@functools.cache  # equal settings are the same search, so that jit compiles it once
def _search(
    ball: Ball,
    step_size: float,
    rule: optax.GradientTransformation,
    random_start: bool,
    steepest: bool,
) -> Search:
    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        start, eps = x, within_box(ball, x, eps)
        if random_start:
            reach = eps
            if ball.name != "linf":
                # Nearly all of a high-dimensional ball is its surface, from where fewer steps are
                # left to find the way: lengths are uniform instead, which measured stronger.
                share = jax.vmap(lambda key: jax.random.uniform(key, (), x.dtype))
                reach = eps * share(fold(keys, _LENGTH))
            start = ball.project(x, x + ball.sample(keys, x, reach), eps)
        # By example, so that a rule's counters and norms are each example's own.
        return begin(start, jax.vmap(rule.init)(x))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        eps = within_box(ball, x, eps)
        reading, gradient = probe.differentiate(keys, state.x, goal)
        state = keep(state, state.x, reading)
        update, inner = jax.vmap(rule.update)(gradient, state.inner)
        length = step_size * eps
        move = ball.steepest(update, state.x, length) if steepest else expand(length) * update
        moved = ball.project(x, state.x + move, eps)
        return state._replace(x=moved, inner=inner)

    settings = f"{ball} {step_size=} {_name(rule)} {random_start=} {steepest=}"
    return Search(init, step, settings=settings)


def _name(rule: optax.GradientTransformation) -> str:
    # An unknown rule gets the address of its function: results of one process only.
    return "plain" if rule is _PLAIN else f"{_NAMES.get(rule, rule.update)}"


_NAMES: dict[optax.GradientTransformation, str] = {}


def _check_ascends(rule: optax.GradientTransformation) -> None:
    one = jnp.ones(())
    if float(rule.update(one, rule.init(one))[0]) < 0:
        raise InputError(
            "the optax rule turns the gradient round: it is an optimiser that descends (such as "
            "adam(lr) or sgd(lr)), but attacks ascend. Pass the bare rule, for example "
            "optax.scale_by_adam() or optax.trace(0.9)"
        )


def fgsm(ball: Ball = linf, *, loss: Loss = cross_entropy) -> Attack:
    """Fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572), in any norm.

    One step of length eps from the image. Costs one gradient and one forward pass; in l1 twice
    that, because two steps are tried: the steepest, which fills the pixels of largest gradient, and
    the gradient itself at that length, which is better where eps is worth few pixels only.

    Example:
        >>> fgsm().cost
        Cost(gradients=1, forwards=1)
    """
    steepest = pgd(ball, 1, 1.0, loss=loss, random_start=False, name="fgsm")
    if ball.name != "l1":
        return steepest
    spread = pgd(ball, 1, 1.0, loss=loss, rule=_spread(), random_start=False, steepest=False)
    return Attack("fgsm", (*steepest.stages, *spread.stages), ball)


@functools.cache
def _spread() -> optax.GradientTransformation:
    rule = optax.stateless(_over_l1)
    _NAMES[rule] = "spread"
    return rule


def bim(
    ball: Ball = linf,
    steps: int = 10,
    step_size: float = 0.2,
    *,
    loss: Loss = cross_entropy,
) -> Attack:
    """Basic iterative method (Kurakin et al. 2017, arXiv 1607.02533): PGD from the image itself.

    Args:
        ball, steps, loss: as in `pgd`.
        step_size: as a fraction of eps.

    Example:
        >>> bim(steps=10).cost
        Cost(gradients=10, forwards=1)
    """
    return pgd(ball, steps, step_size, loss=loss, random_start=False, name=f"bim-{steps}")


def mifgsm(
    ball: Ball = linf,
    steps: int = 10,
    step_size: float | None = None,
    *,
    decay: float = 1.0,
    loss: Loss = cross_entropy,
) -> Attack:
    """Momentum iterative FGSM (Dong et al. 2018, arXiv 1710.06081, algorithm 1).

    Accumulates gradients divided by their l1 norm: ``g <- decay * g + gradient / ||gradient||_1``.

    Args:
        ball, steps, loss: as in `pgd`.
        step_size: as a fraction of eps; ``1 / steps`` by default, as in the paper.
        decay: of the accumulated gradient (mu).

    Example:
        >>> mifgsm(steps=10).cost
        Cost(gradients=10, forwards=1)
    """
    step_size = 1.0 / max(steps, 1) if step_size is None else step_size
    rule = _momentum(decay)
    return pgd(
        ball, steps, step_size, loss=loss, rule=rule, random_start=False, name=f"mifgsm-{steps}"
    )


@functools.cache
def _momentum(decay: float) -> optax.GradientTransformation:
    rule = optax.chain(optax.stateless(_over_l1), optax.trace(decay))
    _NAMES[rule] = f"momentum {decay}"
    return rule


def _over_l1(gradient, params=None):
    del params
    largest = jnp.abs(gradient).max()  # first, so that a tiny gradient does not underflow
    scaled = gradient / jnp.where(largest > 0, largest, 1.0)
    norm = jnp.abs(scaled).sum()
    return scaled / jnp.where(norm > 0, norm, 1.0)


def adam_pgd(
    ball: Ball = linf,
    steps: int = 40,
    step_size: float | None = None,
    *,
    loss: Loss = cross_entropy,
    random_start: bool = True,
) -> Attack:
    """PGD with Adam as the inner rule, as in Uesato et al. 2018 (arXiv 1802.05666).

    Adam's step is about 1 for every pixel, which is l-inf's geometry; it is used as it is.

    Args:
        ball: `linf` only.
        steps, step_size, loss, random_start: as in `pgd`.

    Raises:
        InputError: another ball, where equalising the pixels makes a weak attack.

    Example:
        >>> adam_pgd(steps=5).cost
        Cost(gradients=5, forwards=1)
    """
    advice = "Adam gives every pixel the same weight, which wastes an l2 or l1 budget. Use "
    check_ball("adam_pgd", ball, ("linf",), f"{advice}pgd(ball, rule=optax.trace(0.9))")
    # optax's 1e-8 would drown small gradients, so they are scaled and the floor is lowered.
    return pgd(
        ball,
        steps,
        step_size,
        loss=loss,
        rule=_adam(),
        random_start=random_start,
        steepest=False,
        name=f"adam-pgd-{steps}",
    )


@functools.cache
def _adam() -> optax.GradientTransformation:
    rule = optax.chain(optax.stateless(_over_l1), optax.scale_by_adam(eps=1e-20))
    _NAMES[rule] = "adam"
    return rule
