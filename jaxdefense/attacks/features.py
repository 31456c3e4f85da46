"""Feature matching: moves an image's internal representation, not its logits."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdefense.attacks.attack import Attack, named
from jaxdefense.attacks.search import Cost, Goal, Probe, Search, Stage, State, begin, keep
from jaxdefense.checks import check_ball
from jaxdefense.classifiers import apply, fold
from jaxdefense.errors import InputError
from jaxdefense.geometry import Ball, linf, within_box
from jaxdefense.losses import margin
from jaxdefense.typing import Images, Keys, Labels, Radii

Guides = Callable[[Keys, Images, Labels], Images]
"""(keys, clean images, true labels) -> the images whose representation is to be imitated."""


def feature_matching(
    features: Callable[..., jax.Array],
    ball: Ball = linf,
    steps: int = 40,
    step_size: float | None = None,
    *,
    guides: Guides | None = None,
    name: str | None = None,
) -> Attack:
    """Moves the internal representation of an image (Sabour et al. 2016, arXiv 1511.05122, eq. 1).

    PGD on ``||features(x') - features(guide)||^2``, downwards; without guides upwards, away from
    the clean image's own features, from a random point of the ball. A detector or purifier that
    judges by the features of one layer is attacked where it looks, whatever the logits' gradients
    are worth; a guide of another class brings its label with it.

    The paper minimises by L-BFGS-B in an l-inf ball and asks for the guide's features, not for its
    label. Here the success that counts is a wrong class, read at every step.

    Args:
        features: images -> an array ``[b, ...]``: a hidden layer of the classifier, an encoder;
            `Randomized` ones are called with keys. Its parameters are constants of the compiled
            program, and an attack built again is compiled again, so build it once and keep it.
        ball: `linf`, `l2` or `l1`.
        steps: evaluations of the features' gradient.
        step_size: of one step, as a fraction of eps; ``max(2.5 / steps, 0.15)`` by default.
        guides: chooses the image to imitate, for example `of_other_classes`; None for none.
        name: in tables.

    Returns:
        An `Attack`; a step costs one gradient, which is the features', and one forward pass.

    Raises:
        InputError: steps below 1 or a step size that is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> feature_matching(lambda x: jnp.tanh(x.mean((1, 2))), steps=10).cost
        Cost(gradients=10, forwards=12)
    """
    check_ball("feature_matching", ball, ("linf", "l2", "l1"))
    if steps < 1:
        raise InputError(f"feature_matching needs at least 1 step, got {steps}")
    step_size = max(2.5 / steps, 0.15) if step_size is None else step_size
    if not step_size > 0:
        raise InputError(f"step_size is {step_size}, but must be positive: it is a fraction of eps")
    search = _search(features, ball, step_size, guides)
    return Attack(name or f"features-{steps}", (Stage(search, steps, margin),), ball)


def of_other_classes(images: Images | np.ndarray, labels: Labels | np.ndarray) -> Guides:
    """Guides drawn for each example, with equal chances, among given images of other classes.

    With `restarts` every repeat draws another one.

    Args:
        images: ``[m, h, w, c]`` of at least two classes, for example of the training set.
        labels: their classes ``[m]``.

    Raises:
        InputError: images of fewer than two classes.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdefense as jd
        >>> guides = of_other_classes(jnp.array([0.0, 1.0]).reshape(2, 1, 1, 1), jnp.array([3, 7]))
        >>> keys = jd.example_keys(jax.random.key(0), 2)
        >>> guides(keys, jnp.zeros((2, 1, 1, 1)), jnp.array([7, 3])).ravel().tolist()
        [0.0, 1.0]
    """
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    if len(set(labels.tolist())) < 2:
        raise InputError("guides need images of at least two classes: every label has to differ")

    def choose(keys: Keys, x: Images, y: Labels) -> Images:
        def one(key: jax.Array, label: jax.Array) -> jax.Array:
            return jax.random.categorical(
                key, jnp.where(jnp.asarray(labels) != label, 0.0, -jnp.inf)
            )

        return jnp.asarray(images)[jax.vmap(one)(keys, y)]

    return choose


def told(function: Callable[..., object] | None) -> str:
    """A function's name for settings, or its address where a name would not tell its parameters."""
    plain = function is None or inspect.isfunction(function)
    return named(function) if plain else f"{type(function).__name__} at 0x{id(function):x}"


# Not cached: features are often modules full of arrays, which cannot be hashed.
def _search(
    features: Callable[..., jax.Array], ball: Ball, step_size: float, guides: Guides | None
) -> Search:
    def observe(keys: Keys, x: Images) -> jax.Array:
        return apply(features, keys, x).reshape(len(x), -1)

    def init(keys: Keys, probe: Probe, x: Images, goal: Goal, eps: Radii) -> State:
        aim = x if guides is None else guides(fold(keys, 0), x, goal.truth)
        eps = within_box(ball, x, eps)
        # Away from its own features an image has no direction: it stands on the minimum.
        start = x if guides is not None else ball.project(x, x + ball.sample(keys, x, eps), eps)
        return begin(start, observe(fold(keys, 1), aim))

    def step(keys: Keys, probe: Probe, state: State, x: Images, goal: Goal, eps: Radii) -> State:
        state, eps = keep(state, state.x, probe.read(keys, state.x, goal)), within_box(ball, x, eps)
        seen, pull = jax.vjp(lambda point: observe(keys, point), state.x)
        difference = jnp.nan_to_num(seen - state.inner)
        # The direction alone counts; scaled, so that features may be small or large.
        largest = jnp.abs(difference).max(-1, keepdims=True)
        away = difference / jnp.where(largest > 0, largest, 1.0)
        gradient = jnp.nan_to_num(pull(away if guides is None else -away)[0], nan=0.0)
        move = ball.steepest(gradient, state.x, step_size * eps)
        return state._replace(x=ball.project(x, state.x + move, eps))

    return Search(
        init,
        step,
        init_cost=Cost(forwards=1),
        step_cost=Cost(gradients=1, forwards=1),
        settings=f"{told(features)} {ball} {step_size=} guides={told(guides)}",
    )
